"""Architectures that differ from Llama in a part or two, without experts."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

from torch import nn

from atomiclm.interop.describe import blocks_of
from atomiclm.interop.huggingface.architecture import Names
from atomiclm.interop.huggingface.config_json import ConfigJson
from atomiclm.interop.huggingface.llama import LlamaFamily, Window, read_layer_types, write_layer_types
from atomiclm.model import (
    Attention,
    Block,
    CappedSoftmax,
    Decoder,
    Embedding,
    FeedForward,
    Head,
    HeadNorm,
    NoPosition,
    OffsetRMSNorm,
    PlainHeadNorm,
    Position,
    PositionPattern,
    ReorderedNormBlock,
    RMSNorm,
    RotaryEmbedding,
    SandwichNormBlock,
    SoftcapHead,
    Softmax,
    TransformerBlock,
    WidthNorm,
)


class Mistral(LlamaFamily):
    """Jiang et al. 2023, arXiv 2310.06825. A sliding window in every layer, no biases anywhere."""

    model_type = "mistral"
    class_name = "MistralForCausalLM"
    default_num_kv_heads = 8
    unwritten: ClassVar[tuple[str, ...]] = ("attention_bias", "mlp_bias")

    def read_attention(self, config: ConfigJson) -> dict[str, Any]:
        config.only("attention_bias", False)
        return super().read_attention(config)

    def read_window(self, config: ConfigJson) -> Window:
        """One window for all layers; null is none, and silence is 4096."""
        window: int | None = config.optional("sliding_window", 4096)
        return window

    def write_window(self, windows: list[int | None]) -> dict[str, Any]:
        return {"sliding_window": windows[0]}


class Qwen2(LlamaFamily):
    """Yang et al. 2024, arXiv 2407.10671. Always biases on queries, keys and values; windows in the later layers."""

    model_type = "qwen2"
    class_name = "Qwen2ForCausalLM"
    default_num_kv_heads = 32
    unwritten: ClassVar[tuple[str, ...]] = ("attention_bias", "mlp_bias")

    def read_attention(self, config: ConfigJson) -> dict[str, Any]:
        return super().read_attention(config) | {"bias": True, "output_bias": False}

    def read_window(self, config: ConfigJson) -> Window:
        """Windows by layer, where they are switched on."""
        window = config.optional("sliding_window", 4096) if config.get("use_sliding_window", False) else None
        from_layer, layers = config.get("max_window_layers", 28), config.need("num_hidden_layers")
        default = [
            "sliding_attention" if window and layer >= from_layer else "full_attention" for layer in range(layers)
        ]
        windows = read_layer_types(config, window, default)
        return windows if any(windows) else None

    def write_window(self, windows: list[int | None]) -> dict[str, Any]:
        return {"use_sliding_window": any(windows), **write_layer_types(windows)}


class Qwen3(Qwen2):
    """Yang et al. 2025, arXiv 2505.09388. RMS norms of each head's queries and keys."""

    model_type = "qwen3"
    class_name = "Qwen3ForCausalLM"
    query_key_norm = HeadNorm
    default_head_dim: ClassVar[int | None] = 128
    unwritten = ("mlp_bias",)

    def read_attention(self, config: ConfigJson) -> dict[str, Any]:
        return super().read_attention(config) | {"bias": config.get("attention_bias", False), "output_bias": None}


