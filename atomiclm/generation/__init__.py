"""Turning a model's scores into text: filters, the sampler and the decoding loop. Names are loaded on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomiclm.generation.filters import keep_min_p, keep_top_k, keep_top_p
    from atomiclm.generation.generate import generate
    from atomiclm.generation.sampler import Sampler

_SUBMODULE = {
    "Sampler": "sampler",
    "generate": "generate",
    "keep_min_p": "filters",
    "keep_top_k": "filters",
    "keep_top_p": "filters",
}

__all__ = ["Sampler", "generate", "keep_min_p", "keep_top_k", "keep_top_p"]


def __getattr__(name: str) -> Any:
    """Import a public name from its submodule the first time it is asked for (PEP 562)."""
    if name not in _SUBMODULE:
        raise AttributeError(f"module 'atomiclm.generation' has no attribute {name!r}")
    value = getattr(import_module(f"atomiclm.generation.{_SUBMODULE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
