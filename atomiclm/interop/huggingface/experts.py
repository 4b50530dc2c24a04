"""Mixtures of experts: Mixtral, Qwen 3 MoE, OLMoE, DeepSeek-V2 and V3.

The files hold each expert's matrices under names of their own, as they were published; transformers stacks them when
it loads them.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from atomiclm.cli import UserError
from atomiclm.interop.describe import blocks_of
from atomiclm.interop.huggingface.architecture import Names
from atomiclm.interop.huggingface.config_json import ConfigJson, their_activation
from atomiclm.interop.huggingface.llama import LlamaFamily, Window
from atomiclm.interop.huggingface.llama_variants import Mistral, Qwen3
from atomiclm.interop.huggingface.weights import Weight, unstacked
from atomiclm.model import (
    Attention,
    Decoder,
    GatedFeedForward,
    GroupLimitedSoftmax,
    LatentAttention,
    LayerPattern,
    MixtureOfExperts,
    Router,
    SigmoidTopK,
    SoftmaxTopK,
    WidthNorm,
)

_EXPERT_NAMES = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
_LATENT_EPS = 1e-6  # of the norms on the latents; transformers has no key for it


def _expert_weights(model: Decoder, layer: int, stem: str, names: Names) -> list[Weight]:
    """The stacks of one layer's experts, if it has any; `names` are theirs for gate, up and down."""
    network = blocks_of(model)[layer].feedforward
    if not isinstance(network, MixtureOfExperts):
        return []
    return [
        unstacked(
            f"blocks.{layer}.feedforward.experts.{ours}",
            [f"{stem}.{expert}.{theirs}.weight" for expert in range(network.num_experts)],
        )
        for ours, theirs in names.items()
    ]


class ExpertsFamily(LlamaFamily):
    """Llama with routed experts.

    Attributes:
        width_key, count_key: keys of an expert's width, and of the number of experts.
        default_normalize: whether the chosen weights sum to one where `config.json` does not say.
        expert_stem: where the experts are in a layer.
        expert_names: their names for gate, up and down.
    """

    width_key: ClassVar[str] = "intermediate_size"
    count_key: ClassVar[str] = "num_experts"
    expert_stem: ClassVar[str] = "mlp.experts"
    expert_names: ClassVar[Names] = _EXPERT_NAMES

    inside: ClassVar[Names] = {**LlamaFamily.inside, "feedforward.router.projection": "mlp.gate"}

    def read_feedforward(self, config: ConfigJson) -> Callable[..., nn.Module]:
        # transformers may write the number of experts under either key.
        count = config.get("num_local_experts") or config.get("num_experts") or config.need(self.count_key)
        return partial(
            MixtureOfExperts,
            hidden_dim=config.need(self.width_key),
            num_experts=count,
            experts_per_token=config.need("num_experts_per_tok"),
            activation=config.activation(self.activation_key, self.default_activation),
            router=partial(SoftmaxTopK, normalize=self.read_normalize(config)),
        )

    def read_normalize(self, config: ConfigJson) -> bool:
        """Whether the weights of the chosen experts sum to one."""
        normalize: bool = config.get("norm_topk_prob", False)
        return normalize

    def write_feedforward(self, model: Decoder) -> dict[str, Any]:
        """Keys of the experts, read off the last layer that has any."""
        networks = [block.feedforward for block in blocks_of(model)]
        network = next((one for one in reversed(networks) if isinstance(one, MixtureOfExperts)), networks[-1])
        return {
            self.width_key: getattr(network, "hidden_dim", 4 * model.dim),
            self.count_key: getattr(network, "num_experts", 1),
            "num_experts_per_tok": getattr(network, "experts_per_token", 1),
            self.activation_key: their_activation(getattr(network, "activation", "silu")),
            "norm_topk_prob": getattr(getattr(network, "router", None), "normalize", False),
        }

    def special_weights(self, model: Decoder, layer: int) -> list[Weight]:
        return _expert_weights(model, layer, f"{self.stem}.{layer}.{self.expert_stem}", self.expert_names)