class SmolLM3(LlamaFamily):
    """Bakouch et al. 2025 (a post, "SmolLM3"). Every fourth layer has no positions (Yang et al. 2025, 2501.18795)."""

    model_type = "smollm3"
    class_name = "SmolLM3ForCausalLM"
    default_theta = 2_000_000.0
    default_num_kv_heads = 4
    default_tied = True

    def read_window(self, config: ConfigJson) -> Window:
        """Windows, where they are switched on: by default in the layers without positions."""
        slides = config.get("use_sliding_window", False)
        window = config.get("sliding_window") if slides else None
        default = [
            "full_attention" if rotates or window is None else "sliding_attention" for rotates in _rotating(config)
        ]
        windows = read_layer_types(config, window, default if slides else [])
        return windows if any(windows) else None

    def read_position(self, config: ConfigJson) -> Callable[..., Position]:
        """Rotary in the layers marked 1, nothing in those marked 0."""
        rotary, rotating = super().read_position(config), _rotating(config)
        if all(rotating):
            return rotary
        pattern = ["rotary" if rotates else "none" for rotates in rotating]
        return partial(PositionPattern, schemes={"rotary": rotary, "none": NoPosition}, pattern=pattern)

    def write_window(self, windows: list[int | None]) -> dict[str, Any]:
        return {"use_sliding_window": any(windows), **write_layer_types(windows)}

    def write_position(self, model: Decoder) -> dict[str, Any]:
        rotating = [isinstance(model.position.of_layer(layer), RotaryEmbedding) for layer in range(model.num_layers)]
        return super().write_position(model) | {"no_rope_layers": [int(rotates) for rotates in rotating]}

    def limits(self, model: Decoder) -> Iterator[str]:
        yield from super().limits(model)
        head_dim = blocks_of(model)[0].attention.head_dim
        if head_dim % 2:  # features are paired even where no layer rotates any
            yield f"model.attention.head_dim: {head_dim} is odd, which it refuses also without positions"

    def rotary_scheme(self, model: Decoder) -> Position:
        """That of the first layer that rotates anything."""
        schemes = [model.position.of_layer(layer) for layer in range(model.num_layers)]
        return next((scheme for scheme in schemes if isinstance(scheme, RotaryEmbedding)), schemes[0])


def _rotating(config: ConfigJson) -> list[bool]:
    """Whether each layer has rotary positions."""
    layers, interval = config.need("num_hidden_layers"), config.get("no_rope_layer_interval", 4)
    marks = config.get("no_rope_layers", [int((layer + 1) % interval != 0) for layer in range(layers)])
    return [bool(mark) for mark in marks[:layers]]


class Granite(LlamaFamily):
    """Granite 3 of IBM (2024): Llama with four constant factors."""

    model_type = "granite"
    class_name = "GraniteForCausalLM"

    def read_attention(self, config: ConfigJson) -> dict[str, Any]:
        scale = config.get("attention_multiplier", 1.0)
        return super().read_attention(config) | {"scores": partial(Softmax, scale=scale)}

    def read_block(self, config: ConfigJson) -> Callable[..., Block]:
        return partial(TransformerBlock, residual_scale=config.get("residual_multiplier", 1.0))

    def read_ends(self, config: ConfigJson) -> dict[str, Any]:
        return {
            "embedding": partial(Embedding, scale=config.get("embedding_multiplier", 1.0)),
            "head": partial(Head, scale=1 / config.get("logits_scaling", 1.0)),
        }

    def write_attention(self, attention: Attention) -> dict[str, Any]:
        scale = getattr(getattr(attention, "scores", None), "scale", None)
        multiplier = attention.head_dim**-0.5 if scale is None else scale
        return super().write_attention(attention) | {"attention_multiplier": multiplier}

    def write_ends(self, model: Decoder) -> dict[str, Any]:
        scale = getattr(model.embedding, "scale", 1.0)
        return {
            "embedding_multiplier": model.dim**0.5 if scale == "sqrt_dim" else scale,
            "residual_multiplier": getattr(blocks_of(model)[0], "branch_scale", 1.0),
            "logits_scaling": 1 / getattr(model.head, "scale", 1.0),
        }


