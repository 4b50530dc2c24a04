"""What a class that a configuration names takes: its arguments by name, and which values fit their annotations.

In a configuration a text, a whole number, a number, true and false are themselves and nothing else: "3" is not a number
and true is not 1, but 1e6 is a whole number and 1 is a number. Lists and mappings hold such values. Whatever else an
annotation names is a component, for which the configuration has a node with a `_target_`.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAliasType, Union, get_args, get_origin, get_type_hints

from atomiclm.config.allowed import UnknownTarget, Untrusted, component
from atomiclm.config.errors import Fault

_SHOWN = 60


@dataclass(frozen=True)
class Argument:
    """One argument. annotation: Any where there is none."""

    annotation: Any
    required: bool

    def faults(self, path: str, value: Any) -> list[Fault]:
        """Why `value` at `path` does not fit, each fault at the entry that is wrong; none where it fits."""
        from pydantic import ValidationError

        try:
            _adapter(self.annotation).validate_python(value)
        except ValidationError as error:
            return _faults(path, value, error.errors(include_url=False))
        return []

    def takes(self, value: Any) -> bool:
        """Whether `value` fits."""
        return not self.faults("", value)

    def number(self, value: Any) -> Any:
        """A fitting `value`; of a number an int or a float, as annotated, so that 1 and 1.0 are one."""
        if type(value) not in (int, float) or self.annotation is Any:
            return value
        return float(value) if self.takes(0.5) else int(value)


ANYTHING = Argument(Any, required=False)


@dataclass(frozen=True)
class Constructor:
    """A class, or a function of the user's, and what it takes. open_ended: also whatever else it is given."""

    function: Callable[..., Any]
    arguments: Mapping[str, Argument]
    open_ended: bool

    @property
    def name(self) -> str:
        """Of the class."""
        return getattr(self.function, "__name__", repr(self.function))


def read_constructor(target: str) -> Constructor:
    """Import what `target` names and inspect it.

    Raises:
        Untrusted, UnknownTarget: see `allowed.component`.
    """
    return _inspected(component(target))


def takes_text(target: str, name: str) -> bool:
    """Whether the argument `name` of what `target` names takes any text but not a number."""
    try:
        argument = read_constructor(target).arguments.get(name)
    except (Untrusted, UnknownTarget):
        return False
    return argument is not None and argument.takes("any text") and not argument.takes(1)


@lru_cache
def _inspected(function: Callable[..., Any]) -> Constructor:
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
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    arguments = {
        each.name: Argument(_plain(hints.get(each.name, Any)), each.default is inspect.Parameter.empty)
        for each in parameters
        if each.kind in named
    }
    return Constructor(function, arguments, any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters))


# ---------------------------------------------------------------------------------------------------------------------
# From an annotation to what stands for it in a configuration.


_LISTS = (list, Sequence, Iterable, set, frozenset)
_MAPPINGS = (dict, Mapping)


def _plain(annotation: Any) -> Any:
    """The annotation of the configured value: strict scalars, lists and mappings of them, and nodes for components."""
    from pydantic import AfterValidator, BeforeValidator, Strict

    if isinstance(annotation, TypeAliasType):
        return _plain(annotation.__value__)
    origin, inner = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        return Annotated[_plain(inner[0]), *inner[1:]]
    if origin is Literal or annotation in (None, NoneType):
        return annotation
    plain = tuple(each if each is ... else _plain(each) for each in inner)
    if origin in (Union, UnionType):
        return Union[plain]  # noqa: UP007 - of alternatives that are known at run time
    if origin is tuple:
        return _of(tuple, plain)
    if origin in _LISTS:
        return _of(list, plain)
    if origin in _MAPPINGS:
        return _of(dict, plain)
    if annotation in (Any, object):
        return Any
    if annotation is int:
        return Annotated[int, Strict(), BeforeValidator(_whole)]
    if annotation in (float, bool, str):
        return Annotated[annotation, Strict()]
    return Annotated[str, Strict()] if annotation is Path else Annotated[Any, AfterValidator(_node)]


def _of(container: Any, entries: tuple[Any, ...]) -> Any:
    return container[entries] if entries else container


def _whole(value: Any) -> Any:
    """1e6 is how people write a million."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _node(value: Any) -> Any:
    from pydantic_core import PydanticCustomError

    if isinstance(value, dict) and "_target_" in value:
        return value
    raise PydanticCustomError("component", "")  # worded below


@lru_cache(maxsize=512)
def _adapter(annotation: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(annotation)


# ---------------------------------------------------------------------------------------------------------------------
# From what pydantic says to faults.

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
}


def _faults(path: str, value: Any, errors: Sequence[Mapping[str, Any]]) -> list[Fault]:
    """A fault for each entry; of alternatives those that look deepest into the value, which are of its kind."""
    found: dict[tuple[int, str], tuple[Any, list[str]]] = {}
    for error in errors:
        at, entry, depth = path, value, 0
        for part in error["loc"]:  # which also names alternatives of a union
            if isinstance(entry, dict) and part in entry:
                at, entry, depth = f"{at}.{part}", entry[part], depth + 1
            elif isinstance(entry, list | tuple) and isinstance(part, int) and part < len(entry):
                at, entry, depth = f"{at}[{part}]", entry[part], depth + 1
            elif part == "[key]":  # pydantic's word for an entry whose name is wrong, not its value
                entry = at.rpartition(".")[2]
        kind = error["type"].partition("_")[0]
        wanted = f"one of: {error['ctx']['expected']}" if kind == "literal" else _WANTED.get(kind, "")
        message = f"is not {wanted}" if wanted else f"does not fit: {error['msg']}"
        found.setdefault((depth, at), (entry, []))[1].append(message)
    deepest = max(depth for depth, _ in found)
    return [
        Fault(at, f"{_shown(entry)} {' or '.join(dict.fromkeys(messages)).replace(' or is not ', ' or ')}")
        for (depth, at), (entry, messages) in found.items()
        if depth == deepest
    ]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
