"""From a node with a `_target_` to an object: which classes may be named, what they take, and the call itself.

A configuration may come from a stranger, and a `_target_` is a call: Hydra's `instantiate` refuses a list of known
dangers and lets `torch.load` pass. Here all is refused, before anything of it is imported, but:

- a class that a package of atomiclm's components exports: making one runs nobody else's code and writes nothing;
- a module of `torch.nn`, an optimizer of `torch.optim`: those that are defined there;
- what lies in a package that the environment variable `ATOMICLM_TRUST` names, a list with commas.
"""

import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAliasType, Union, get_args, get_origin, get_type_hints

from atomiclm.cli import UserError, from_user
from atomiclm.config.errors import Fault, nearest

TARGET, PARTIAL = "_target_", "_partial_"
TRUST = "ATOMICLM_TRUST"

_COMPONENTS: Mapping[str, str | None] = {
    **dict.fromkeys(("data", "evaluation", "interop", "model", "optim", "sweep", "tokenizer", "training")),
    "config.match": "Match",
    "tracking": "WeightsAndBiases",
}
"""Packages of atomiclm whose exported classes are harmless to make, or the one class of them that is."""


def walk(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every entry of nested mappings and lists: `model.attention.window[2]`."""
    entries: Iterable[tuple[str, Any]] = ()
    if isinstance(node, Mapping):
        entries = ((f"{path}.{key}" if path else str(key), value) for key, value in node.items())
    elif isinstance(node, list):
        entries = ((f"{path}[{index}]", value) for index, value in enumerate(node))
    for at, value in entries:
        yield at, value
        yield from walk(value, at)


def build(node: Any) -> Any:
    """Return the object that `node` describes, with its child nodes built first.

    A mapping with a `_target_` becomes a call of that class with the other entries as keyword arguments, or, with
    `_partial_: true`, a `functools.partial` of it. No text is resolved. UserError: what the constructor refused, or a
    `_target_` that is not allowed.
    """
    if isinstance(node, list):
        return [build(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    arguments = {key: build(value) for key, value in node.items() if key not in (TARGET, PARTIAL)}
    if TARGET not in node:
        return arguments
    made = component(str(node[TARGET]))
    if node.get(PARTIAL, False):
        return functools.partial(made, **arguments)
    with from_user():
        return made(**arguments)


class TargetError(UserError):
    """A `_target_` that a configuration may not name, or that names nothing."""


def component(target: str) -> Callable[..., Any]:
    """Import what `target` names; TargetError if a configuration may not name it, or it is not there."""
    module_name, _, name = target.rpartition(".")
    trusted = is_trusted(target)
    allowed = (*(f"atomiclm.{package}." for package in _COMPONENTS), "torch.nn.", "torch.optim.")
    if not trusted and not (_is_name(target) and f"{module_name}.".startswith(allowed)):
        raise TargetError(_refusal(target))
    if trusted and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where `python -m` looks too
    try:
        module = import_module(module_name)
    except Exception as error:  # whatever the top level of a user's own module raises
        raise TargetError(f"'{module_name}' cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        public = [other for other in getattr(module, "__all__", dir(module)) if not other.startswith("_")]
        raise TargetError(f"module {module_name} has no '{name}'{nearest(name, public)}")
    found: Any = getattr(module, name)
    if not trusted and not _is_component(found):
        raise TargetError(_refusal(target))
    if not callable(found):
        raise TargetError(f"'{target}' is not a class: it is {found!r}")
    component: Callable[..., Any] = found
    return component


def is_trusted(target: str) -> bool:
    named = [name.strip() for name in os.environ.get(TRUST, "").split(",")]
    return _is_name(target) and any(target.startswith(f"{name}.") for name in named if name)


def _is_name(target: str) -> bool:
    """A dotted name with no private part."""
    return re.fullmatch(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", target, re.ASCII) is not None


def _is_component(found: Any) -> bool:
    """Being a name in a module is not enough: `atomiclm.training.checkpoint.shutil.rmtree` is one too."""
    if not isinstance(found, type) or found.__name__.startswith("_"):
        return False
    if found.__module__.startswith("torch."):
        from torch import nn, optim

        return issubclass(found, nn.Module | optim.Optimizer)
    name = found.__name__
    for package, only in _COMPONENTS.items():
        if f"{found.__module__}.".startswith(f"atomiclm.{package}."):
            return getattr(import_module(f"atomiclm.{package}"), name, None) is found and only in (None, name)
    return False


def _refusal(target: str) -> str:
    top = target.partition(".")[0]
    if top in ("atomiclm", "torch"):
        rule = "a configuration may name classes that atomiclm's packages of components export, modules of torch.nn "
        return f"'{target}' is no component: {rule}and optimizers of torch.optim, each where it is defined"
    rule = f"'{target}' is neither atomiclm's nor torch's, and naming it would run it"
    if not _is_name(target) or top in sys.stdlib_module_names:
        return f"{rule}; name a component as MODULE.CLASS"
    return f"{rule}; if you trust the code of {top}, say so in the environment: {TRUST}={top}"


# What a class takes: "3" is not a number and true is not 1, but 1e6 is a whole number and 1 is a number. Whatever an
# annotation names beyond scalars, lists and mappings is a component, for which there is a node with a `_target_`.


@dataclass(frozen=True)
class Argument:
    """One argument. annotation: Any where there is none; default: inspect.Parameter.empty where it is required."""

    annotation: Any
    default: Any = inspect.Parameter.empty

    def fit(self, path: str, value: Any) -> tuple[Any, list[Fault]]:
        """`value`, of a number the int or float that is annotated; and why it does not fit, at the entry at fault."""
        from pydantic import ValidationError

        try:
            found = self._adapter.validate_python(value)
        except ValidationError as error:
            return value, _faults(path, value, error.errors(include_url=False))
        return found if type(value) in (int, float) else value, []

    @functools.cached_property
    def _adapter(self) -> Any:
        from pydantic import TypeAdapter

        return TypeAdapter(self.annotation)


@dataclass(frozen=True)
class Constructor:
    """A class, or a function of the user's, and what it takes. open_ended: also whatever else it is given."""

    function: Callable[..., Any]
    arguments: Mapping[str, Argument]
    open_ended: bool

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


@lru_cache
def read_constructor(function: Callable[..., Any]) -> Constructor:
    called = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    if getattr(called, "__module__", "") == "torch.nn.modules.module":  # takes anything, only to refuse it
        return Constructor(function, {}, open_ended=False)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # compiled code that does not say
        return Constructor(function, {}, open_ended=True)
    try:
        hints = get_type_hints(called, include_extras=True)
    except NameError:  # of a user's class: a name that is imported for type checkers alone
        hints = {}
    arguments = {
        each.name: Argument(plain(hints.get(each.name, Any)), each.default)
        for each in parameters
        if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }
    return Constructor(function, arguments, any(each.kind is each.VAR_KEYWORD for each in parameters))


def takes_text(target: str, name: str) -> bool:
    """Whether the argument `name` of what `target` names takes text and refuses a number."""
    try:
        argument = read_constructor(component(target)).arguments.get(name)
    except TargetError:
        return False
    return argument is not None and not argument.fit("", "any text")[1] and bool(argument.fit("", 1)[1])


_CONTAINERS: Mapping[Any, Any] = {
    **dict.fromkeys((list, Sequence, Iterable, set, frozenset), list),
    **dict.fromkeys((dict, Mapping), dict),
    tuple: tuple,
    **dict.fromkeys((Union, UnionType), Union),
}


def plain(annotation: Any) -> Any:
    """The annotation of the configured value: strict scalars, lists and mappings of them, and nodes for components."""
    from pydantic import AfterValidator, BeforeValidator, Strict

    if isinstance(annotation, TypeAliasType):
        return plain(annotation.__value__)
    origin, inner = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        return Annotated[plain(inner[0]), *inner[1:]]
    if origin is Literal or annotation in (None, NoneType):
        return annotation
    if container := _CONTAINERS.get(origin):
        entries = tuple(each if each is ... else plain(each) for each in inner)
        return container[entries] if entries else container
    if annotation in (Any, object):
        return Any
    if annotation is int:
        return Annotated[int, Strict(), BeforeValidator(_whole)]
    if annotation in (float, bool, str):
        return Annotated[annotation, Strict()]
    return Annotated[str, Strict()] if annotation is Path else Annotated[Any, AfterValidator(_node)]


def _whole(value: Any) -> Any:  # 1e6 is how people write a million
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _node(value: Any) -> Any:
    from pydantic_core import PydanticCustomError

    if isinstance(value, dict) and TARGET in value:
        return value
    raise PydanticCustomError("component", "")  # worded below


_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "none": "null",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "component": "a component: choose an option of the group (model/attention=mqa), or give a _target_ node",
}  # by the first word of pydantic's type of an error


