"""What all components share: how they print, what their parameters are for, how a model's sizes reach them, and how
they multiply.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import has_torch_function

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
def evaluating(model: nn.Module, is_compiled: bool = False) -> Iterator[None]:
    """Evaluation mode and no gradients inside; each module's own mode is restored afterwards.

    Weights must not change inside, unless the model ``is_compiled``.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        # A compiled function would be compiled again for each object; and a compiler orders weights for itself.
        with torch.inference_mode(), quick_products(model, (lambda: _linear_of_few) if is_compiled else _FixedLinear):
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def quick_products(model: nn.Module, make: Callable[[], Callable[..., Tensor]] | None = None) -> Iterator[None]:
    """Inside, products of ``model`` with weights run on the kernels that are fastest on this processor.

    Those are the products of ``nn.Linear`` and of modules that say ``linear = staticmethod(F.linear)`` and call that.
    Each gets what ``make()`` returns in place of ``F.linear``, by default a function for training.
    """
    before = []
    for module in model.modules() if mkl_is_slow() else ():
        name = "forward" if isinstance(module, nn.Linear) else "linear"
        if getattr(type(module), name, None) in (nn.Linear.forward, F.linear):
            linear = make() if make else _trained_linear
            before.append((module, name, vars(module).get(name)))
            vars(module)[name] = partial(_forward, linear, module) if name == "forward" else linear
    try:
        yield
    finally:
        for module, name, function in before:
            vars(module).pop(name)
            if function is not None:
                vars(module)[name] = function


@cache
def mkl_is_slow() -> bool:
    """Whether other kernels are faster than MKL's, which torch takes for float32: on AMD processors."""
    backends = torch.backends.mkl, torch.backends.mkldnn
    return all(backend.is_available() for backend in backends) and "AMD" in processor_name()


def _forward(linear: Callable[..., Tensor], layer: Any, vectors: Tensor) -> Tensor:
    return linear(vectors, layer.weight, layer.bias)


def _suits_onednn(vectors: Tensor, weight: Tensor) -> bool:
    """Whether both are float32 on the CPU, outside autocast; a mode of torch's is to see ``F.linear``."""
    is_float32 = vectors.is_cpu and vectors.dtype == weight.dtype == torch.float32 and vectors.numel() > 0
    return is_float32 and not torch.is_autocast_enabled("cpu") and not has_torch_function((vectors, weight))


def _linear_of_few(vectors: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` that multiplies one or two vectors, as in a step of decoding, with the two halves of the weight as a
    batch.

    Such a product waits for memory: it reads 20 to 27 GB/s, where MKL's reads 8 (on an Intel processor 10 and 19).
    """
    outputs, width = weight.shape
    is_few = 0 < vectors.numel() <= 2 * width and outputs % 2 == 0
    if not (is_few and vectors.is_cpu) or torch.is_autocast_enabled("cpu"):  # which would cast halves every time
        return F.linear(vectors, weight, bias)
    columns = vectors.reshape(1, -1, width).expand(2, -1, width).mT
    product = torch.bmm(weight.view(2, -1, width), columns).flatten(0, 1).mT.reshape(*vectors.shape[:-1], outputs)
    return product if bias is None else product + bias


class _FixedLinear:
    """``_linear_of_few`` with a weight that does not change: more vectors are multiplied by oneDNN.

    It gets the weight in the order that it wants. With 8 to 32 vectors that takes 0.5 to 0.7 of MKL's time, with
    hundreds 0.9 (``benchmarks/decoding.py``).
    """

    def __init__(self) -> None:
        self._weight: Tensor | None = None
        self._ordered: Tensor | None = None

    def __call__(self, vectors: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if vectors.numel() <= 2 * weight.shape[1] or not _suits_onednn(vectors, weight):
            return _linear_of_few(vectors, weight, bias)
        if self._weight is not weight:
            self._weight, self._ordered = weight, torch.ops.mkldnn._reorder_linear_weight(weight)
        return _by_onednn(vectors, self._ordered, bias)


def _trained_linear(vectors: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` with a gradient: 0.92 to 0.97 of the time of a step (``benchmarks/training.py``)."""
    if not _suits_onednn(vectors, weight):
        return F.linear(vectors, weight, bias)
    product: Tensor = _Product.apply(vectors, weight, bias)
    return product


class _Product(torch.autograd.Function):
    """``F.linear`` by oneDNN, but for the weight's gradient: that sum over many vectors is faster by MKL."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(vectors, weight)
        return _by_onednn(vectors, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        vectors, weight = ctx.saved_tensors
        of_vectors, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        return (
            _by_onednn(gradient, weight.mT) if of_vectors else None,
            rows.mT @ vectors.flatten(0, -2) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _by_onednn(vectors: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(vectors, weight, bias, "none", [], "")
    return product
