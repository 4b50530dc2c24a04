"""Rotary positions as transformers writes them: `rope_parameters`, and the older `rope_theta` with `rope_scaling`."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from atomiclm import model as ours
from atomiclm.cli import UserError
from atomiclm.interop.huggingface.config_json import ConfigJson
from atomiclm.interop.huggingface.fields import Field, Setting, Settings, read_fields

_FACTOR = Setting("factor", kind=float)
_LENGTH = Setting("original_length", lambda settings: settings["context_length"])

_SCHEMES: dict[str, tuple[type[ours.RotaryEmbedding], dict[str, Setting]]] = {
    "linear": (ours.PositionInterpolation, {"factor": _FACTOR}),
    "dynamic": (ours.DynamicNTK, {"factor": _FACTOR}),
    "llama3": (
        ours.Llama3Scaling,
        {
            "factor": _FACTOR,
            "low_freq_factor": Setting("low_frequency_factor", kind=float),
            "high_freq_factor": Setting("high_frequency_factor", kind=float),
            "original_max_position_embeddings": _LENGTH,
        },
    ),
    "yarn": (
        ours.YaRN,
        {
            "original_max_position_embeddings": _LENGTH,
            "factor": Setting("factor", lambda own: own["context_length"] / own["original_length"], float),
            "beta_fast": Setting("beta_fast", 32.0),
            "beta_slow": Setting("beta_slow", 1.0),
            "attention_factor": Setting("attention_factor", None, float),
            "mscale": Setting("mscale", None, float),
            "mscale_all_dim": Setting("mscale_all_dim", None, float),
            "truncate": Setting("truncate", True),
        },
    ),
    "proportional": (ours.ProportionalRotary, {"partial_rotary_factor": Setting("fraction", 1.0)}),
    "default": (ours.RotaryEmbedding, {}),
}
"""Their names, our classes, and the arguments that one has beside theta: of a class and its parent the class first."""


@dataclass(frozen=True)
class Rope(Field):
    """The position scheme.

    `default_theta` is where no key says it; `partial`: whether the architecture can rotate a part of the features only.
    """

    default_theta: float = 10000.0
    partial: bool = False

    def read(self, key: str, config: ConfigJson, settings: Settings) -> None:
        theta, fraction = self.default_theta, 1.0
        if self.partial:  # older names, of GPT-NeoX
            theta, fraction = config.get("rotary_emb_base", theta, float), config.get("rotary_pct", 0.25, float)
        theta = config.get("rope_theta", theta, float)
        fraction = config.get("partial_rotary_factor", fraction, float)
        # transformers gives rope_scaling precedence when both are there.
        scaling, parameters = config.get("rope_scaling", None, dict), config.get(key, None, dict)
        rope = ConfigJson(scaling or parameters or {}, f"{config.where}: {key}")
        kind = rope.get("rope_type", rope.get("type", "default", str), str)
        rope.ignore("type")
        if kind not in _SCHEMES:
            raise UserError(f"{rope.where}: rope_type={kind!r:.80} cannot be read; supported are {', '.join(_SCHEMES)}")
        scheme, fields = _SCHEMES[kind]
        length = settings["context_length"]
        own: Settings = {
            "context_length": length,
            "theta": float(rope.get("rope_theta", theta, float)),
            "rotary_fraction": float(rope.get("partial_rotary_factor", fraction, float)),
            "layout": "half",
        }
        read_fields(fields, rope, own)
        del own["context_length"]
        if kind == "proportional":
            rope.only("factor", 1.0)
            own["fraction"] = own.pop("rotary_fraction")
        elif own["rotary_fraction"] != 1.0 and not self.partial:
            raise UserError(
                f"{rope.where}: partial_rotary_factor={own['rotary_fraction']} is not supported for this architecture"
            )
        if kind == "dynamic":
            rope.only("original_max_position_embeddings", length)
            own["original_length"] = length
        rope.finish()
        settings["position"] = partial(scheme, **own)

    def write(self, key: str, model: ours.Decoder) -> dict[str, Any]:
        """Of a scheme that transformers has not, the parameters of plain RoPE."""
        position = rotary_scheme(model)
        kind = next((kind for kind, (scheme, _) in _SCHEMES.items() if isinstance(position, scheme)), "default")
        own = {name: getattr(position, setting.path) for name, setting in _SCHEMES[kind][1].items()}
        rope = {"rope_type": kind, "rope_theta": getattr(position, "theta", 10000.0)}
        if kind != "proportional" and (self.partial or getattr(position, "rotary_fraction", 1.0) != 1.0):
            rope["partial_rotary_factor"] = getattr(position, "rotary_fraction", 1.0)
        return {key: rope | {name: value for name, value in own.items() if value is not None}}


def rotary_scheme(model: ours.Decoder) -> ours.Position:
    """The scheme of the first layer that rotates anything, or that of the first."""
    schemes = [model.position.of_layer(layer) for layer in range(model.num_layers)]
    return next((scheme for scheme in schemes if isinstance(scheme, ours.RotaryEmbedding)), schemes[0])


def _max_positions(context_length: int, model: ours.Decoder) -> int:
    """The context, or the length beyond it that dynamic scaling is measured from.

    From one within the context transformers scales each length differently, and ours does not: a comparison tells.
    """
    scheme = rotary_scheme(model)
    return max(scheme.trained_length, context_length) if isinstance(scheme, ours.DynamicNTK) else context_length


MAX_POSITIONS = Setting("context_length", to_theirs=_max_positions)
