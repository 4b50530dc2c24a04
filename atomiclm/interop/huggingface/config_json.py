"""A `config.json` read within bounds; what nobody read is refused, since an ignored option makes another model.

The file comes from anyone: `"hidden_size": "4096"` or `1e9` layers must be an error that names the key, not a TypeError
somewhere in a constructor or a machine without memory.
"""

import math
from collections.abc import Mapping
from typing import Any

from atomiclm.cli import UserError
from atomiclm.model.feedforward import Activation

MAX_SIZE = 1 << 24
"""A width, a vocabulary or a context is smaller (sixteen million; the longest context in use has ten)."""

MAX_LAYERS = 2048
"""The deepest published decoders have a few hundred."""

MAX_HEADS = 1 << 14
"""Heads, experts, groups and head widths are fewer."""

_IGNORED = frozenset(
    (
        # What wrote the file, and how to hold the model in memory.
        "architectures", "model_type", "transformers_version", "dtype", "torch_dtype", "_name_or_path", "auto_map",
        "use_cache", "return_dict", "output_attentions", "output_hidden_states", "chunk_size_feed_forward",
        "_attn_implementation", "attn_implementation", "pretraining_tp", "ep_size", "is_decoder", "torchscript",
        # How it was initialised and trained.
        "initializer_range", "attention_dropout", "hidden_dropout", "classifier_dropout", "resid_pdrop", "embd_pdrop",
        "attn_pdrop", "emb_pdrop", "output_router_logits", "router_aux_loss_coef", "router_jitter_noise",
        "aux_loss_alpha", "seq_aux", "embedding_fraction", "num_nextn_predict_layers", "num_mtp_layers",
        # Special tokens, and heads for other tasks.
        "bos_token_id", "eos_token_id", "pad_token_id", "id2label", "label2id", "problem_type", "is_encoder_decoder",
        "task_specific_params", "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
        "summary_first_dropout",
    )
)  # fmt: skip
"""Keys that leave the function of the language model as it is, dropout and losses of training included."""

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

# Of several names for one function the first is written.
_ACTIVATIONS: dict[str, Activation] = {
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
_THEIR_ACTIVATION: dict[str, str] = {str(ours): theirs for theirs, ours in reversed(_ACTIVATIONS.items())}


class ConfigJson:
    """Keys of a configuration, each marked as it is read; `finish` raises for those left over.

    Args:
        config: the parsed JSON.
        where: what messages call it, such as "config.json" or "config.json: rope_parameters".
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self.config = config
        self.where = where
        self._read: set[str] = set(_IGNORED)

    def get(self, key: str, default: Any = None) -> Any:
        """The value; `default`, which should be transformers' own, where it is absent or null.

        Raises:
            UserError: it is not of the kind that the key holds; so do the methods below.
        """
        value = self.optional(key, None)
        return default if value is None else value

    def optional(self, key: str, default: Any) -> Any:
        """The value, None where it is null, which says something; `default` where it is absent."""
        self._read.add(key)
        check_value(self.where, key, self.config.get(key))
        return self.config.get(key, default)

    def need(self, key: str) -> Any:
        """The value. Raises UserError where it is absent."""
        if self.config.get(key) is None:
            raise UserError(f"{self.where}: {key} is missing; without it the model cannot be built")
        return self.get(key)

    def only(self, key: str, *allowed: Any, default: Any = None) -> Any:
        """The value, if it is one of `allowed` (or absent). Raises UserError for any other, which changes the model."""
        value = self.get(key, default)
        if value is not None and value not in allowed:
            shown = " or ".join(repr(one) for one in allowed) or "absent"
            raise UserError(f"{self.where}: {key}={value!r:.100} cannot be read; only {shown} is supported")
        return value

    def ignore(self, *keys: str) -> None:
        """Mark keys as read that do nothing for this architecture."""
        for key in keys:
            self.get(key)

    def activation(self, key: str, default: str) -> Activation:
        """Our name of the activation under that key."""
        name = self.get(key, default)
        if name not in _ACTIVATIONS:
            raise UserError(f"{self.where}: {key}={name!r} cannot be read; supported are {', '.join(_ACTIVATIONS)}")
        return _ACTIVATIONS[name]

    def finish(self) -> None:
        """Raise UserError for keys that were neither read nor are known to change nothing; null counts as absent."""
        unread = [key for key, value in self.config.items() if key not in self._read and value is not None]
        if unread:
            shown = ", ".join(
                f"{key if key.isprintable() else ascii(key):.60}={self.config[key]!r:.60}" for key in unread[:8]
            )
            raise UserError(
                f"{self.where}: {shown} not understood, and a model read without it may be another one; "
                "remove it from the file if it changes nothing"
            )


def their_activation(name: str) -> str:
    return _THEIR_ACTIVATION[name]


def check_value(where: str, key: str, value: Any) -> None:
    """Raise UserError unless a value is of the key's kind and within its bounds; keys not listed hold anything."""
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
