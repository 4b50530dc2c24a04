"""How large a model, and what a source computes with, may be: refused before anything is counted, made or allocated.

The numbers are no opinion on models. They lie above everything that was published, and keep a slip of the finger, or a
configuration from a stranger, from taking minutes or all memory before it is told.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from atomiclm.config.errors import Fault

type _Limit = tuple[int, str]

_SIZE: _Limit = 2**24, "a square matrix of that width has 3 x 10**14 numbers"
_TOKENS: _Limit = 2**30, "the longest published contexts have 10**7 tokens"
_OF_MODELS: Mapping[str, _Limit | None] = {
    "num_layers": (1024, "the deepest published transformers have 1,000 layers (Wang et al. 2022, arXiv 2203.00555)"),
    "depth": (64, "each token ahead is a block of its own"),
    "context_length": _TOKENS,
    "original_length": _TOKENS,
    "window": _TOKENS,
    "seed": None,
}
_OF_SOURCES: Mapping[str, _Limit | None] = {
    "order": (64, "the number of contexts is a power of it"),
}


def model_size_faults(model: Any) -> Iterator[Fault]:
    """Yield the whole numbers in a `model` node that are too large, each with its path."""
    yield from _too_large(model, "model", "", _OF_MODELS, _SIZE)


def source_size_faults(data: Any) -> Iterator[Fault]:
    """The same in a `data` node: of what decides how much is computed, not of how much text there is."""
    yield from _too_large(data, "data", "", _OF_SOURCES, None)


def _too_large(
    node: Any, path: str, key: str, limits: Mapping[str, _Limit | None], otherwise: _Limit | None
) -> Iterator[Fault]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _too_large(value, f"{path}.{name}", str(name), limits, otherwise)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _too_large(value, f"{path}[{index}]", key, limits, otherwise)
    elif isinstance(node, int | float) and not isinstance(node, bool):
        # A float is a factor or a base, unless the key says that it is a size: 1e6 is a million to `validate`.
        limit = limits.get(key, otherwise if isinstance(node, int) else None)
        if limit is not None and not -limit[0] <= node <= limit[0]:
            number = f"{float(node):.6g}" if abs(node) < 1e300 else "a number of more than 300 digits"
            yield Fault(path, f"{number} is more than {limit[0]:,}: {limit[1]}; give less")
