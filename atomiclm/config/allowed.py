"""Which classes a configuration may name in a `_target_`: the one place that decides, and the one that imports them.

A configuration may come from a stranger, and a `_target_` is a call. Hydra refuses a list of known dangers, and what is
not on the list passes: `torch.load`, `builtins.open`. Here it is the other way round; what may be named is said, and
all else is refused before anything of it is imported:

- a class that a package of atomiclm's components exports. Making one computes, and may read the text or the tokenizer
  that it was given the path of; it runs no code of anybody else's, and writes nothing;
- a module of `torch.nn`, an optimizer of `torch.optim`: those that are defined there;
- whatever lies in a package that the user names in the environment variable `ATOMICLM_TRUST`, a list with commas. No
  configuration can add to it.

Being a name in a module is not enough: `atomiclm.training.checkpoint.writing.shutil.rmtree` is one too.
"""

import ast
import importlib
import os
import re
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from hydra.errors import InstantiationException

from atomiclm.config.definitions import Definition, Module, find_definition, find_module
from atomiclm.user_error import UserError

TRUST = "ATOMICLM_TRUST"

_PACKAGES = ("data", "evaluation", "interop", "model", "optim", "sweep", "tokenizer", "training")
"""Packages of atomiclm whose exported classes are all harmless to make."""
_ALONE = {"config": ("Match",), "tracking": ("WeightsAndBiases",)}
"""Exported classes of other packages; beside this one `tracking` exports a class that opens the file it is given."""
_OF_TORCH = {
    "torch.nn.modules": ("torch.nn.modules.module", "Module"),
    "torch.optim": ("torch.optim.optimizer", "Optimizer"),
}
"""Where torch's own components are defined, and what each of them is."""


class Untrusted(UserError):
    """A `_target_` that a configuration may not name."""


def check_target(target: str) -> None:
    """Raise unless a configuration may name `target`. Imports nothing.

    Raises:
        Untrusted: with the rule, and what to do if the code is the user's own.
    """
    if is_trusted(target):
        return
    if _is_name(target) and target.partition(".")[0] in ("atomiclm", "torch") and _is_component(target):
        return
    top = target.partition(".")[0]
    if top in ("atomiclm", "torch"):
        rule = "a configuration may name classes that atomiclm's packages of components export, modules of torch.nn "
        raise Untrusted(f"'{target}' is no component: {rule}and optimizers of torch.optim, each where it is defined")
    rule = f"'{target}' is neither atomiclm's nor torch's, and naming it would run it"
    if not _is_name(target) or top in sys.stdlib_module_names:
        raise Untrusted(f"{rule}; name a component")
    raise Untrusted(f"{rule}; if you trust the code of {top}, say so in the environment: {TRUST}={top}")


def is_trusted(target: str) -> bool:
    """Whether `target` lies in a package that the environment names as trusted."""
    named = [name.strip() for name in os.environ.get(TRUST, "").split(",")]
    return _is_name(target) and any(target.startswith(f"{name}.") for name in named if name)


def component(target: str) -> Callable[..., Any]:
    """Import what `target` names, if a configuration may name it.

    Raises:
        Untrusted: it may not.
        InstantiationException: it cannot be imported.
    """
    check_target(target)
    module_name, _, name = target.rpartition(".")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # whatever the top level of a user's own module raises
        reason = f"{type(error).__name__}: {error}"
        raise InstantiationException(f"'{target}' cannot be imported: {reason}") from error
    if not callable(found):
        raise InstantiationException(f"'{target}' is not a class: it is {found!r}")
    return found


def _is_name(target: str) -> bool:
    """A dotted name with no private part: `_` begins what its module does not offer to anybody else."""
    return re.fullmatch(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", target, re.ASCII) is not None


@lru_cache(maxsize=512)
def _is_component(target: str) -> bool:
    """Whether the source says so: shipped code, which does not change while the process runs."""
    module_name, _, name = target.rpartition(".")
    module = find_module(module_name)
    found = find_definition(module, name) if module else None
    if found is None or not isinstance(found[1], ast.ClassDef) or found[1].name.startswith("_"):
        return False
    home, definition = found[0], found[1]
    if target.startswith("torch."):
        return any(
            home.name.startswith(f"{package}.") and _descends(home, definition, root)
            for package, root in _OF_TORCH.items()
        )
    package = home.name.split(".")[1] if home.name.startswith("atomiclm.") else ""
    if package not in _PACKAGES and definition.name not in _ALONE.get(package, ()):
        return False
    exports = find_module(f"atomiclm.{package}")
    exported = find_definition(exports, definition.name) if exports else None
    return exported is not None and (exported[0].name, exported[1].name) == (home.name, definition.name)


def _descends(module: Module, definition: Definition, root: tuple[str, str]) -> bool:
    """Whether a class is the root, or has it among its bases as far as their sources can be found."""
    if not isinstance(definition, ast.ClassDef):
        return False
    if (module.name, definition.name) == root:
        return True
    names = [base.id for base in definition.bases if isinstance(base, ast.Name)]
    found = [find_definition(module, name) for name in names if name != definition.name]
    return any(each is not None and _descends(*each, root) for each in found)
