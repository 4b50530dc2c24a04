"""Mixtures of experts: Mixtral, Qwen 3 MoE, OLMoE, DeepSeek-V2 and V3.

The files hold each expert's matrices under names of their own, as they were published; transformers stacks them when
it loads them.
"""

from typing import Any

from atomiclm import model as ours
from atomiclm.cli import UserError
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
    value_at,
)
from atomiclm.interop.huggingface.llama import (
    LLAMA,
    MISTRAL,
    NEVER,
    QWEN3,
    head_dim,
    heads_divide_width,
    kv_heads,
    one_window,
)
from atomiclm.interop.huggingface.rope import Rope

_EXPERTS = {"experts": ours.MixtureOfExperts, "experts.router": ours.SoftmaxTopK}
_COUNT = 1 << 14  # experts and groups are fewer
_NUM_EXPERTS = Setting("experts.num_experts", most=_COUNT, also=("num_local_experts", "num_experts"))
_PER_TOKEN = Setting("experts.experts_per_token", most=_COUNT)
_BOTH = ("experts.activation", "dense.activation")


def _dense_width(width: Any, model: ours.Decoder) -> int:
    return 4 * model.dim if value_at(model, "dense", None) is None else width


def _expert_names(stem: str, router: str, gate: str, up: str, down: str) -> dict[str, str]:
    return {
        "feedforward.router.projection": router,
        "feedforward.experts.gate": f"{stem}.*.{gate}.weight",
        "feedforward.experts.up": f"{stem}.*.{up}.weight",
        "feedforward.experts.down": f"{stem}.*.{down}.weight",
    }


_NAMES = _expert_names("mlp.experts", "mlp.gate", "gate_proj", "up_proj", "down_proj")

# Jiang et al. 2024, arXiv 2401.04088.
MIXTRAL = MISTRAL.variant(
    "mixtral",
    "MixtralForCausalLM",
    parts={**_EXPERTS, "experts.router.normalize": True},
    keys={
        "rms_norm_eps": Epsilon(1e-5),
        "sliding_window": one_window(None),
        "intermediate_size": Setting("experts.hidden_dim"),
        "num_local_experts": _NUM_EXPERTS,
        "num_experts_per_tok": _PER_TOKEN,
        "hidden_act": ActivationName("silu", ("experts.activation",)),
        "rope_parameters": Rope(1_000_000.0),
    },
    inside=_expert_names("block_sparse_moe.experts", "block_sparse_moe.gate", "w1", "w3", "w2"),
)

# Muennighoff et al. 2024, arXiv 2409.02060: experts in every layer, norms of all queries and keys together.
OLMOE = LLAMA.variant(
    "olmoe",
    "OlmoeForCausalLM",
    parts={**_EXPERTS, "attention.query_key_norm": ours.WidthNorm},
    keys={
        "rms_norm_eps": Epsilon(1e-5),
        "head_dim": Ignored(),  # it always follows
        "mlp_bias": NEVER,
        "clip_qkv": Only(),
        "intermediate_size": Setting("experts.hidden_dim"),
        "num_experts": _NUM_EXPERTS,
        "num_experts_per_tok": _PER_TOKEN,
        "hidden_act": ActivationName("silu", ("experts.activation",)),
        "norm_topk_prob": Setting("experts.router.normalize", False),
    },
    inside=_NAMES,
)


class _MlpOnlyLayers(Field):
    """Dense networks in layers that are named, or passed over by `decoder_sparse_step`; experts in the others."""

    def read(self, key: str, config: ConfigJson, settings: Settings) -> None:
        named, step = config.get(key, [], list), config.get("decoder_sparse_step", 1)
        settings["is_dense"] = [layer in named or (layer + 1) % step != 0 for layer in range(settings["num_layers"])]

    def write(self, key: str, model: ours.Decoder) -> dict[str, Any]:
        return {
            key: [layer for layer, dense in enumerate(value_at(model, "is_dense", [])) if dense],
            "decoder_sparse_step": 1,
        }


# Yang et al. 2025, arXiv 2505.09388: Qwen 3 with experts, in all layers or some.
QWEN3_MOE = QWEN3.variant(
    "qwen3_moe",
    "Qwen3MoeForCausalLM",
    parts={**_EXPERTS, "dense": ours.GatedFeedForward},
    keys={
        "num_key_value_heads": kv_heads(4),
        "head_dim": head_dim(None),
        "sliding_window": LayerWindows(lambda *_: True, types=False),
        "max_window_layers": Ignored(),
        "moe_intermediate_size": Setting("experts.hidden_dim"),
        "num_experts": _NUM_EXPERTS,
        "num_experts_per_tok": _PER_TOKEN,
        "hidden_act": ActivationName("silu", _BOTH),
        "norm_topk_prob": Setting("experts.router.normalize", False),
        "mlp_only_layers": _MlpOnlyLayers(),
        "intermediate_size": Setting("dense.hidden_dim", 6144, to_theirs=_dense_width),
    },
    inside=_NAMES,
)


def _first_dense(default: int) -> Setting:
    """Dense networks in so many first layers, experts in the others."""
    return Setting(
        "is_dense",
        default,
        to_ours=lambda count, settings: [layer < count for layer in range(settings["num_layers"])],
        to_theirs=lambda dense, _: [*dense, False].index(False),
    )


