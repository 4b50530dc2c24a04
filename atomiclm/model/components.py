"""What all components share: how they print, what their parameters are for, and how a model's sizes reach them."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from atomiclm.cli import UserError
from atomiclm.machine import processor_name
from atomiclm.roles import Role


class Component(nn.Module):
    """A module that has its constructor's arguments in attributes of the same names, and prints them.

    Where the arguments are many and are values, the class is a dataclass whose ``__post_init__`` checks them.
    """

    def __post_init__(self) -> None:
        super().__init__()

    def extra_repr(self) -> str:
        names = inspect.signature(type(self)).parameters
        # Modules and parameters are not among these: torch stores those apart, and prints the former.
        return ", ".join(f"{name}={value}" for name, value in vars(self).items() if name in names)


# Rules for arguments. Each raises ValueError, ``name=value must ...``; None stands for a default and passes.


def check_positive(**arguments: float | None) -> None:
    _check(arguments, lambda value: value > 0, "greater than 0")


def check_not_negative(**arguments: float | None) -> None:
    _check(arguments, lambda value: value >= 0, "at least 0; 0 switches it off")


def check_dropout(dropout: float) -> None:
    _check({"dropout": dropout}, lambda value: 0 <= value < 1, "at least 0 and below 1; 0 switches dropout off")


def check_share(**arguments: float | None) -> None:
    _check(arguments, lambda value: 0 < value <= 1, "greater than 0 and at most 1; 1 is all of it")


def check_choice(known: Collection[str], **arguments: str) -> None:
    _check(arguments, lambda value: value in known, f"one of {', '.join(known)}")


def _check(arguments: Mapping[str, Any], holds: Callable[[Any], bool], rule: str) -> None:
    for name, value in arguments.items():
        if value is not None and not holds(value):
            raise ValueError(f"{name}={value} must be {rule}")


# What parameters are for.


class ResidualLinear(nn.Linear):
    """``nn.Linear`` whose output is added to the residual stream: initialisation may scale it with depth."""

    roles: ClassVar[dict[str, Role]] = {"weight": "residual"}


def parameter_roles(model: nn.Module) -> dict[str, Role]:
    """Role of every parameter, by its name in ``model.named_parameters()``.

    embedding   weights of ``nn.Embedding``: tokens, and learned positions (a tied head is this same parameter)
    head        the output matrix of an untied head
    residual    projections that write to the residual stream (``ResidualLinear``)
    matrix      every other parameter of two or more dimensions
    bias, gain  what is called "bias"; every other vector

    A module may state roles of its own parameters in a class attribute ``roles: dict[str, Role]``.
    """
    roles: dict[str, Role] = {}
    for name, parameter in model.named_parameters():
        path, _, own = name.rpartition(".")
        module = model.get_submodule(path)
        if own in (stated := getattr(module, "roles", {})):
            roles[name] = stated[own]
        elif isinstance(module, nn.Embedding):
            roles[name] = "embedding"
        elif own == "bias":
            roles[name] = "bias"
        else:
            roles[name] = "matrix" if parameter.ndim >= 2 else "gain"
    return roles


# How a component gets the sizes that its constructor names, and no others: a new attention may ask for ``layer`` or
# ``context_length`` without an edit of the decoder.


class PartError(UserError):
    """What a component refused, its ``reason``, with its ``path`` in the model and so in a configuration."""

    def __init__(self, part: str, error: ValueError) -> None:
        inner = error if isinstance(error, PartError) else None
        self.path: str = f"{part}.{inner.path}" if inner else part
        self.reason: str = inner.reason if inner else str(error)
        super().__init__(f"{self.path}: {self.reason}")


def supply_part[Built](
    part: str, component: Callable[..., Built], interface: type | None = None, /, **sizes: Any
) -> Built:
    """``supply`` for the argument ``part``: PartErrors with that path, also if a member of ``interface`` is lacking."""
    try:
        built = supply(component, **sizes)
        if interface and (lacking := [name for name in _members(interface) if not _has(built, name)]):
            raise ValueError(_lack(type(built), lacking, interface))
        return built
    except ValueError as error:
        raise PartError(part, error) from error


def supply[Built](component: Callable[..., Built], /, **sizes: Any) -> Built:
    """Call ``component`` with those of ``sizes`` that its signature names and that it does not already hold.

    ``component`` is a class, a function or a ``functools.partial`` of one, whose bound values win over those offered. A
    function, or an object with a ``__call__``, that takes ``**sizes`` is given everything.

    Raises ValueError when the signature needs an argument that is neither bound nor offered, and for an abstract class.
    """
    function = component.func if isinstance(component, partial) else component
    if inspect.isclass(function) and (abstract := getattr(function, "__abstractmethods__", None)):
        raise ValueError(_lack(function, abstract, function))
    bound = set(component.keywords) if isinstance(component, partial) else set()
    parameters = inspect.signature(component).parameters.values()
    # A class without a constructor of its own shows nn.Module's, which names **kwargs only to refuse them.
    takes_all = not inspect.isclass(function) and any(each.kind is each.VAR_KEYWORD for each in parameters)
    named = {each.name: each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    offered = {name: size for name, size in sizes.items() if (takes_all or name in named) and name not in bound}
    needed = [name for name, each in named.items() if each.default is each.empty]
    if missing := [name for name in needed if name not in bound | offered.keys()]:
        name = getattr(function, "__name__", type(function).__name__)
        raise ValueError(
            f"{name} needs {', '.join(missing)}: the decoder supplies {', '.join(sorted(sizes))}; "
            f"give the rest yourself, as in partial({name}, {missing[0]}=...)"
        )
    return component(**offered)


def _lack(component: type, names: Collection[str], interface: type) -> str:
    ours = next(base for base in interface.__mro__ if _is_ours(base))
    meanings = (f"\n      {name}: {meaning}" for name, meaning in _members(interface).items() if name in names)
    return f"{component.__name__} lacks members of {ours.__name__} that a model needs:{''.join(meanings)}"


def _members(interface: type) -> dict[str, str]:
    """Public methods, properties and annotated attributes of an abstract class of ours, each with its meaning."""
    members = {}
    for base in filter(_is_ours, reversed(interface.__mro__)):
        for name, annotation in inspect.get_annotations(base).items():
            if metadata := getattr(annotation, "__metadata__", ()):  # of Annotated
                members[name] = metadata[0]
        for name, member in vars(base).items():
            if not name.startswith(("_", "extra_repr")) and (
                inspect.isfunction(member) or isinstance(member, property)
            ):
                members[name] = " ".join((inspect.getdoc(member) or "").partition("\n\n")[0].split()).rstrip(".:")
    return members


def _is_ours(base: type) -> bool:
    return base.__module__.startswith("atomiclm.model.")


def _has(built: object, name: str) -> bool:
    found, default = getattr(type(built), name, None), getattr(nn.Module, name, None)
    # Every module has a forward, which raises; and only classes with ABC's metaclass refuse to leave methods abstract.
    absent = getattr(found, "__isabstractmethod__", False) or (default is not None and found is default)
    return hasattr(built, name) and not absent


@dataclass(eq=False)
class LayerPattern:
    """Stands for an attention or a feed-forward network and chooses among several by the layer.

    components   by name; each is a class or a partial of one, given the sizes its constructor names
    pattern      names, one a layer, repeated to the last layer: five times "local", then "global", say
    first        names of the first layers, before the pattern begins (dense layers before experts, as in DeepSeek-V2)
    """

    components: Mapping[str, Callable[..., nn.Module]]
    pattern: Sequence[str]
    first: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_pattern("components", self.components, self.pattern, self.first)

    def __call__(self, layer: int, **sizes: Any) -> nn.Module:
        name = name_of_layer(layer, self.pattern, self.first)
        return supply_part(f"components.{name}", self.components[name], layer=layer, **sizes)


def name_of_layer(layer: int, pattern: Sequence[str], first: Sequence[str] = ()) -> str:
    return first[layer] if layer < len(first) else pattern[(layer - len(first)) % len(pattern)]


def check_pattern(argument: str, known: Mapping[str, Any], pattern: Sequence[str], first: Sequence[str]) -> None:
    """Raise ValueError unless the pattern has a name, and only names that are there."""
    if not pattern:
        raise ValueError("pattern=[] is empty; give one name a layer, repeated to the last layer")
    for argument_of_names, names in (("first", first), ("pattern", pattern)):
        for name in names:
            if name not in known:
                known_names = ", ".join(known) or "nothing"
                raise ValueError(f"{argument_of_names}={list(names)} names {name!r}; {argument} has {known_names}")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; each module's own mode is restored afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode(), _HalvedProducts() if mkl_is_slow_with_vectors() else nullcontext():
            yield
    finally:
        for module in training:
            module.training = True


@cache
def mkl_is_slow_with_vectors() -> bool:
    return torch.backends.mkl.is_available() and "AMD" in processor_name()


class _HalvedProducts(TorchFunctionMode):
    """Inside, a single vector on the CPU is multiplied with the two halves of a weight as a batch.

    A step of decoding waits for memory. On an AMD processor MKL's product of one vector reads 8 GB/s where this reads
    20 to 27; on an Intel one it is 19 and 10 (``benchmarks/decoding.py``).
    """

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), keywords: Mapping[str, Any] | None = None
    ) -> Any:
        if function is not F.linear or keywords or torch.is_autocast_enabled("cpu"):  # it would cast halves every time
            return function(*arguments, **(keywords or {}))
        vectors, weight, bias = [*arguments, None][:3]
        outputs, width = weight.shape
        if vectors.numel() != width or outputs % 2 or vectors.device.type != "cpu":
            return function(*arguments)
        column = vectors.reshape(1, 1, width).expand(2, 1, width).mT
        product = torch.bmm(weight.view(2, -1, width), column).view(*vectors.shape[:-1], outputs)
        return product if bias is None else product + bias