class Mixtral(ExpertsFamily, Mistral):
    """Jiang et al. 2024, arXiv 2401.04088."""

    model_type = "mixtral"
    class_name = "MixtralForCausalLM"
    default_theta = 1_000_000.0
    default_eps = 1e-5
    count_key = "num_local_experts"
    expert_stem = "block_sparse_moe.experts"
    expert_names: ClassVar[Names] = {"gate": "w1", "up": "w3", "down": "w2"}
    unwritten = ("attention_bias", "norm_topk_prob")

    inside: ClassVar[Names] = {**LlamaFamily.inside, "feedforward.router.projection": "block_sparse_moe.gate"}

    def read_window(self, config: ConfigJson) -> Window:
        """One window for all layers; none unless it is given."""
        window: int | None = config.get("sliding_window")
        return window

    def read_normalize(self, config: ConfigJson) -> bool:
        return True


class Olmoe(ExpertsFamily):
    """Muennighoff et al. 2024, arXiv 2409.02060: experts in every layer, norms of all queries and keys together."""

    model_type = "olmoe"
    class_name = "OlmoeForCausalLM"
    query_key_norm = WidthNorm
    default_eps = 1e-5
    unwritten = ("head_dim",)  # it always follows

    def read_attention(self, config: ConfigJson) -> dict[str, Any]:
        config.only("clip_qkv")
        config.only("head_dim", config.need("hidden_size") // config.need("num_attention_heads"))
        return super().read_attention(config)


class Qwen3Moe(ExpertsFamily, Qwen3):
    """Yang et al. 2025, arXiv 2505.09388: Qwen 3 with experts, in all layers or some."""

    model_type = "qwen3_moe"
    class_name = "Qwen3MoeForCausalLM"
    default_num_kv_heads = 4
    default_head_dim = None
    width_key = "moe_intermediate_size"
    unwritten = ("layer_types",)

    def read_window(self, config: ConfigJson) -> Window:
        """One window for all layers, where it is switched on."""
        window: int | None = config.optional("sliding_window", 4096)
        return window if config.get("use_sliding_window", False) else None

    def read_feedforward(self, config: ConfigJson) -> Callable[..., nn.Module]:
        """Experts, but in layers that are named, or passed over by a step."""
        experts = super().read_feedforward(config)
        layers, step = config.need("num_hidden_layers"), config.get("decoder_sparse_step", 1)
        only_dense = config.get("mlp_only_layers", [])
        hidden_dim = config.get("intermediate_size", 6144)
        dense = [layer in only_dense or (layer + 1) % step != 0 for layer in range(layers)]
        if not any(dense):
            return experts
        activation = config.activation(self.activation_key, self.default_activation)
        plain = partial(GatedFeedForward, hidden_dim=hidden_dim, activation=activation)
        return LayerPattern({"dense": plain, "experts": experts}, ["dense" if one else "experts" for one in dense])

    def write_feedforward(self, model: Decoder) -> dict[str, Any]:
        networks = [block.feedforward for block in blocks_of(model)]
        plain = [layer for layer, network in enumerate(networks) if not isinstance(network, MixtureOfExperts)]
        return super().write_feedforward(model) | {
            "mlp_only_layers": plain,
            "decoder_sparse_step": 1,
            "intermediate_size": getattr(networks[plain[0]], "hidden_dim", 4 * model.dim) if plain else 4 * model.dim,
        }


class DeepseekV2(LlamaFamily):
    """DeepSeek-AI 2024, arXiv 2405.04434: latent attention, and experts of which some are shared."""

    model_type = "deepseek_v2"
    class_name = "DeepseekV2ForCausalLM"
    rotary_layout = "adjacent"
    heads_divide_width = True
    default_shared: ClassVar[int] = 2
    default_dense: ClassVar[int] = 0
    scoring: ClassVar[str] = "softmax"
    rotates_in_place: ClassVar[bool] = True

    inside: ClassVar[Names] = {
        **LlamaFamily.inside,
        "attention.query_squeeze": "self_attn.q_a_proj",
        "attention.query_gain": "self_attn.q_a_layernorm.weight",
        "attention.squeeze": "self_attn.kv_a_proj_with_mqa",
        "attention.latent_gain": "self_attn.kv_a_layernorm.weight",
        "attention.expand": "self_attn.kv_b_proj",
        "feedforward.router.projection": "mlp.gate",
        "feedforward.router.correction_bias": "mlp.gate.e_score_correction_bias",
        "feedforward.shared.gate": "mlp.shared_experts.gate_proj",
        "feedforward.shared.up": "mlp.shared_experts.up_proj",
        "feedforward.shared.down": "mlp.shared_experts.down_proj",
    }

    def read(self, config: ConfigJson) -> dict[str, Any]:
        # They follow from other keys, and are written nevertheless.
        config.ignore("num_key_value_heads", "head_dim", "qk_head_dim")
        return super().read(config) | {"attention": partial(LatentAttention, **self.read_attention(config))}

    def read_attention(self, config: ConfigJson) -> dict[str, Any]:
        """Arguments of `LatentAttention`."""
        config.only("sliding_window")
        return {
            "num_heads": config.need("num_attention_heads"),
            "latent_dim": config.need("kv_lora_rank"),
            "content_dim": config.need("qk_nope_head_dim"),
            "rotary_dim": config.need("qk_rope_head_dim"),
            "value_dim": config.need("v_head_dim"),
            "query_latent_dim": config.optional("q_lora_rank", 1536),
            "bias": config.get("attention_bias", False),
            "eps": _LATENT_EPS,
        }

    def read_feedforward(self, config: ConfigJson) -> Callable[..., nn.Module]:
        """Dense networks in the first layers, experts in the others."""
        config.only("mlp_bias", False)
        config.only("moe_layer_freq", 1)
        config.only("scoring_func", self.scoring)
        activation = config.activation(self.activation_key, self.default_activation)
        dense = partial(GatedFeedForward, hidden_dim=config.need("intermediate_size"), activation=activation)
        experts = partial(
            MixtureOfExperts,
            hidden_dim=config.need("moe_intermediate_size"),
            num_experts=config.need("n_routed_experts"),
            experts_per_token=config.need("num_experts_per_tok"),
            num_shared_experts=config.get("n_shared_experts", self.default_shared),
            activation=activation,
            router=self.read_router(config),
        )
        first = config.get("first_k_dense_replace", self.default_dense)
        first = ["dense"] * min(first, config.need("num_hidden_layers"))
        return LayerPattern({"dense": dense, "experts": experts}, ["experts"], first) if first else experts

    def read_router(self, config: ConfigJson) -> Callable[..., Router]:
        """Softmax, and groups where they are asked for."""
        config.only("norm_topk_prob", False)  # transformers has the key and does not read it
        method = config.only("topk_method", "greedy", "group_limited_greedy", default="greedy")
        groups, chosen = config.get("n_group", 1), config.get("topk_group", 1)
        scale = config.get("routed_scaling_factor", 1.0)
        if method == "greedy":
            return partial(SoftmaxTopK, normalize=False, scale=scale)
        return partial(GroupLimitedSoftmax, num_groups=groups, groups_per_token=chosen, normalize=False, scale=scale)

    def write_attention(self, attention: Attention) -> dict[str, Any]:
        width = attention.head_dim
        return {
            "num_attention_heads": attention.num_heads,
            "num_key_value_heads": attention.num_heads,
            "kv_lora_rank": getattr(attention, "latent_dim", width),
            "qk_nope_head_dim": getattr(attention, "content_dim", width),
            "qk_rope_head_dim": width,
            "v_head_dim": getattr(attention, "value_dim", width),
            "q_lora_rank": getattr(attention, "query_latent_dim", None),
            "attention_bias": getattr(attention, "bias", False),
        }

    def write_feedforward(self, model: Decoder) -> dict[str, Any]:
        """Keys of both kinds of layers."""
        networks = [block.feedforward for block in blocks_of(model)]
        count = next((i for i, one in enumerate(networks) if isinstance(one, MixtureOfExperts)), len(networks))
        dense, experts = networks[0], networks[-1]
        width = getattr(experts, "hidden_dim", 4 * model.dim)
        shared = getattr(experts, "num_shared_experts", 0) * getattr(experts, "shared_hidden_dim", width)
        if shared == 0 or shared % width:
            raise UserError(
                f"model.feedforward.num_shared_experts: {shared} shared features are not one expert's {width}, or "
                f"several; {self.class_name} always has shared experts as wide as the routed ones"
            )
        return {
            "first_k_dense_replace": count,
            "intermediate_size": getattr(dense, "hidden_dim", 4 * model.dim) if count else 4 * model.dim,
            "moe_intermediate_size": width,
            "n_routed_experts": getattr(experts, "num_experts", 1),
            "num_experts_per_tok": getattr(experts, "experts_per_token", 1),
            "n_shared_experts": shared // width,
            self.activation_key: their_activation(getattr(experts, "activation", "silu")),
            **self.write_router(getattr(experts, "router", None)),
        }

    def write_router(self, router: Router | None) -> dict[str, Any]:
        groups = {}
        if isinstance(router, GroupLimitedSoftmax):
            groups = {"n_group": router.num_groups, "topk_group": router.groups_per_token}
        method = "group_limited_greedy" if groups else "greedy"
        return {"topk_method": method, "routed_scaling_factor": getattr(router, "scale", 1.0), **groups}

    def limits(self, model: Decoder) -> Iterator[str]:
        yield from super().limits(model)
        attention = blocks_of(model)[0].attention
        for name in ("content_dim", "latent_dim") if self.rotates_in_place else ():
            if (size := getattr(attention, name, 0)) % 2:
                yield f"model.attention.{name}: {size} is odd; it rotates pairs of features among an even number only"

    def special_weights(self, model: Decoder, layer: int) -> list[Weight]:
        """The experts' matrices, and queries, whose name says whether they are expanded from a latent."""
        stem, attention = f"{self.stem}.{layer}", blocks_of(model)[layer].attention
        query = "q_proj" if getattr(attention, "query_latent_dim", None) is None else "q_b_proj"
        own = Weight((f"blocks.{layer}.attention.query.weight",), (f"{stem}.self_attn.{query}.weight",))
        return [own, *_expert_weights(model, layer, f"{stem}.mlp.experts", _EXPERT_NAMES)]


class DeepseekV3(DeepseekV2):
    """DeepSeek-AI 2024, arXiv 2412.19437. Its multi-token prediction modules are left out, as transformers does."""

    model_type = "deepseek_v3"
    class_name = "DeepseekV3ForCausalLM"
    heads_divide_width = False
    default_shared = 1
    default_dense = 3
    scoring = "sigmoid"
    rotates_in_place = False

    def read_router(self, config: ConfigJson) -> Callable[..., Router]:
        """Sigmoids and a correction bias."""
        config.only("rope_interleave", True)
        config.only("topk_method", "noaux_tc")
        return partial(
            SigmoidTopK,
            num_groups=config.get("n_group", 8),
            groups_per_token=config.get("topk_group", 4),
            normalize=config.get("norm_topk_prob", True),
            scale=config.get("routed_scaling_factor", 2.5),
        )

    def write_router(self, router: Router | None) -> dict[str, Any]:
        return {
            "n_group": getattr(router, "num_groups", 1),
            "topk_group": getattr(router, "groups_per_token", 1),
            "norm_topk_prob": getattr(router, "normalize", True),
            "routed_scaling_factor": getattr(router, "scale", 1.0),
            "num_nextn_predict_layers": 0,
        }

    def is_redundant(self, name: str, tensors: Mapping[str, Tensor], model: Decoder) -> bool:
        """Also what belongs to the prediction modules, numbered on after the layers."""
        beyond = name.startswith(f"{self.stem}.") and int(name.split(".")[2]) >= model.num_layers
        return beyond or super().is_redundant(name, tensors, model)
