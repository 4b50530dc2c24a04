"""Turning a model's scores into text: filters, the sampler, the decoding loop, and texts from prompts."""

from atomiclm.generation.alternatives import Choice, Likelihood, table_of
from atomiclm.generation.generate import generate
from atomiclm.generation.interactive import converse
from atomiclm.generation.sampler import Sampler, keep_min_p, keep_top_k, keep_top_p
from atomiclm.generation.writer import Settings, Text, Writer

__all__ = [
    "Choice", "Likelihood", "Sampler", "Settings", "Text", "Writer", "converse", "generate", "keep_min_p", "keep_top_k",
    "keep_top_p", "table_of",
]  # fmt: skip
