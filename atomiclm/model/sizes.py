"""Sizes are injected by name: a component asks for the sizes its constructor names, and gets those and no others.

This is what lets a new attention ask for ``layer`` or ``context_length`` without an edit of the decoder.
"""

import inspect
from collections.abc import Callable, Collection
from functools import partial
from typing import Annotated, Any, get_origin

from torch import nn

from atomiclm.user_error import UserError


class PartError(UserError):
    """What a component refused, with the place of the component in the model: ``attention.query_key_norm: ...``.

    path     names of the arguments that lead from the decoder to the component, the same as in a configuration
    reason   what the component said
    """

    def __init__(self, part: str, error: ValueError) -> None:
        inner = error if isinstance(error, PartError) else None
        self.path: str = f"{part}.{inner.path}" if inner else part
        self.reason: str = inner.reason if inner else str(error)
        super().__init__(f"{self.path}: {self.reason}")


def supply_part[Built](
    part: str, component: Callable[..., Built], interface: type | None = None, /, **sizes: Any
) -> Built:
    """``supply`` for the argument called ``part``; a refusal names it (PartError), so does a lack of members.

    interface   the abstract class whose members the result needs to have
    """
    try:
        built = supply(component, **sizes)
        if interface is not None:
            refuse_incomplete(built, interface)
        return built
    except ValueError as error:
        raise PartError(part, error) from error


def supply[Built](component: Callable[..., Built], /, **sizes: Any) -> Built:
    """Call ``component`` with those of ``sizes`` that its signature names and that it does not already hold.

    ``component`` is a class, a function or a ``functools.partial`` of one (a Hydra ``_partial_`` node is such a
    partial). A value bound in the partial wins over the one offered here. A function, or an object with a ``__call__``,
    that takes ``**sizes`` is given everything: it may stand for several components and choose among them by ``layer``.

    Raises ValueError when the signature needs an argument that is neither bound nor offered, and for a class that
    leaves methods abstract.
    """
    function = component.func if isinstance(component, partial) else component
    if inspect.isclass(function) and (abstract := getattr(function, "__abstractmethods__", None)):
        raise ValueError(_lack(function, abstract, function))
    bound = set(component.keywords) if isinstance(component, partial) else set()
    parameters = inspect.signature(component).parameters.values()
    # A class without a constructor of its own shows nn.Module's, which names **kwargs only to refuse them.
    takes_all = not inspect.isclass(function) and any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters
    )
    named = {parameter.name for parameter in parameters if parameter.kind in _BY_NAME}
    offered = {name: size for name, size in sizes.items() if (takes_all or name in named) and name not in bound}
    missing = [
        parameter.name
        for parameter in parameters
        if parameter.kind in _BY_NAME
        and parameter.default is inspect.Parameter.empty
        and parameter.name not in bound | offered.keys()
    ]
    if missing:
        name = getattr(function, "__name__", type(function).__name__)
        raise ValueError(
            f"{name} needs {', '.join(missing)}: the decoder supplies {', '.join(sorted(sizes))}; "
            f"give the rest yourself, as in partial({name}, {missing[0]}=...)"
        )
    return component(**offered)


def refuse_incomplete(built: object, interface: type) -> None:
    """Raise ValueError, with their meaning, for public members of an abstract class of ours that ``built`` lacks."""
    if lacking := [name for name in _members(interface) if not _has(built, name)]:
        raise ValueError(_lack(type(built), lacking, interface))


def _lack(component: type, names: Collection[str], interface: type) -> str:
    ours = next(base for base in interface.__mro__ if _is_ours(base))
    meanings = (f"\n      {name}: {meaning}" for name, meaning in _members(interface).items() if name in names)
    return f"{component.__name__} lacks members of {ours.__name__} that a model needs:{''.join(meanings)}"


def _members(interface: type) -> dict[str, str]:
    """Public methods, properties and annotated attributes of an abstract class of ours, each with its meaning."""
    members = {}
    for base in filter(_is_ours, reversed(interface.__mro__)):
        for name, annotation in inspect.get_annotations(base).items():
            if get_origin(annotation) is Annotated:
                members[name] = annotation.__metadata__[0]
        for name, member in vars(base).items():
            if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                members[name] = " ".join((inspect.getdoc(member) or "").partition("\n\n")[0].split()).rstrip(".:")
    return members


def _is_ours(base: type) -> bool:
    return base.__module__.startswith("atomiclm.model.")


def _has(built: object, name: str) -> bool:
    if not (hasattr(type(built), name) or hasattr(built, name)):
        return False
    found, default = getattr(type(built), name, None), getattr(nn.Module, name, None)
    # Every module has a forward, which raises; and only classes with ABC's metaclass refuse to leave methods abstract.
    return not getattr(found, "__isabstractmethod__", False) and (default is None or found is not default)


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