class Gemma2(LlamaFamily):
    """Gemma Team 2024, arXiv 2408.00118: sandwich norms, soft caps, windows in every other layer, scaled embeddings."""

    model_type = "gemma2"
    class_name = "Gemma2ForCausalLM"
    norm = OffsetRMSNorm
    block = SandwichNormBlock
    default_num_kv_heads = 4
    default_head_dim = 256
    default_tied = True
    activation_key = "hidden_activation"
    default_activation = "gelu_pytorch_tanh"
    heads_divide_width = True
    unwritten = ("mlp_bias",)

    inside: ClassVar[Names] = {
        **LlamaFamily.inside,
        "attention_output_norm": "post_attention_layernorm",
        "feedforward_norm": "pre_feedforward_layernorm",
        "feedforward_output_norm": "post_feedforward_layernorm",
    }

    def read_attention(self, config: ConfigJson) -> dict[str, Any]:
        config.only("use_bidirectional_attention", False)
        config.ignore("hidden_act")  # beside hidden_activation in older files, and not read by transformers either
        arguments = super().read_attention(config)
        width = config.get("query_pre_attn_scalar", 256)
        # Scores are divided by the root of this number, which need not be that of the head's width.
        scale = None if width == arguments["head_dim"] else width**-0.5
        cap = config.optional("attn_logit_softcapping", 50.0)
        scores = partial(Softmax, scale=scale) if cap is None else partial(CappedSoftmax, cap=cap, scale=scale)
        return arguments | {"scores": scores}

    def read_window(self, config: ConfigJson) -> Window:
        """Windows by layer; by default in every other one, the first included."""
        layers = config.need("num_hidden_layers")
        default = ["full_attention" if layer % 2 else "sliding_attention" for layer in range(layers)]
        return read_layer_types(config, config.optional("sliding_window", 4096), default)

    def read_ends(self, config: ConfigJson) -> dict[str, Any]:
        cap = config.optional("final_logit_softcapping", 30.0)
        head = Head if cap is None else partial(SoftcapHead, cap=cap)
        return {"embedding": partial(Embedding, scale="sqrt_dim"), "head": head}

    def write_attention(self, attention: Attention) -> dict[str, Any]:
        scores = getattr(attention, "scores", None)
        scale = getattr(scores, "scale", None)
        return super().write_attention(attention) | {
            "query_pre_attn_scalar": attention.head_dim if scale is None else round(scale**-2),
            "attn_logit_softcapping": getattr(scores, "cap", None),
        }

    def write_window(self, windows: list[int | None]) -> dict[str, Any]:
        return write_layer_types(windows)

    def write_ends(self, model: Decoder) -> dict[str, Any]:
        return {"final_logit_softcapping": getattr(model.head, "cap", None)}


class Olmo2(LlamaFamily):
    """OLMo Team 2024, arXiv 2501.00656: norms on what branches computed, and of all queries and keys together."""

    model_type = "olmo2"
    class_name = "Olmo2ForCausalLM"
    block = ReorderedNormBlock
    query_key_norm = WidthNorm
    default_eps = 1e-5
    unwritten = ("mlp_bias",)

    inside: ClassVar[Names] = {
        **LlamaFamily.inside,
        "attention_output_norm": "post_attention_layernorm",
        "feedforward_output_norm": "post_feedforward_layernorm",
    }


class NanoChat(LlamaFamily):
    """Karpathy 2025, github.com/karpathy/nanochat, as transformers has it: no gains anywhere, squared ReLU, norms of
    queries and keys after the rotation, which goes the other way round.
    """

    model_type = "nanochat"
    class_name = "NanoChatForCausalLM"
    rotary_layout = "half_reversed"
    norm = staticmethod(partial(RMSNorm, gain=False))
    query_key_norm = PlainHeadNorm
    default_activation = "relu2"
    unwritten = ("mlp_bias",)

    inside: ClassVar[Names] = {**LlamaFamily.inside, "feedforward.up": "mlp.fc1", "feedforward.down": "mlp.fc2"}

    def read_feedforward(self, config: ConfigJson) -> Callable[..., nn.Module]:
        activation = config.activation(self.activation_key, self.default_activation)
        return partial(FeedForward, hidden_dim=config.need("intermediate_size"), activation=activation)

    def read_ends(self, config: ConfigJson) -> dict[str, Any]:
        """A norm of the embeddings, and a cap on the logits."""
        cap = config.optional("final_logit_softcapping", 15.0)
        head = Head if cap is None else partial(SoftcapHead, cap=cap)
        return {"embedding": partial(Embedding, norm=self.read_norm(config, self.norm)), "head": head}

    def write_ends(self, model: Decoder) -> dict[str, Any]:
        return {"final_logit_softcapping": getattr(model.head, "cap", None)}
