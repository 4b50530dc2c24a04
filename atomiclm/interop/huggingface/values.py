"""What kind of value each key of a `config.json` holds, so that no reader of one meets another.

The file comes from anyone: `"hidden_size": "4096"` or `1e9` layers must be an error that names the key, not a
TypeError somewhere in a constructor or a machine without memory.
"""

import math
from typing import Any

from atomiclm.user_error import UserError

MAX_SIZE = 1 << 24
"""A width, a vocabulary or a context is smaller (sixteen million; the longest context in use has ten)."""

MAX_LAYERS = 2048
"""The deepest published decoders have a few hundred."""

MAX_HEADS = 1 << 14
"""Heads, experts, groups and head widths are fewer."""

_LAYERS = frozenset(("num_hidden_layers", "n_layer", "n_layers", "first_k_dense_replace", "max_window_layers"))
_HEADS = frozenset(
    (
        "num_attention_heads", "num_key_value_heads", "head_dim", "n_head", "n_heads", "num_local_experts",
        "num_experts", "n_routed_experts", "n_shared_experts", "num_experts_per_tok", "n_group", "topk_group",
        "decoder_sparse_step", "no_rope_layer_interval", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
        "alibi_bias_max",
    )
)  # fmt: skip
_SIZES = frozenset(
    (
        "vocab_size", "hidden_size", "n_embd", "n_embed", "d_model", "n_inner", "intermediate_size",
        "moe_intermediate_size", "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx",
        "sliding_window", "original_max_position_embeddings", "kv_lora_rank", "q_lora_rank",
    )
)  # fmt: skip
_NUMBERS = frozenset(
    (
        "rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "rope_theta", "partial_rotary_factor", "rotary_pct",
        "rotary_emb_base", "factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow",
        "attention_factor", "mscale", "mscale_all_dim", "routed_scaling_factor", "query_pre_attn_scalar",
        "attn_logit_softcapping", "final_logit_softcapping", "attention_multiplier", "residual_multiplier",
        "embedding_multiplier", "logits_scaling", "softmax_scale", "rope_local_base_freq",
    )
)  # fmt: skip
_FLAGS = frozenset(
    (
        "attention_bias", "mlp_bias", "tie_word_embeddings", "use_sliding_window", "use_parallel_residual",
        "scale_attn_weights", "norm_topk_prob", "truncate", "alibi",
    )
)  # fmt: skip
_TEXTS = frozenset(
    ("model_type", "rope_type", "type", "hidden_act", "hidden_activation", "activation_function", "topk_method",
     "scoring_func")
)  # fmt: skip
_OBJECTS = frozenset(("rope_scaling", "rope_parameters", "attn_config"))
_INTEGER_LISTS = frozenset(("mlp_only_layers", "no_rope_layers"))
_TEXT_LISTS = frozenset(("layer_types",))


def check_value(where: str, key: str, value: Any) -> None:
    """Raise unless a value that is there is of the key's kind, and within its bounds; keys not listed hold anything.

    Raises:
        ValueError: names ``where`` and the key.
    """
    if value is None:
        return
    for keys, most in ((_LAYERS, MAX_LAYERS), (_HEADS, MAX_HEADS), (_SIZES, MAX_SIZE)):
        if key in keys and not (type(value) is int and 0 <= value <= most):
            _refuse(where, key, value, f"must be an integer from 0 to {most}")
    if key in _NUMBERS and not (type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)):
        _refuse(where, key, value, "must be a number")
    if key in _FLAGS and type(value) is not bool:
        _refuse(where, key, value, "must be true or false")
    if key in _TEXTS and not isinstance(value, str):
        _refuse(where, key, value, "must be a text")
    if key in _OBJECTS and not isinstance(value, dict):
        _refuse(where, key, value, "must be an object")
    for keys, kind, name in ((_INTEGER_LISTS, int, "integers"), (_TEXT_LISTS, str, "texts")):
        if key in keys and not (isinstance(value, list) and all(type(item) is kind for item in value)):
            _refuse(where, key, value, f"must be a list of {name}")


def _refuse(where: str, key: str, value: Any, rule: str) -> None:
    raise UserError(f"{where}: {key}={value!r:.80} cannot be read; it {rule}")
