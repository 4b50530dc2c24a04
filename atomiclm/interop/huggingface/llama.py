"""Llama, and what the many architectures made after it have in common with it."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from torch import nn

from atomiclm.interop.describe import blocks_of, window_of
from atomiclm.interop.huggingface.activations import read_activation, write_activation
from atomiclm.interop.huggingface.architecture import Architecture, Names
from atomiclm.interop.huggingface.rope import max_positions, read_rope, write_rope
from atomiclm.interop.huggingface.settings import Settings
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
from atomiclm.model.activation import Activation
from atomiclm.user_error import UserError

type Window = int | list[int | None] | None
"""``window`` of ``MultiHeadAttention``: of all layers, by layer, or none."""


class LlamaFamily(Architecture):
    """Grouped-query attention with rotary positions, RMS norms, a gated network.

    A subclass overrides the part in which it differs: how it reads that part, and how it writes it.

    heads_divide_width   whether transformers insists on that even where head_dim is given
    default_*   what transformers takes where `config.json` is silent
    """

    default_theta: ClassVar[float] = 10000.0
    default_eps: ClassVar[float] = 1e-6
    default_tied: ClassVar[bool] = False
    default_head_dim: ClassVar[int | None] = None
    default_num_kv_heads: ClassVar[int | None] = None
    activation_key: ClassVar[str] = "hidden_act"
    default_activation: ClassVar[str] = "silu"
    heads_divide_width: ClassVar[bool] = False

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

    def read(self, settings: Settings) -> dict[str, Any]:
        """Keyword arguments of ``Decoder``."""
        return {
            "vocab_size": settings.need("vocab_size"),
            "dim": settings.need("hidden_size"),
            "num_layers": settings.need("num_hidden_layers"),
            "context_length": settings.need("max_position_embeddings"),
            "attention": partial(MultiHeadAttention, **self.read_attention(settings)),
            "feedforward": self.read_feedforward(settings),
            "norm": self.read_norm(settings),
            "position": self.read_position(settings),
            "block": self.read_block(settings),
            "tie_embeddings": settings.get("tie_word_embeddings", self.default_tied),
            **self.read_ends(settings),
        }

    def read_attention(self, settings: Settings) -> dict[str, Any]:
        """Arguments of ``MultiHeadAttention``."""
        heads = settings.need("num_attention_heads")
        return {
            "num_heads": heads,
            "num_kv_heads": settings.optional("num_key_value_heads", self.default_num_kv_heads) or heads,
            "head_dim": settings.optional("head_dim", self.default_head_dim) or settings.need("hidden_size") // heads,
            "bias": settings.get("attention_bias", False),
            "window": self.read_window(settings),
        }

    def read_window(self, settings: Settings) -> Window:
        """``window`` of ``MultiHeadAttention``; plain Llama has none."""
        settings.only("sliding_window")
        return None

    def read_feedforward(self, settings: Settings) -> Callable[..., nn.Module]:
        """The feed-forward network."""
        return partial(
            GatedFeedForward,
            hidden_dim=settings.need("intermediate_size"),
            activation=self.read_activation(settings),
            bias=settings.get("mlp_bias", False),
        )

    def read_activation(self, settings: Settings) -> Activation:
        """Our name of the activation."""
        return read_activation(settings, self.activation_key, self.default_activation)

    def read_norm(self, settings: Settings) -> Callable[..., nn.Module]:
        """The norm of all places."""
        return partial(RMSNorm, eps=settings.get("rms_norm_eps", self.default_eps))

    def read_position(self, settings: Settings) -> Callable[..., Position]:
        """The position scheme."""
        return read_rope(settings, self.default_theta)

    def read_block(self, settings: Settings) -> Callable[..., Block]:
        """How a layer is joined."""
        return TransformerBlock

    def read_ends(self, settings: Settings) -> dict[str, Any]:
        """``embedding`` and ``head``, where they are not the plain ones."""
        return {}

    def write(self, model: Decoder) -> dict[str, Any]:
        """The configuration.

        Raises:
            ValueError: transformers would refuse it.
        """
        heads = blocks_of(model)[0].attention.num_heads
        if self.heads_divide_width and model.dim % heads:
            raise UserError(f"model.attention.num_heads: {heads} must divide model.dim={model.dim}, even with head_dim")
        return {
            "vocab_size": model.vocab_size,
            "hidden_size": model.dim,
            "num_hidden_layers": model.num_layers,
            "max_position_embeddings": max_positions(self.rotary_scheme(model), model.context_length),
            "rms_norm_eps": getattr(model.norm, "eps", self.default_eps),
            "tie_word_embeddings": model.head.weight is None,
            **self.write_attention(blocks_of(model)[0].attention),
            **self.write_window(model),
            **self.write_feedforward(model),
            **self.write_position(model),
            **self.write_ends(model),
        }

    def write_attention(self, attention: Attention) -> dict[str, Any]:
        """Keys of attention, read off the first layer's."""
        return {
            "num_attention_heads": attention.num_heads,
            "num_key_value_heads": getattr(attention, "num_kv_heads", attention.num_heads),
            "head_dim": attention.head_dim,
            "attention_bias": getattr(attention, "bias", False),
        }

    def write_window(self, model: Decoder) -> dict[str, Any]:
        """Keys of the window."""
        return {}

    def write_feedforward(self, model: Decoder) -> dict[str, Any]:
        """Keys of the feed-forward network, read off the last layer's."""
        network = blocks_of(model)[-1].feedforward
        return {
            "intermediate_size": getattr(network, "hidden_dim", 4 * model.dim),
            self.activation_key: write_activation(getattr(network, "activation", "silu")),
            "mlp_bias": getattr(network, "bias", False),
        }

    def write_position(self, model: Decoder) -> dict[str, Any]:
        """Keys of the position scheme, read off the first layer's."""
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


def windows_of(model: Decoder) -> list[int | None]:
    """The window of each layer."""
    return [window_of(block.attention) for block in blocks_of(model)]


def read_layer_types(settings: Settings, window: int | None, default: list[str]) -> list[int | None]:
    """The window of each layer, by ``layer_types``.

    Raises:
        ValueError: a layer is neither "full_attention" nor "sliding_attention", or slides without a window.
    """
    types = settings.get("layer_types", default)
    for kind in types:
        if kind not in ("full_attention", "sliding_attention"):
            raise UserError(f"{settings.where}: layer_types names {kind!r}, which is not known here")
    if window is None and "sliding_attention" in types:
        raise UserError(f"{settings.where}: layer_types has sliding_attention, but sliding_window is not set")
    return [window if kind == "sliding_attention" else None for kind in types]


def write_layer_types(windows: list[int | None]) -> list[str]:
    """``layer_types`` of the windows of all layers."""
    return ["full_attention" if window is None else "sliding_attention" for window in windows]
