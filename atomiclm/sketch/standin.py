"""The modules that stand in for torch: what constructors use, and names for everything else."""

import contextlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

from atomiclm.sketch import modules, tensors
from atomiclm.sketch.tensors import SketchError


class Name:
    """Something of torch that may be named (an annotation, a function kept for later) but not used."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name
        self.__module__ = "torch"

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Refuse: the stand-in does not know what this does."""
        raise SketchError(self.__name__)

    def __getattr__(self, name: str) -> "Name":
        if name.startswith("__"):
            raise AttributeError(name)
        return Name(f"{self.__name__}.{name}")

    def __or__(self, other: Any) -> "Name":
        return self

    __ror__ = __or__

    def __getitem__(self, item: Any) -> "Name":
        return self

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return ()


class Device:
    """`torch.device`: where things would be."""

    def __init__(self, kind: str = "meta", index: int | None = None) -> None:
        self.type = str(kind).partition(":")[0]
        self.index = index

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Optimizer:
    """`torch.optim.Optimizer`: the groups of parameters, for constructors that look at them."""

    def __init__(self, params: Sequence[dict[str, Any]], defaults: dict[str, Any]) -> None:
        self.param_groups = [{**defaults, **group} for group in params]


class Disabled(contextlib.ContextDecorator):
    """`torch.no_grad` and its kin, as a context and as a decorator, with or without parentheses."""

    def __new__(cls, function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
        """Give back the decorated function as it is."""
        return super().__new__(cls) if not callable(function) else function

    def __init__(self, *_: Any, **__: Any) -> None:
        return

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _same(tensor: tensors.Tensor, *_: Any, **__: Any) -> tensors.Tensor:
    return tensor


@contextlib.contextmanager
def _nothing(*_: Any, **__: Any) -> Iterator[None]:
    yield


_FILLED = ("empty", "zeros", "ones", "rand", "randn")
_STATELESS = ("Dropout", "Identity", "GELU", "SiLU", "ReLU", "Sigmoid", "Tanh", "Softmax", "Softplus", "LeakyReLU")
_KNOWN: dict[str, dict[str, Any]] = {
    "torch": {
        "Tensor": tensors.Tensor, "device": Device, "no_grad": Disabled, "enable_grad": Disabled,
        "inference_mode": Disabled, "get_default_device": Device, "tensor": tensors.tensor,
        "arange": tensors.arange, "full": tensors.full, "get_num_threads": int, "__version__": "stand-in",
        **dict.fromkeys(_FILLED, tensors.shaped), **dict.fromkeys([f"{name}_like" for name in _FILLED], tensors.like),
    },
    "torch.nn": {
        **{name: getattr(modules, name) for name in (
            "Module", "ModuleList", "ModuleDict", "Sequential", "ParameterList", "Linear", "Embedding", "Conv1d",
            "LayerNorm", "RMSNorm",
        )},
        "Parameter": tensors.Parameter,
        **{name: type(name, (modules.Stateless,), {}) for name in _STATELESS},
    },
    "torch.nn.init": {name: _same for name in (
        "normal_", "uniform_", "zeros_", "ones_", "constant_", "trunc_normal_", "xavier_uniform_", "xavier_normal_",
        "kaiming_uniform_", "kaiming_normal_", "orthogonal_",
    )},
    "torch.random": {"fork_rng": _nothing},
    "torch.optim": {"Optimizer": Optimizer},
}  # fmt: skip


class StandIn(ModuleType):
    """A module of the stand-in: what it does not know is a `Name`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__dict__.update(_KNOWN.get(name, {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        dotted = f"{self.__name__}.{name}"
        if dotted in _KNOWN or dotted in sys.modules:
            return importlib.import_module(dotted)
        return Name(dotted)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `torch` and everything below it in the stand-in."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where the module comes from."""
        if name != "torch" and not name.startswith("torch."):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Make the module."""
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""