def _faults(path: str, value: Any, errors: Sequence[Mapping[str, Any]]) -> list[Fault]:
    """A fault for each entry; of alternatives those that look deepest into the value, which are of its kind."""
    found: dict[tuple[int, str], dict[str, None]] = {}
    for error in errors:
        at, entry, depth = path, value, 0
        for part in error["loc"]:  # which also names alternatives of a union
            if isinstance(entry, dict) and part in entry:
                at, entry, depth = f"{at}.{part}", entry[part], depth + 1
            elif isinstance(entry, list | tuple) and isinstance(part, int) and part < len(entry):
                at, entry, depth = f"{at}[{part}]", entry[part], depth + 1
            elif part == "[key]":  # pydantic's word for an entry whose name is wrong, not its value
                entry = at.rpartition(".")[2]
        shown, kind = repr(entry), error["type"].partition("_")[0]
        shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
        wanted = f"one of: {error['ctx']['expected']}" if kind == "literal" else _WANTED.get(kind)
        message = f"{shown} is not {wanted}" if wanted else f"{shown} does not fit: {error['msg']}"
        found.setdefault((depth, at), {})[message] = None
    deepest = max(depth for depth, _ in found)
    return [
        Fault(at, " or ".join([first, *(other.rpartition(" is not ")[2] for other in others)]))
        for (depth, at), (first, *others) in found.items()
        if depth == deepest
    ]
