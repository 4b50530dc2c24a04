"""DeepSeek-V2 and V3: latent attention, and experts of which some are shared."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from atomiclm.interop.describe import blocks_of
from atomiclm.interop.huggingface.activations import write_activation
from atomiclm.interop.huggingface.architecture import Names
from atomiclm.interop.huggingface.experts import expert_weights
from atomiclm.interop.huggingface.llama import LlamaFamily
from atomiclm.interop.huggingface.settings import Settings
from atomiclm.interop.huggingface.weights import Weight
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
)
from atomiclm.user_error import UserError

_LATENT_EPS = 1e-6  # of the norms on the latents; transformers has no key for it


class DeepseekV2(LlamaFamily):
    """DeepSeek-AI 2024, arXiv 2405.04434."""

    model_type = "deepseek_v2"
    class_name = "DeepseekV2ForCausalLM"
    rotary_layout = "adjacent"
    heads_divide_width = True
    default_shared: ClassVar[int] = 2
    default_dense: ClassVar[int] = 0
    scoring: ClassVar[str] = "softmax"
    turns_in_place: ClassVar[bool] = True

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

    def read(self, settings: Settings) -> dict[str, Any]:
        """Keyword arguments of ``Decoder``."""
        # What follows from other keys, and is written nevertheless.
        for key in ("num_key_value_heads", "head_dim", "qk_head_dim"):
            settings.get(key)
        return super().read(settings) | {"attention": partial(LatentAttention, **self.read_attention(settings))}

    def read_attention(self, settings: Settings) -> dict[str, Any]:
        """Arguments of ``LatentAttention``."""
        settings.only("sliding_window")
        return {
            "num_heads": settings.need("num_attention_heads"),
            "latent_dim": settings.need("kv_lora_rank"),
            "content_dim": settings.need("qk_nope_head_dim"),
            "rotary_dim": settings.need("qk_rope_head_dim"),
            "value_dim": settings.need("v_head_dim"),
            "query_latent_dim": settings.optional("q_lora_rank", 1536),
            "bias": settings.get("attention_bias", False),
            "eps": _LATENT_EPS,
        }

    def read_feedforward(self, settings: Settings) -> Callable[..., nn.Module]:
        """Dense networks in the first layers, experts in the others."""
        settings.only("mlp_bias", False)
        settings.only("moe_layer_freq", 1)
        settings.only("scoring_func", self.scoring)
        activation = self.read_activation(settings)
        dense = partial(GatedFeedForward, hidden_dim=settings.need("intermediate_size"), activation=activation)
        experts = partial(
            MixtureOfExperts,
            hidden_dim=settings.need("moe_intermediate_size"),
            num_experts=settings.need("n_routed_experts"),
            experts_per_token=settings.need("num_experts_per_tok"),
            num_shared_experts=settings.get("n_shared_experts", self.default_shared),
            activation=activation,
            router=self.read_router(settings),
        )
        first = ["dense"] * min(
            settings.get("first_k_dense_replace", self.default_dense), settings.need("num_hidden_layers")
        )
        return LayerPattern({"dense": dense, "experts": experts}, ["experts"], first) if first else experts

    def read_router(self, settings: Settings) -> Callable[..., Router]:
        """Softmax, and groups where they are asked for."""
        settings.only("norm_topk_prob", False)  # transformers has the key and does not read it
        method = settings.only("topk_method", "greedy", "group_limited_greedy", default="greedy")
        groups, chosen = settings.get("n_group", 1), settings.get("topk_group", 1)
        scale = settings.get("routed_scaling_factor", 1.0)
        if method == "greedy":
            return partial(SoftmaxTopK, normalize=False, scale=scale)
        return partial(GroupLimitedSoftmax, num_groups=groups, groups_per_token=chosen, normalize=False, scale=scale)

    def write_attention(self, attention: Attention) -> dict[str, Any]:
        """Keys of attention."""
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

    def limits(self, model: Decoder) -> Iterator[str]:
        """The second version turns pairs where they lie, among features whose number must be even."""
        yield from super().limits(model)
        attention = blocks_of(model)[0].attention
        for name in ("content_dim", "latent_dim") if self.turns_in_place else ():
            if (size := getattr(attention, name, 0)) % 2:
                yield f"model.attention.{name}: {size} is odd; it turns pairs of features among an even number only"

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
            self.activation_key: write_activation(getattr(experts, "activation", "silu")),
            **self.write_router(getattr(experts, "router", None)),
        }

    def write_router(self, router: Router | None) -> dict[str, Any]:
        """Keys of the router."""
        groups = {}
        if isinstance(router, GroupLimitedSoftmax):
            groups = {"n_group": router.num_groups, "topk_group": router.groups_per_token}
        method = "group_limited_greedy" if groups else "greedy"
        return {"topk_method": method, "routed_scaling_factor": getattr(router, "scale", 1.0), **groups}

    def special_weights(self, model: Decoder, layer: int) -> list[Weight]:
        """The experts' matrices, and queries, whose name says whether they are expanded from a latent."""
        stem, attention = f"{self.stem}.{layer}", blocks_of(model)[layer].attention
        names = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
        query = "q_proj" if getattr(attention, "query_latent_dim", None) is None else "q_b_proj"
        own = Weight((f"blocks.{layer}.attention.query.weight",), (f"{stem}.self_attn.{query}.weight",))
        return [own, *expert_weights(model, layer, f"{stem}.mlp.experts", names)]


class DeepseekV3(DeepseekV2):
    """DeepSeek-AI 2024, arXiv 2412.19437. Its multi-token prediction modules are left out, as transformers does."""

    model_type = "deepseek_v3"
    class_name = "DeepseekV3ForCausalLM"
    heads_divide_width = False
    default_shared = 1
    default_dense = 3
    scoring = "sigmoid"
    turns_in_place = False

    def read_router(self, settings: Settings) -> Callable[..., Router]:
        """Sigmoids and a correction bias."""
        settings.only("rope_interleave", True)
        settings.only("topk_method", "noaux_tc")
        return partial(
            SigmoidTopK,
            num_groups=settings.get("n_group", 8),
            groups_per_token=settings.get("topk_group", 4),
            normalize=settings.get("norm_topk_prob", True),
            scale=settings.get("routed_scaling_factor", 2.5),
        )

    def write_router(self, router: Router | None) -> dict[str, Any]:
        """Keys of the router."""
        return {
            "n_group": getattr(router, "num_groups", 1),
            "topk_group": getattr(router, "groups_per_token", 1),
            "norm_topk_prob": getattr(router, "normalize", True),
            "routed_scaling_factor": getattr(router, "scale", 1.0),
            "num_nextn_predict_layers": 0,
        }

    def is_redundant(self, name: str, tensors: Mapping[str, Tensor], model: Decoder) -> bool:
        """Whether a tensor repeats another, or belongs to the prediction modules, numbered on after the layers."""
        beyond = name.startswith(f"{self.stem}.") and int(name.split(".")[2]) >= model.num_layers
        return beyond or super().is_redundant(name, tensors, model)
