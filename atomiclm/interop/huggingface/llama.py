"""Llama, and the architectures that differ from it in a part or two, without experts."""

from functools import partial
from typing import Any

from atomiclm import model as ours
from atomiclm.interop.describe import windows_of
from atomiclm.interop.huggingface.architecture import Architecture
from atomiclm.interop.huggingface.config_json import ConfigJson
from atomiclm.interop.huggingface.fields import (
    ActivationName,
    Epsilon,
    Field,
    Ignored,
    LayerWindows,
    Only,
    Setting,
    Settings,
)
from atomiclm.interop.huggingface.rope import MAX_POSITIONS, Rope

LAYERS = Setting("num_layers", most=2048)  # the deepest published decoders have a few hundred
HEADS = Setting("attention.num_heads", most=1 << 14)
TIED, UNTIED = Setting("tie_embeddings", True), Setting("tie_embeddings", False)
NEVER = Only((False,))


def kv_heads(default: int | None) -> Setting:
    """Where it is null there are as many as heads."""
    return Setting("attention.num_kv_heads", default, null=True)


def head_dim(default: int | None) -> Setting:
    """Where it is null it follows from the width."""
    return Setting(
        "attention.head_dim",
        default,
        null=True,
        to_ours=lambda value, settings: value or settings["dim"] // settings["attention.num_heads"],
    )


def one_window(default: int | None) -> Setting:
    return Setting("attention.window", default, null=True, to_theirs=lambda _, model: windows_of(model)[0])


def heads_divide_width(model: ours.Decoder) -> str | None:
    heads = model.layers[0].attention.num_heads
    if model.dim % heads:
        return f"model.attention.num_heads: {heads} must divide model.dim={model.dim}, even with head_dim"
    return None


# Touvron et al. 2023, arXiv 2302.13971; Llama 2 and 3.
LLAMA = Architecture(
    "llama",
    "LlamaForCausalLM",
    parts={
        "attention": ours.MultiHeadAttention,
        "feedforward": ours.GatedFeedForward,
        "norm": ours.RMSNorm,
        "block": ours.TransformerBlock,
    },
    keys={
        "vocab_size": Setting("vocab_size"),
        "hidden_size": Setting("dim"),
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": MAX_POSITIONS,
        "rms_norm_eps": Epsilon(1e-6),
        "tie_word_embeddings": UNTIED,
        "num_attention_heads": HEADS,
        "num_key_value_heads": kv_heads(None),
        "head_dim": head_dim(None),
        "attention_bias": Setting("attention.bias", False),
        "sliding_window": Only(),
        "intermediate_size": Setting("feedforward.hidden_dim"),
        "hidden_act": ActivationName("silu"),
        "mlp_bias": Setting("feedforward.bias", False),
        "rope_parameters": Rope(),
    },
    outside={"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"},
    stem="model.layers",
    inside={
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
    },
    rules=(heads_divide_width,),
)

# Jiang et al. 2023, arXiv 2310.06825: a sliding window in every layer, no biases anywhere.
MISTRAL = LLAMA.variant(
    "mistral",
    "MistralForCausalLM",
    keys={
        "num_key_value_heads": kv_heads(8),
        "attention_bias": NEVER,
        "sliding_window": one_window(4096),
        "mlp_bias": NEVER,
    },
)

_LATER_LAYERS = LayerWindows(lambda config, layer: layer >= config.get("max_window_layers", 28))

# Yang et al. 2024, arXiv 2407.10671: always biases on queries, keys and values; windows in the later layers.
QWEN2 = MISTRAL.variant(
    "qwen2",
    "Qwen2ForCausalLM",
    parts={"attention.bias": True, "attention.output_bias": False},
    keys={"num_key_value_heads": kv_heads(32), "attention_bias": Ignored(), "sliding_window": _LATER_LAYERS},
)

# Yang et al. 2025, arXiv 2505.09388: RMS norms of each head's queries and keys.
QWEN3 = MISTRAL.variant(
    "qwen3",
    "Qwen3ForCausalLM",
    parts={"attention.query_key_norm": ours.HeadNorm},
    keys={
        "num_key_value_heads": kv_heads(32),
        "head_dim": head_dim(128),
        "attention_bias": Setting("attention.bias", False),
        "sliding_window": _LATER_LAYERS,
    },
)


class _NoRopeLayers(Field):
    """Rotary positions in the layers marked 1, nothing in those marked 0."""

    def read(self, key: str, config: ConfigJson, settings: Settings) -> None:
        rotates = [_rotates(config, layer) for layer in range(settings["num_layers"])]
        if not all(rotates):
            schemes = {"rotary": settings["position"], "none": ours.NoPosition}
            pattern = ["rotary" if rotary else "none" for rotary in rotates]
            settings["position"] = partial(ours.PositionPattern, schemes=schemes, pattern=pattern)

    def write(self, key: str, model: ours.Decoder) -> dict[str, Any]:
        schemes = [model.position.of_layer(layer) for layer in range(model.num_layers)]
        return {key: [int(isinstance(scheme, ours.RotaryEmbedding)) for scheme in schemes]}


def _rotates(config: ConfigJson, layer: int) -> bool:
    marks, interval = config.get("no_rope_layers", None, list), config.get("no_rope_layer_interval", 4)
    return (layer + 1) % interval != 0 if marks is None else bool(marks[layer])


