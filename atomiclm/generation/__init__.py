"""Turning a model's scores into text: filters, the sampler and the decoding loop. Names are loaded on first use."""

from typing import TYPE_CHECKING

from atomiclm.lazy import on_first_use

if TYPE_CHECKING:
    from atomiclm.generation.filters import keep_min_p, keep_top_k, keep_top_p
    from atomiclm.generation.generate import generate
    from atomiclm.generation.sampler import Sampler

_MODULE_OF = {
    "Sampler": "sampler",
    "generate": "generate",
    "keep_min_p": "filters",
    "keep_top_k": "filters",
    "keep_top_p": "filters",
}

__all__ = ["Sampler", "generate", "keep_min_p", "keep_top_k", "keep_top_p"]

__getattr__, __dir__ = on_first_use(__name__, _MODULE_OF)
