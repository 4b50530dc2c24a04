"""The decoder of a configuration with shapes and no numbers, on torch's meta device: for checking and for counting."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from atomiclm.cli import UserError
from atomiclm.config.build import build
from atomiclm.config.errors import Fault
from atomiclm.model import Decoder


class _NoFills(TorchFunctionMode):
    """Leaves out random fills: of a meta tensor they change nothing, and load sympy, which takes a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "trunc_normal_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def on_shapes[T](make: Callable[[], T]) -> T:
    """Return what `make` makes, on torch's meta device: of modules their shapes."""
    with torch.device("meta"), _NoFills():
        return make()


def decoder_of_shapes(model: Mapping[str, Any]) -> Decoder:
    """Return the decoder of a `model` node, on the meta device; the same one whatever its seed, so do not change it.

    Raises:
        UserError: what a constructor refused (a `PartError` says which), or a size out of bounds.
    """
    return _decoder(json.dumps(_seedless(model)))


def _seedless(node: Any) -> Any:
    """Of a study's cells each arm is made once: a seed that is a seed changes no shape."""
    if not isinstance(node, dict):
        return node
    return {
        key: 0 if key == "seed" and type(value) is int and value >= 0 else _seedless(value)
        for key, value in node.items()
    }


@lru_cache(maxsize=64)
def _decoder(model: str) -> Decoder:
    node = json.loads(model)
    for fault in size_faults(node):
        raise UserError(str(fault))
    made: Decoder = on_shapes(lambda: build(node))
    return made


# ---------------------------------------------------------------------------------------------------------------------
# How large a model may be. The numbers are no opinion: they lie above everything that was published, and keep a slip of
# the finger, or a stranger's configuration, from taking minutes or all memory before it is refused.

_SIZE = 2**24, "a square matrix of that width has 3 x 10**14 numbers"
_TOKENS = 2**30, "the longest published contexts have 10**7 tokens"
_LIMITS: Mapping[str, tuple[int, str] | None] = {
    "num_layers": (1024, "the deepest published transformers have 1,000 layers (Wang et al. 2022, arXiv 2203.00555)"),
    "depth": (64, "each token ahead is a block of its own"),
    "context_length": _TOKENS,
    "original_length": _TOKENS,
    "window": _TOKENS,
    "seed": None,
}


def size_faults(model: Mapping[str, Any]) -> list[Fault]:
    """The whole numbers in a `model` node that are too large, each with its path."""
    return list(_too_large(model, "model", ""))


def _too_large(node: Any, path: str, key: str) -> Iterator[Fault]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _too_large(value, f"{path}.{name}", str(name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _too_large(value, f"{path}[{index}]", key)
    elif isinstance(node, int) and (limit := _LIMITS.get(key, _SIZE)) and not -limit[0] <= node <= limit[0]:
        number = f"{float(node):.6g}" if abs(node) < 1e300 else "a number of more than 300 digits"
        yield Fault(path, f"{number} is more than {limit[0]:,}: {limit[1]}; give less")