def _head_dim_is_even(model: ours.Decoder) -> str | None:
    size = model.layers[0].attention.head_dim
    if size % 2:  # features are paired even where no layer rotates any
        return f"model.attention.head_dim: {size} is odd, which it refuses also without positions"
    return None


# Bakouch et al. 2025 (a post, "SmolLM3"): every fourth layer has no positions (Yang et al. 2025, arXiv 2501.18795), and
# a window where there is one.
SMOLLM3 = LLAMA.variant(
    "smollm3",
    "SmolLM3ForCausalLM",
    keys={
        "num_key_value_heads": kv_heads(4),
        "tie_word_embeddings": TIED,
        "sliding_window": LayerWindows(lambda config, layer: not _rotates(config, layer), default=None),
        "rope_parameters": Rope(2_000_000.0),
        "no_rope_layers": _NoRopeLayers(),
    },
    rules=(_head_dim_is_even,),
)

# Granite 3 of IBM (2024): Llama with four constant factors.
GRANITE = LLAMA.variant(
    "granite",
    "GraniteForCausalLM",
    parts={"attention.scores": ours.Softmax, "embedding": ours.Embedding, "head": ours.Head},
    keys={
        "attention_multiplier": Setting(
            "attention.scores.scale",
            1.0,
            to_theirs=lambda scale, model: model.layers[0].attention.head_dim ** -0.5 if scale is None else scale,
        ),
        "embedding_multiplier": Setting(
            "embedding.scale", 1.0, to_theirs=lambda scale, model: model.dim**0.5 if scale == "sqrt_dim" else scale
        ),
        "residual_multiplier": Setting(
            "block.residual_scale", 1.0, to_theirs=lambda _, model: getattr(model.layers[0], "branch_scale", 1.0)
        ),
        "logits_scaling": Setting(
            "head.scale", 1.0, to_ours=lambda divisor, _: 1 / divisor, to_theirs=lambda scale, _: 1 / scale
        ),
    },
)


def _score_scale(width: float, settings: Settings) -> float | None:
    # Scores are divided by the root of this number, which need not be that of the head's width.
    return None if width == settings["attention.head_dim"] else width**-0.5


def _score_width(scale: float | None, model: ours.Decoder) -> int:
    return model.layers[0].attention.head_dim if scale is None else max(1, round(scale**-2))


def final_cap(default: float) -> Setting:
    return Setting("head.cap", default, null=True, chooses=ours.SoftcapHead)


# Gemma Team 2024, arXiv 2408.00118: sandwich norms, soft caps, windows in every other layer, scaled embeddings.
GEMMA2 = LLAMA.variant(
    "gemma2",
    "Gemma2ForCausalLM",
    parts={
        "attention.scores": ours.Softmax,
        "norm": ours.OffsetRMSNorm,
        "block": ours.SandwichNormBlock,
        "embedding": ours.Embedding,
        "embedding.scale": "sqrt_dim",
    },
    keys={
        "num_key_value_heads": kv_heads(4),
        "head_dim": head_dim(256),
        "tie_word_embeddings": TIED,
        "sliding_window": LayerWindows(lambda _, layer: layer % 2 == 0, switch=False),
        "hidden_act": Ignored(),  # beside hidden_activation in older files, and not read by transformers either
        "hidden_activation": ActivationName("gelu_pytorch_tanh"),
        "mlp_bias": NEVER,
        "query_pre_attn_scalar": Setting("attention.scores.scale", 256.0, to_ours=_score_scale, to_theirs=_score_width),
        "attn_logit_softcapping": Setting("attention.scores.cap", 50.0, null=True, chooses=ours.CappedSoftmax),
        "final_logit_softcapping": final_cap(30.0),
        "use_bidirectional_attention": NEVER,
    },
    inside={
        "attention_output_norm": "post_attention_layernorm",
        "feedforward_norm": "pre_feedforward_layernorm",
        "feedforward_output_norm": "post_feedforward_layernorm",
    },
    rules=(heads_divide_width,),
)

# OLMo Team 2024, arXiv 2501.00656: norms on what branches computed, and of all queries and keys together.
OLMO2 = LLAMA.variant(
    "olmo2",
    "Olmo2ForCausalLM",
    parts={"block": ours.ReorderedNormBlock, "attention.query_key_norm": ours.WidthNorm},
    keys={"rms_norm_eps": Epsilon(1e-5), "mlp_bias": NEVER},
    inside={
        "attention_output_norm": "post_attention_layernorm",
        "feedforward_output_norm": "post_feedforward_layernorm",
    },
    rules=(heads_divide_width,),
)

# Karpathy 2025, github.com/karpathy/nanochat, as transformers has it: no gains anywhere, squared ReLU, norms of queries
# and keys after the rotation, which goes the other way round; a norm of the embeddings and a cap on the logits.
NANOCHAT = LLAMA.variant(
    "nanochat",
    "NanoChatForCausalLM",
    parts={
        "attention.query_key_norm": ours.PlainHeadNorm,
        "feedforward": ours.FeedForward,
        "norm": ours.RMSNorm,
        "norm.gain": False,
        "embedding": ours.Embedding,
        "embedding.norm": ours.RMSNorm,
        "embedding.norm.gain": False,
    },
    keys={"hidden_act": ActivationName("relu2"), "mlp_bias": NEVER, "final_logit_softcapping": final_cap(15.0)},
    inside={"feedforward.up": "mlp.fc1", "feedforward.down": "mlp.fc2"},
    rotary_layout="half_reversed",
)
