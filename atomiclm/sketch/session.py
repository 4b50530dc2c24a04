"""Put the stand-in where `import torch` finds it, and take it away again without a trace."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from atomiclm.sketch.standin import Finder, StandIn
from atomiclm.sketch.tensors import SketchError

__all__ = ["SketchError", "sketching"]

_TORCH_PACKAGES = tuple(f"atomiclm.{name}" for name in ("model", "optim", "training", "evaluation", "generation"))
"""Packages of ours that may hold torch, and are therefore imported anew, from the stand-in."""

_sketched: dict[str, ModuleType] = {}
"""Modules imported from the stand-in, kept for the next sketch."""


@contextmanager
def sketching() -> Iterator[None]:
    """While open, `import torch` gives the stand-in, and so do fresh imports of what is built on it.

    Afterwards every module is again what it was before. Not for use from several threads at once.

    Raises:
        RuntimeError: torch is here already; build on `torch.device("meta")` instead.
    """
    if "torch" in sys.modules:
        raise RuntimeError("torch is imported already; there is nothing to stand in for")
    stashed = {name: module for name, module in sys.modules.items() if _belongs(name)}
    for name in stashed:
        _forget(name)
    before = set(sys.modules)
    finder = Finder()
    sys.meta_path.insert(0, finder)
    for name, module in _sketched.items():
        _remember(name, module)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _sketched.clear()
        for name in [name for name in sys.modules if name not in before]:
            module = sys.modules[name]
            if name in stashed or _belongs(name) or _holds_stand_in(module):
                _sketched[name] = module
                _forget(name)
        for name, module in stashed.items():
            _remember(name, module)


def _belongs(name: str) -> bool:
    return name.startswith(_TORCH_PACKAGES)


def _holds_stand_in(module: ModuleType) -> bool:
    """Whether a module is the stand-in, or took something from it, or from what was built on it: a class, a function,
    a module. A user's objective may import a class of atomiclm.model and nothing of torch."""
    if isinstance(module, StandIn):
        return True
    for value in list(vars(module).values()):
        home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        bases = getattr(value, "__mro__", ()) if isinstance(value, type) else ()
        homes = [home, *(base.__module__ for base in bases)]
        if any(
            isinstance(name, str)
            and (name.split(".")[0] == "torch" or name.startswith("atomiclm.sketch.") or _belongs(name))
            for name in homes
        ):
            return True
    return False


def _forget(name: str) -> None:
    module = sys.modules.pop(name)
    parent, _, last = name.rpartition(".")
    if parent in sys.modules and vars(sys.modules[parent]).get(last) is module:
        delattr(sys.modules[parent], last)


def _remember(name: str, module: ModuleType) -> None:
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], last, module)
