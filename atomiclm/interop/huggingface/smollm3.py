"""SmolLM3: Llama whose every fourth layer has no positions."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from atomiclm.interop.describe import blocks_of
from atomiclm.interop.huggingface.llama import LlamaFamily, Window, read_layer_types, windows_of, write_layer_types
from atomiclm.interop.huggingface.settings import Settings
from atomiclm.model import Decoder, NoPosition, Position, PositionPattern, RotaryEmbedding


class SmolLM3(LlamaFamily):
    """Bakouch et al. 2025 (a post, "SmolLM3"), with NoPE layers after Yang et al. 2025, arXiv 2501.18795."""

    model_type = "smollm3"
    class_name = "SmolLM3ForCausalLM"
    default_theta = 2_000_000.0
    default_num_kv_heads = 4
    default_tied = True

    def read_window(self, settings: Settings) -> Window:
        """Windows, where they are switched on: by default in the layers without positions."""
        slides = settings.get("use_sliding_window", False)
        window = settings.get("sliding_window") if slides else None
        default = ["full_attention" if turns or window is None else "sliding_attention" for turns in _turning(settings)]
        windows = read_layer_types(settings, window, default) if slides else read_layer_types(settings, window, [])
        return windows if any(windows) else None

    def read_position(self, settings: Settings) -> Callable[..., Position]:
        """Rotary in the layers marked 1, nothing in those marked 0."""
        rotary, turning = super().read_position(settings), _turning(settings)
        if all(turning):
            return rotary
        pattern = ["rotary" if turns else "none" for turns in turning]
        return partial(PositionPattern, schemes={"rotary": rotary, "none": NoPosition}, pattern=pattern)

    def write_window(self, model: Decoder) -> dict[str, Any]:
        """Keys of the window."""
        windows = windows_of(model)
        window = next(filter(None, windows), None)
        return {
            "use_sliding_window": window is not None,
            "sliding_window": window,
            "layer_types": write_layer_types(windows),
        }

    def write_position(self, model: Decoder) -> dict[str, Any]:
        """Keys of the position scheme."""
        turning = [isinstance(model.position.of_layer(layer), RotaryEmbedding) for layer in range(model.num_layers)]
        return super().write_position(model) | {"no_rope_layers": [int(turns) for turns in turning]}

    def limits(self, model: Decoder) -> Iterator[str]:
        """Features that cannot be paired are refused, even where no layer turns any."""
        yield from super().limits(model)
        head_dim = blocks_of(model)[0].attention.head_dim
        if head_dim % 2:
            yield f"model.attention.head_dim: {head_dim} is odd, which it refuses also without positions"

    def rotary_scheme(self, model: Decoder) -> Position:
        """That of the first layer that turns anything."""
        schemes = [model.position.of_layer(layer) for layer in range(model.num_layers)]
        return next((scheme for scheme in schemes if isinstance(scheme, RotaryEmbedding)), schemes[0])


def _turning(settings: Settings) -> list[bool]:
    """Whether each layer has rotary positions."""
    layers, interval = settings.need("num_hidden_layers"), settings.get("no_rope_layer_interval", 4)
    marks = settings.get("no_rope_layers", [int((layer + 1) % interval != 0) for layer in range(layers)])
    return [bool(mark) for mark in marks[:layers]]
