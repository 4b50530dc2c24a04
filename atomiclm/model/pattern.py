"""Layers that differ: a component, or a position scheme, for each layer by a pattern."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from atomiclm.model.position import Position
from atomiclm.model.sizes import supply_part


class LayerPattern:
    """Stands for an attention or a feed-forward network and chooses among several by the layer.

    components   by name; each is a class or a partial of one, given the sizes its constructor names
    pattern      names, one a layer, repeated to the last layer: five times "local", then "global", say
    first        names of the first layers, before the pattern begins (dense layers before experts, as in DeepSeek-V2)
    """

    def __init__(
        self,
        components: Mapping[str, Callable[..., nn.Module]],
        pattern: Sequence[str],
        first: Sequence[str] = (),
    ) -> None:
        check_pattern("components", components, pattern, first)
        self.components = components
        self.pattern = pattern
        self.first = first

    def __call__(self, layer: int, **sizes: Any) -> nn.Module:
        """Build the component of layer ``layer`` (from 0)."""
        name = name_of_layer(layer, self.pattern, self.first)
        return supply_part(f"components.{name}", self.components[name], layer=layer, **sizes)


class PositionPattern(Position):
    """A position scheme for each layer: rotary in three layers of four and none in the fourth, say.

    schemes, pattern, first   as for ``LayerPattern``. Layers of one name share one scheme; one that no layer has is not
                              built, so that it has no parameters and no last position.

    Source: Yang et al. 2025, arXiv 2501.18795 (rotary and NoPE layers interleaved); SmolLM3 has none in every fourth
    layer.
    """

    def __init__(
        self,
        schemes: Mapping[str, Callable[..., Position]],
        pattern: Sequence[str],
        num_heads: int,
        head_dim: int,
        dim: int,
        context_length: int,
        num_layers: int,
        first: Sequence[str] = (),
    ) -> None:
        super().__init__()
        check_pattern("schemes", schemes, pattern, first)
        sizes = {
            "num_heads": num_heads,
            "head_dim": head_dim,
            "dim": dim,
            "context_length": context_length,
            "num_layers": num_layers,
        }
        self.pattern = pattern
        self.first = first
        self.schemes = nn.ModuleDict(
            {
                name: supply_part(f"schemes.{name}", scheme, Position, **sizes)
                for name, scheme in schemes.items()
                if name in (*first, *pattern)
            }
        )
        limits = [limit for limit in (self._scheme(name).max_length for name in self.schemes) if limit is not None]
        self.max_length = min(limits) if limits else None

    def _scheme(self, name: str) -> Position:
        scheme = self.schemes[name]
        assert isinstance(scheme, Position)
        return scheme

    def of_layer(self, layer: int) -> Position:
        """The scheme of that layer."""
        return self._scheme(name_of_layer(layer, self.pattern, self.first))


def name_of_layer(layer: int, pattern: Sequence[str], first: Sequence[str] = ()) -> str:
    """The name that stands for layer ``layer`` (from 0)."""
    return first[layer] if layer < len(first) else pattern[(layer - len(first)) % len(pattern)]


def check_pattern(argument: str, known: Mapping[str, Any], pattern: Sequence[str], first: Sequence[str]) -> None:
    """Raise unless the pattern names something, and only what is there."""
    if not pattern:
        raise ValueError("pattern is empty; give one name a layer, repeated to the last layer")
    for name in (*first, *pattern):
        if name not in known:
            raise ValueError(f"pattern names {name!r}; {argument} has {', '.join(known) or 'nothing'}")
