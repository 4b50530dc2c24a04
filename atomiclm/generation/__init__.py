"""Turning a model's scores into text: filters, the sampler and the decoding loop."""

from atomiclm.generation.generate import generate
from atomiclm.generation.sampler import Sampler, keep_min_p, keep_top_k, keep_top_p

__all__ = ["Sampler", "generate", "keep_min_p", "keep_top_k", "keep_top_p"]
