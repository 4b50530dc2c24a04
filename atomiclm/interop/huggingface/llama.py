"""Llama, and what the many architectures made after it have in common with it."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from torch import nn

from atomiclm.cli import UserError
from atomiclm.interop.describe import blocks_of
from atomiclm.interop.huggingface.architecture import Architecture, Names, windows_of
from atomiclm.interop.huggingface.config_json import ConfigJson, their_activation
from atomiclm.interop.huggingface.rope import max_positions, read_rope, write_rope
from atomiclm.model import (
    Attention,
    Block,
    Decoder,
    GatedFeedForward,
    MultiHeadAttention,
    Position,
    RMSNorm,
    TransformerBlock,
)

type Window = int | list[int | None] | None
"""`window` of `MultiHeadAttention`: of all layers, by layer, or none."""


class LlamaFamily(Architecture):
    """Grouped-query attention with rotary positions, RMS norms, a gated network.

    A subclass states the classes and defaults in which it differs, and overrides how it reads and writes a part where
    more differs.

    Attributes:
        norm, block, query_key_norm: classes of the parts.
        default_...: what transformers takes where `config.json` is silent.
        heads_divide_width: whether transformers insists on that even where head_dim is given.
        unwritten: keys that the configuration of this class does not have.
    """

    norm: ClassVar[Callable[..., nn.Module]] = RMSNorm
    block: ClassVar[Callable[..., Block]] = TransformerBlock
    query_key_norm: ClassVar[Callable[..., nn.Module] | None] = None
    default_theta: ClassVar[float] = 10000.0
    default_eps: ClassVar[float] = 1e-6
    default_tied: ClassVar[bool] = False
    default_head_dim: ClassVar[int | None] = None
    default_num_kv_heads: ClassVar[int | None] = None
    activation_key: ClassVar[str] = "hidden_act"
    default_activation: ClassVar[str] = "silu"
    heads_divide_width: ClassVar[bool] = False
    unwritten: ClassVar[tuple[str, ...]] = ()

    outside: ClassVar[Names] = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
    stem = "model.layers"
    inside: ClassVar[Names] = {
        "attention_norm": "input_layernorm",
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "attention.query_key_norm.query": "self_attn.q_norm.weight",
        "attention.query_key_norm.key": "self_attn.k_norm.weight",
        "feedforward_norm": "post_attention_layernorm",
        "feedforward.gate": "mlp.gate_proj",
        "feedforward.up": "mlp.up_proj",
        "feedforward.down": "mlp.down_proj",
    }

    def read(self, config: ConfigJson) -> dict[str, Any]:
        return {
            "vocab_size": config.need("vocab_size"),
            "dim": config.need("hidden_size"),
            "num_layers": config.need("num_hidden_layers"),
            "context_length": config.need("max_position_embeddings"),
            "attention": partial(MultiHeadAttention, **self.read_attention(config)),
            "feedforward": self.read_feedforward(config),
            "norm": self.read_norm(config, self.norm),
            "position": self.read_position(config),
            "block": self.read_block(config),
            "tie_embeddings": config.get("tie_word_embeddings", self.default_tied),
            **self.read_ends(config),
        }

    def read_attention(self, config: ConfigJson) -> dict[str, Any]:
        """Arguments of `MultiHeadAttention`."""
        heads = config.need("num_attention_heads")
        norm = {"query_key_norm": self.read_norm(config, self.query_key_norm)} if self.query_key_norm else {}
        return {
            "num_heads": heads,
            "num_kv_heads": config.optional("num_key_value_heads", self.default_num_kv_heads) or heads,
            "head_dim": config.optional("head_dim", self.default_head_dim) or config.need("hidden_size") // heads,
            "bias": config.get("attention_bias", False),
            "window": self.read_window(config),
            **norm,
        }

    def read_window(self, config: ConfigJson) -> Window:
        """`window` of `MultiHeadAttention`; plain Llama has none."""
        config.only("sliding_window")
        return None

    def read_feedforward(self, config: ConfigJson) -> Callable[..., nn.Module]:
        return partial(
            GatedFeedForward,
            hidden_dim=config.need("intermediate_size"),
            activation=config.activation(self.activation_key, self.default_activation),
            bias=config.get("mlp_bias", False),
        )

    def read_norm(self, config: ConfigJson, norm: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        return partial(norm, eps=config.get("rms_norm_eps", self.default_eps))

    def read_position(self, config: ConfigJson) -> Callable[..., Position]:
        return read_rope(config, self.default_theta)

    def read_block(self, config: ConfigJson) -> Callable[..., Block]:
        return self.block

    def read_ends(self, config: ConfigJson) -> dict[str, Any]:
        """`embedding` and `head`, where they are not the plain ones."""
        return {}

    def write(self, model: Decoder) -> dict[str, Any]:
        """The configuration. Raises UserError where transformers would refuse it."""
        attention = blocks_of(model)[0].attention
        heads = attention.num_heads
        if self.heads_divide_width and model.dim % heads:
            raise UserError(f"model.attention.num_heads: {heads} must divide model.dim={model.dim}, even with head_dim")
        keys = {
            "vocab_size": model.vocab_size,
            "hidden_size": model.dim,
            "num_hidden_layers": model.num_layers,
            "max_position_embeddings": max_positions(self.rotary_scheme(model), model.context_length),
            "rms_norm_eps": getattr(model.norm, "eps", self.default_eps),
            "tie_word_embeddings": model.head.weight is None,
            **self.write_attention(attention),
            **self.write_window(windows_of(model)),
            **self.write_feedforward(model),
            **self.write_position(model),
            **self.write_ends(model),
        }
        return {key: value for key, value in keys.items() if key not in self.unwritten}

    def write_attention(self, attention: Attention) -> dict[str, Any]:
        """Keys read off the first layer's attention."""
        return {
            "num_attention_heads": attention.num_heads,
            "num_key_value_heads": getattr(attention, "num_kv_heads", attention.num_heads),
            "head_dim": attention.head_dim,
            "attention_bias": getattr(attention, "bias", False),
        }

    def write_window(self, windows: list[int | None]) -> dict[str, Any]:
        return {}

    def write_feedforward(self, model: Decoder) -> dict[str, Any]:
        """Keys read off the last layer's feed-forward network."""
        network = blocks_of(model)[-1].feedforward
        return {
            "intermediate_size": getattr(network, "hidden_dim", 4 * model.dim),
            self.activation_key: their_activation(getattr(network, "activation", "silu")),
            "mlp_bias": getattr(network, "bias", False),
        }

    def write_position(self, model: Decoder) -> dict[str, Any]:
        return {"rope_parameters": write_rope(self.rotary_scheme(model))}

    def rotary_scheme(self, model: Decoder) -> Position:
        """The scheme that stands for all: that of the first layer."""
        return model.position.of_layer(0)

    def write_ends(self, model: Decoder) -> dict[str, Any]:
        """Keys of the embedding and the head."""
        return {}


class Llama(LlamaFamily):
    """Touvron et al. 2023, arXiv 2302.13971; Llama 2 and 3."""

    model_type = "llama"
    class_name = "LlamaForCausalLM"
    heads_divide_width = True


def read_layer_types(config: ConfigJson, window: int | None, default: list[str]) -> list[int | None]:
    """The window of each layer, by `layer_types`.

    Raises:
        UserError: a layer is neither "full_attention" nor "sliding_attention", or slides without a window.
    """
    types = config.get("layer_types", default)
    for kind in types:
        if kind not in ("full_attention", "sliding_attention"):
            raise UserError(f"{config.where}: layer_types names {kind!r}, which is not supported")
    if window is None and "sliding_attention" in types:
        raise UserError(f"{config.where}: layer_types has sliding_attention, but sliding_window is not set")
    return [window if kind == "sliding_attention" else None for kind in types]


def write_layer_types(windows: list[int | None]) -> dict[str, Any]:
    """`sliding_window` and `layer_types` of the windows of all layers."""
    types = ["full_attention" if window is None else "sliding_attention" for window in windows]
    return {"sliding_window": next(filter(None, windows), None), "layer_types": types}
