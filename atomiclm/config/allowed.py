"""Which classes a configuration may name in a `_target_`: the one place that decides, and the one that imports them.

A configuration may come from a stranger, and a `_target_` is a call. Hydra refuses a list of known dangers, and what is
not on the list passes: `torch.load`, `builtins.open`. Here it is the other way round: what may be named is listed, and
all else is refused before anything of it is imported:

- a class that a package of atomiclm's components exports. Making one computes, and may read the text or the tokenizer
  that it was given the path of; it runs no code of anybody else's, and writes nothing;
- a module of `torch.nn`, an optimizer of `torch.optim`: those that are defined there;
- whatever lies in a package that the user names in the environment variable `ATOMICLM_TRUST`, a list with commas. No
  configuration can add to it.

Being a name in a module is not enough: `atomiclm.training.checkpoint.shutil.rmtree` is one too.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from atomiclm.cli import UserError

TRUST = "ATOMICLM_TRUST"

_PACKAGES = ("data", "evaluation", "interop", "model", "optim", "sweep", "tokenizer", "training")
"""Packages of atomiclm whose exported classes are all harmless to make."""
_ALONE = {"config.match": "Match", "tracking": "WeightsAndBiases"}
"""One class of each of these; `tracking`, for one, also exports a class that opens the file it is given."""


class Untrusted(UserError):
    """A `_target_` that a configuration may not name."""


class UnknownTarget(UserError):
    """A `_target_` that names nothing: `known` holds the public names beside it, for a suggestion."""

    def __init__(self, message: str, known: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.known = [name for name in known if not name.startswith("_")]


def is_trusted(target: str) -> bool:
    """Whether `target` lies in a package that the environment names as trusted."""
    named = [name.strip() for name in os.environ.get(TRUST, "").split(",")]
    return _is_name(target) and any(target.startswith(f"{name}.") for name in named if name)


def component(target: str) -> Callable[..., Any]:
    """Import what `target` names, if a configuration may name it.

    Raises:
        Untrusted: it may not; with the rule, and what to do if the code is the user's own.
        UnknownTarget: there is nothing of that name, or it cannot be imported.
    """
    module_name, _, name = target.rpartition(".")
    trusted = is_trusted(target)
    if not trusted and not (_is_name(target) and _is_ours(module_name)):
        raise Untrusted(_refusal(target))
    try:
        module = import_module(module_name)
    except Exception as error:  # whatever the top level of a user's own module raises
        raise UnknownTarget(f"'{module_name}' cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise UnknownTarget(f"module {module_name} has no '{name}'", getattr(module, "__all__", dir(module)))
    found = getattr(module, name)
    if not trusted and not _is_component(found):
        raise Untrusted(_refusal(target))
    if not callable(found):
        raise UnknownTarget(f"'{target}' is not a class: it is {found!r}")
    return found


def _refusal(target: str) -> str:
    top = target.partition(".")[0]
    if top in ("atomiclm", "torch"):
        rule = "a configuration may name classes that atomiclm's packages of components export, modules of torch.nn "
        return f"'{target}' is no component: {rule}and optimizers of torch.optim, each where it is defined"
    rule = f"'{target}' is neither atomiclm's nor torch's, and naming it would run it"
    if not _is_name(target) or top in sys.stdlib_module_names:
        return f"{rule}; name a component"
    return f"{rule}; if you trust the code of {top}, say so in the environment: {TRUST}={top}"


def _is_name(target: str) -> bool:
    """A dotted name with no private part: `_` begins what its module does not offer to anybody else."""
    return re.fullmatch(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", target, re.ASCII) is not None


def _is_ours(module: str) -> bool:
    packages = [*(f"atomiclm.{package}" for package in (*_PACKAGES, *_ALONE)), "torch.nn", "torch.optim"]
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def _is_component(found: Any) -> bool:
    if not isinstance(found, type) or found.__name__.startswith("_"):
        return False
    if found.__module__.startswith("torch."):
        from torch import nn, optim

        return issubclass(found, nn.Module | optim.Optimizer)
    for package in (*_PACKAGES, *_ALONE):
        if f"{found.__module__}.".startswith(f"atomiclm.{package}."):
            exported = getattr(import_module(f"atomiclm.{package}"), found.__name__, None)
            return exported is found and _ALONE.get(package, found.__name__) == found.__name__  # type: ignore[union-attr]
    return False
