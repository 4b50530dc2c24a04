"""Rotary positions as transformers writes them: `rope_parameters`, and the older `rope_theta` with `rope_scaling`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from atomiclm.cli import UserError
from atomiclm.interop.huggingface.config_json import ConfigJson
from atomiclm.model import (
    DynamicNTK,
    Llama3Scaling,
    Position,
    PositionInterpolation,
    ProportionalRotary,
    RotaryEmbedding,
    YaRN,
)


def read_rope(
    config: ConfigJson, default_theta: float = 10000.0, partial_rotary: bool = False
) -> Callable[..., Position]:
    """The position scheme that a configuration names.

    Args:
        config: of the model.
        default_theta: where it is silent.
        partial_rotary: whether the architecture rotates only `partial_rotary_factor` of the features.

    Raises:
        UserError: an unsupported scaling, or an option of one.
    """
    legacy_theta = config.get("rope_theta", default_theta)
    length = config.need("max_position_embeddings")
    # transformers gives rope_scaling precedence when both are there.
    scaling, parameters = config.get("rope_scaling"), config.get("rope_parameters")
    fraction = config.get("partial_rotary_factor", 1.0)
    rope = ConfigJson(scaling or parameters or {}, f"{config.where}: rope_parameters")
    kind = rope.get("rope_type", rope.get("type", "default"))
    rope.get("type")
    theta = float(rope.get("rope_theta", legacy_theta))
    fraction = float(rope.get("partial_rotary_factor", fraction))
    common: dict[str, Any] = {"theta": theta, "layout": "half"}
    if kind == "proportional":
        rope.only("factor", 1.0, 1)
        rope.finish()
        return partial(ProportionalRotary, fraction=fraction, **common)
    if fraction != 1.0 and not partial_rotary:
        raise UserError(f"{rope.where}: partial_rotary_factor={fraction} is not supported for this architecture")
    common["rotary_fraction"] = fraction
    scheme = _scaled(kind, rope, length, common)
    rope.finish()
    return scheme


def _scaled(kind: str, rope: ConfigJson, length: int, common: dict[str, Any]) -> Callable[..., Position]:
    if kind == "default":
        return partial(RotaryEmbedding, **common)
    if kind == "linear":
        return partial(PositionInterpolation, factor=rope.need("factor"), **common)
    if kind == "dynamic":
        rope.only("original_max_position_embeddings", length)
        return partial(DynamicNTK, factor=rope.need("factor"), original_length=length, **common)
    if kind == "llama3":
        return partial(
            Llama3Scaling,
            factor=rope.need("factor"),
            low_frequency_factor=rope.need("low_freq_factor"),
            high_frequency_factor=rope.need("high_freq_factor"),
            original_length=rope.get("original_max_position_embeddings", length),
            **common,
        )
    if kind == "yarn":
        original_length = rope.get("original_max_position_embeddings", length)
        return partial(
            YaRN,
            factor=rope.get("factor", length / original_length),
            original_length=original_length,
            beta_fast=rope.get("beta_fast", 32.0),
            beta_slow=rope.get("beta_slow", 1.0),
            attention_factor=rope.get("attention_factor"),
            mscale=rope.get("mscale"),
            mscale_all_dim=rope.get("mscale_all_dim"),
            truncate=rope.get("truncate", True),
            **common,
        )
    raise UserError(
        f"{rope.where}: rope_type={kind!r} cannot be read; supported are default, linear, dynamic, yarn, llama3, "
        "proportional"
    )


def write_rope(position: Position) -> dict[str, Any]:
    """``rope_parameters`` of a scheme; of one that transformers has not, those of plain RoPE (a comparison tells)."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": getattr(position, "theta", 10000.0)}
    if isinstance(position, ProportionalRotary):
        return rope | {"rope_type": "proportional", "partial_rotary_factor": position.fraction}
    if getattr(position, "rotary_fraction", 1.0) != 1.0:
        rope["partial_rotary_factor"] = position.rotary_fraction
    if isinstance(position, PositionInterpolation):
        return rope | {"rope_type": "linear", "factor": position.factor}
    if isinstance(position, DynamicNTK):
        return rope | {"rope_type": "dynamic", "factor": position.factor}
    if isinstance(position, Llama3Scaling):
        return rope | {
            "rope_type": "llama3",
            "factor": position.factor,
            "low_freq_factor": position.low_frequency_factor,
            "high_freq_factor": position.high_frequency_factor,
            "original_max_position_embeddings": position.original_length,
        }
    if isinstance(position, YaRN):
        optional = {"attention_factor": position.attention_factor, "mscale": position.mscale,
                    "mscale_all_dim": position.mscale_all_dim}  # fmt: skip
        return rope | {
            "rope_type": "yarn",
            "factor": position.factor,
            "original_max_position_embeddings": position.original_length,
            "beta_fast": position.beta_fast,
            "beta_slow": position.beta_slow,
            "truncate": position.truncate,
            **{key: value for key, value in optional.items() if value is not None},
        }
    return rope


def max_positions(position: Position, context_length: int) -> int:
    """``max_position_embeddings``: the context, or the length beyond it that dynamic scaling is measured from.

    From one within the context transformers scales each length differently, and ours does not: a comparison tells.
    """
    return max(position.original_length, context_length) if isinstance(position, DynamicNTK) else context_length
