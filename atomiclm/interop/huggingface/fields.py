"""What keys of a `config.json` say about a decoder, in both directions.

A field reads its key into settings, ``{path: value}``: "attention.num_heads" is an argument of the decoder's attention,
and a component's own path holds its class. It writes the key from what stands at that path in a decoder, the nearest
that its architecture can say.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from atomiclm.cli import UserError
from atomiclm.interop.describe import windows_of
from atomiclm.interop.huggingface.config_json import MAX_SIZE, NEEDED, ConfigJson
from atomiclm.model import Decoder, MixtureOfExperts

type Settings = dict[str, Any]
type Fields = Mapping[str, "Field"]

# Of several names for one function the first is written.
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "linear": "identity",
    "relu": "relu",
    "relu2": "relu_squared",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "swish": "silu",
}

FULL, SLIDING = "full_attention", "sliding_attention"


class Field(ABC):
    """One key of a configuration, or a few that only together say something."""

    @abstractmethod
    def read(self, key: str, config: ConfigJson, settings: Settings) -> None:
        """Add what the key says. Raises UserError where it asks for something unsupported."""

    @abstractmethod
    def write(self, key: str, model: Decoder) -> dict[str, Any]:
        """The key with the value nearest to a decoder."""


@dataclass(frozen=True)
class Setting(Field):
    """A key that is an argument of ours.

    Attributes:
        path: of the argument.
        default: what transformers takes where the key is absent, or a function of the settings read before.
        kind: of the value; None is that of the default, else int.
        null: whether null says something, and is not merely absent.
        most: the largest integer.
        also: older names of the key.
        chooses: the class of the component where the value is not None; else the argument is left out.
        to_ours, to_theirs: from the value and the settings read before to our argument; from that and the decoder back.
    """

    path: str
    default: Any = NEEDED
    kind: type | None = None
    null: bool = False
    most: int = MAX_SIZE
    also: tuple[str, ...] = ()
    chooses: type | None = None
    to_ours: Callable[[Any, Settings], Any] = lambda value, _: value
    to_theirs: Callable[[Any, Decoder], Any] = lambda value, _: value

    def read(self, key: str, config: ConfigJson, settings: Settings) -> None:
        name = next((name for name in (key, *self.also) if config.config.get(name) is not None), key)
        for other in self.also:
            config.ignore(other)
        kind = self.kind or (type(self.default) if isinstance(self.default, (bool, float, str)) else int)
        default = self.default(settings) if callable(self.default) else self.default
        value = config.get(name, default, kind, self.null, self.most)
        if self.chooses is None:
            settings[self.path] = self.to_ours(value, settings)
        elif value is not None:
            settings |= {self.path.rpartition(".")[0]: self.chooses, self.path: value}

    def write(self, key: str, model: Decoder) -> dict[str, Any]:
        # A part that lacks the argument is of another class, which the comparison tells; here it must only be valid.
        missing = self.default if isinstance(self.default, (bool, float, str)) else 1
        return {key: self.to_theirs(value_at(model, self.path, None if self.chooses else missing), model)}


@dataclass(frozen=True)
class Ignored(Field):
    """A key that changes nothing, or follows from others."""

    written: Callable[[Decoder], Any] | None = field(default=None, kw_only=True)

    def read(self, key: str, config: ConfigJson, settings: Settings) -> None:
        config.ignore(key)

    def write(self, key: str, model: Decoder) -> dict[str, Any]:
        return {} if self.written is None else {key: self.written(model)}


@dataclass(frozen=True)
class Only(Ignored):
    """A key that is absent or has one of these values, since any other makes a model that is not here."""

    allowed: tuple[Any, ...] = ()

    def read(self, key: str, config: ConfigJson, settings: Settings) -> None:
        config.only(key, *self.allowed)


@dataclass(frozen=True)
class Nested(Field):
    """An object of more keys."""

    fields: Fields

    def read(self, key: str, config: ConfigJson, settings: Settings) -> None:
        inner = ConfigJson(config.get(key, {}, dict), f"{config.where}: {key}")
        read_fields(self.fields, inner, settings)
        inner.finish()

    def write(self, key: str, model: Decoder) -> dict[str, Any]:
        return {key: write_fields(self.fields, model)}


@dataclass(frozen=True)
class Epsilon(Field):
    """The eps of every norm."""

    default: float

    def read(self, key: str, config: ConfigJson, settings: Settings) -> None:
        eps = config.get(key, self.default, float)
        settings |= {f"{path}.eps": eps for path in settings if path.endswith("norm")}

    def write(self, key: str, model: Decoder) -> dict[str, Any]:
        return {key: value_at(model, "norm.eps", self.default)}


@dataclass(frozen=True)
class ActivationName(Field):
    """The activation of the parts at `paths`; `default` is the name for it that is written where several mean it."""

    default: str
    paths: tuple[str, ...] = ("feedforward.activation",)

    def read(self, key: str, config: ConfigJson, settings: Settings) -> None:
        name = config.get(key, self.default, str)
        if name not in _ACTIVATIONS:
            known = ", ".join(_ACTIVATIONS)
            raise UserError(f"{config.where}: {key}={name!r:.80} cannot be read; supported are {known}")
        settings |= dict.fromkeys(self.paths, _ACTIVATIONS[name])

    def write(self, key: str, model: Decoder) -> dict[str, Any]:
        ours = value_at(model, self.paths[0], _ACTIVATIONS[self.default])
        return {key: next(name for name in (self.default, *_ACTIVATIONS) if _ACTIVATIONS[name] == ours)}


@dataclass(frozen=True)
class LayerWindows(Field):
    """`sliding_window`, the windows of layers by `layer_types`, and the switch `use_sliding_window`.

    Attributes:
        slides: whether a layer has the window where `layer_types` is absent, by the configuration and its number.
        default: the window where it is absent.
        switch, types: whether there are these keys.
    """

    slides: Callable[[ConfigJson, int], bool]
    default: int | None = 4096
    switch: bool = True
    types: bool = True

    def read(self, key: str, config: ConfigJson, settings: Settings) -> None:
        window = config.get(key, self.default, null=True)
        if self.switch and not config.get("use_sliding_window", False, bool):
            window = None
        layers = range(settings["num_layers"])
        slides = [self.slides(config, layer) and not (self.switch and window is None) for layer in layers]
        types = [SLIDING if slide else FULL for slide in slides]
        if self.types:
            types = config.get("layer_types", types, list)
        for kind in types:
            if kind not in (FULL, SLIDING):
                raise UserError(f"{config.where}: layer_types names {kind!r:.100}, which is not supported")
        if window is None and SLIDING in types:
            raise UserError(f"{config.where}: layer_types has {SLIDING}, but {key} is not set")
        windows = [window if kind == SLIDING else None for kind in types]
        settings["attention.window"] = None if window is None else windows

    def write(self, key: str, model: Decoder) -> dict[str, Any]:
        windows = windows_of(model)
        switch = {"use_sliding_window": any(windows)} if self.switch else {}
        types = {"layer_types": [FULL if window is None else SLIDING for window in windows]} if self.types else {}
        return {**switch, key: next(filter(None, windows), None), **types}


def read_fields(fields: Fields, config: ConfigJson, settings: Settings) -> None:
    for key, one in fields.items():
        one.read(key, config, settings)


def write_fields(fields: Fields, model: Decoder) -> dict[str, Any]:
    return {key: value for name, one in fields.items() for key, value in one.write(name, model).items()}


def value_at(model: Decoder, path: str, missing: Any) -> Any:
    """What a decoder has at a path of its settings, or `missing`.

    Layers may differ: "attention" and "block" are those of the first, "feedforward" is the last network, "experts" the
    last that has any, and "dense" the first that has none.
    """
    first, networks = model.layers[0], [block.feedforward for block in model.layers]
    experts = [network for network in networks if isinstance(network, MixtureOfExperts)]
    parts = {
        "attention": first.attention,
        "block": first,
        "feedforward": networks[-1],
        "experts": [*networks, *experts][-1],
        "dense": next((network for network in networks if network not in experts), None),
        "is_dense": [network not in experts for network in networks],
        "tie_embeddings": model.head.weight is None,
    }
    root, *names = path.split(".")
    part = parts[root] if root in parts else getattr(model, root)
    for name in names:
        part = getattr(part, name, missing)
    return part