class _Method(Field):
    """The router: softmax over all experts, or over those of the best groups."""

    def read(self, key: str, config: ConfigJson, settings: Settings) -> None:
        config.only(key, "greedy", "group_limited_greedy")
        groups, chosen = config.get("n_group", 1, most=_COUNT), config.get("topk_group", 1, most=_COUNT)
        if config.get(key, "greedy", str) == "greedy":
            settings["experts.router"] = ours.SoftmaxTopK
        else:
            settings["experts.router"] = ours.GroupLimitedSoftmax
            settings |= {"experts.router.num_groups": groups, "experts.router.groups_per_token": chosen}

    def write(self, key: str, model: ours.Decoder) -> dict[str, Any]:
        router = value_at(model, "experts.router", None)
        if not isinstance(router, ours.GroupLimitedSoftmax):
            return {key: "greedy"}
        return {key: "group_limited_greedy", "n_group": router.num_groups, "topk_group": router.groups_per_token}


def _shared_experts(count: int, model: ours.Decoder) -> int:
    width: int = value_at(model, "experts.hidden_dim", 4 * model.dim)
    shared = value_at(model, "experts.num_shared_experts", 0)
    features: int = shared * value_at(model, "experts.shared_hidden_dim", width)
    if features == 0 or features % width:
        raise UserError(
            f"model.feedforward.num_shared_experts: {features} shared features are not one expert's {width}, or "
            "several; DeepSeek always has shared experts as wide as the routed ones"
        )
    return features // width


def _shared(default: int) -> Setting:
    return Setting("experts.num_shared_experts", default, most=_COUNT, to_theirs=_shared_experts)


def _latent_sizes_are_even(model: ours.Decoder) -> str | None:
    for name in ("content_dim", "latent_dim"):
        if (size := value_at(model, f"attention.{name}", 0)) % 2:
            return f"model.attention.{name}: {size} is odd; it rotates pairs of features among an even number only"
    return None


# DeepSeek-AI 2024, arXiv 2405.04434: latent attention, and experts of which some are shared.
DEEPSEEK_V2 = LLAMA.variant(
    "deepseek_v2",
    "DeepseekV2ForCausalLM",
    parts={
        **_EXPERTS,
        "experts.router.normalize": False,
        "dense": ours.GatedFeedForward,
        "attention": ours.LatentAttention,
        "attention.eps": 1e-6,  # of the norms on the latents; transformers has no key for it
    },
    keys={
        # These follow from others, and are written nevertheless.
        "num_key_value_heads": Ignored(written=lambda model: model.layers[0].attention.num_heads),
        "head_dim": Ignored(),
        "qk_head_dim": Ignored(),
        "kv_lora_rank": Setting("attention.latent_dim"),
        "qk_nope_head_dim": Setting("attention.content_dim", most=_COUNT),
        "qk_rope_head_dim": Setting(
            "attention.rotary_dim", most=_COUNT, to_theirs=lambda _, model: model.layers[0].attention.head_dim
        ),
        "v_head_dim": Setting("attention.value_dim", most=_COUNT),
        "q_lora_rank": Setting("attention.query_latent_dim", 1536, null=True),
        "mlp_bias": NEVER,
        "moe_layer_freq": Only((1,)),
        "scoring_func": Only(("softmax",)),
        "first_k_dense_replace": _first_dense(0),
        "intermediate_size": Setting("dense.hidden_dim", to_theirs=_dense_width),
        "moe_intermediate_size": Setting("experts.hidden_dim"),
        "n_routed_experts": Setting("experts.num_experts", most=_COUNT),
        "num_experts_per_tok": _PER_TOKEN,
        "n_shared_experts": _shared(2),
        "hidden_act": ActivationName("silu", _BOTH),
        "norm_topk_prob": NEVER,  # transformers has the key and does not read it
        "topk_method": _Method(),
        "routed_scaling_factor": Setting("experts.router.scale", 1.0),
    },
    inside={
        **_NAMES,
        "attention.query_squeeze": "self_attn.q_a_proj",
        "attention.query_gain": "self_attn.q_a_layernorm.weight",
        "attention.squeeze": "self_attn.kv_a_proj_with_mqa",
        "attention.latent_gain": "self_attn.kv_a_layernorm.weight",
        "attention.expand": "self_attn.kv_b_proj",
        "feedforward.router.correction_bias": "mlp.gate.e_score_correction_bias",
        "feedforward.shared.gate": "mlp.shared_experts.gate_proj",
        "feedforward.shared.up": "mlp.shared_experts.up_proj",
        "feedforward.shared.down": "mlp.shared_experts.down_proj",
    },
    inside_squeezed={"attention.query": "self_attn.q_b_proj"},
    rotary_layout="adjacent",
    rules=(heads_divide_width, _latent_sizes_are_even),
)


# DeepSeek-AI 2024, arXiv 2412.19437: sigmoids and a correction bias in the router. The modules that predict further
# tokens are left out, as transformers does.
DEEPSEEK_V3 = DEEPSEEK_V2.variant(
    "deepseek_v3",
    "DeepseekV3ForCausalLM",
    parts={"experts.router": ours.SigmoidTopK},
    keys={
        "rope_interleave": Only((True,)),
        "scoring_func": Only(("sigmoid",)),
        "first_k_dense_replace": _first_dense(3),
        "n_shared_experts": _shared(1),
        "topk_method": Only(("noaux_tc",)),
        "n_group": Setting("experts.router.num_groups", 8, most=_COUNT),
        "topk_group": Setting("experts.router.groups_per_token", 4, most=_COUNT),
        "norm_topk_prob": Setting("experts.router.normalize", True),
        "routed_scaling_factor": Setting("experts.router.scale", 2.5),
        "num_nextn_predict_layers": Ignored(written=lambda _: 0),
    },
    layers_beyond=True,
)
