"""Architectures from before Llama: layer norms, plain feed-forward networks, fused queries, keys and values."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from atomiclm.interop.describe import blocks_of
from atomiclm.interop.huggingface.architecture import Architecture, Names
from atomiclm.interop.huggingface.config_json import ConfigJson, their_activation
from atomiclm.interop.huggingface.rope import max_positions, read_rope, write_rope
from atomiclm.interop.huggingface.weights import Weight, interleaved, joined, transposed
from atomiclm.model import (
    Alibi,
    Decoder,
    Embedding,
    FeedForward,
    LayerNorm,
    LearnedPosition,
    MultiHeadAttention,
    ParallelBlock,
    Softmax,
    TransformerBlock,
)


class GPT2(Architecture):
    """Radford et al. 2019: learned positions, biases everywhere, every matrix as (inputs, outputs)."""

    model_type = "gpt2"
    class_name = "GPT2LMHeadModel"
    outside: ClassVar[Names] = {
        "embedding": "transformer.wte",
        "position.embedding": "transformer.wpe",
        "norm": "transformer.ln_f",
        "head": "lm_head",
    }
    stem = "transformer.h"
    inside: ClassVar[Names] = {
        "attention_norm": "ln_1",
        "attention.output": "attn.c_proj",
        "feedforward_norm": "ln_2",
        "feedforward.up": "mlp.c_fc",
        "feedforward.down": "mlp.c_proj",
    }

    def read(self, config: ConfigJson) -> dict[str, Any]:
        for key in ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "add_cross_attention"):
            config.only(key, False)
        config.ignore("n_ctx")  # an older name of n_positions, beside it
        scaled = config.get("scale_attn_weights", True)
        return {
            "vocab_size": config.need("vocab_size"),
            "dim": config.need("n_embd"),
            "num_layers": config.need("n_layer"),
            "context_length": config.need("n_positions"),
            "attention": partial(
                MultiHeadAttention,
                num_heads=config.need("n_head"),
                bias=True,
                scores=partial(Softmax, scale=None if scaled else 1.0),
            ),
            "feedforward": partial(
                FeedForward,
                hidden_dim=config.get("n_inner") or 4 * config.need("n_embd"),
                activation=config.activation("activation_function", "gelu_new"),
                bias=True,
            ),
            "norm": partial(LayerNorm, eps=config.get("layer_norm_epsilon", 1e-5)),
            "position": LearnedPosition,
            "block": TransformerBlock,
            "tie_embeddings": config.get("tie_word_embeddings", True),
        }

    def write(self, model: Decoder) -> dict[str, Any]:
        block = blocks_of(model)[0]
        activation = getattr(block.feedforward, "activation", "gelu_tanh")
        return {
            "vocab_size": model.vocab_size,
            "n_embd": model.dim,
            "n_layer": model.num_layers,
            "n_positions": model.context_length,
            "n_head": block.attention.num_heads,
            "n_inner": getattr(block.feedforward, "hidden_dim", 4 * model.dim),
            "activation_function": "gelu_new" if activation == "gelu_tanh" else their_activation(activation),
            "layer_norm_epsilon": getattr(model.norm, "eps", 1e-5),
            "scale_attn_weights": getattr(getattr(block.attention, "scores", None), "scale", None) is None,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "tie_word_embeddings": model.head.weight is None,
        }

    def special_weights(self, model: Decoder, layer: int) -> list[Weight]:
        ours, theirs, sizes = f"blocks.{layer}", f"{self.stem}.{layer}", [model.dim] * 3
        names = [f"{ours}.attention.{part}" for part in ("query", "key", "value")]
        matrices = {own: other for own, other in self.inside.items() if not own.endswith("norm")}
        return [
            transposed(joined([f"{name}.weight" for name in names], f"{theirs}.attn.c_attn.weight", sizes)),
            joined([f"{name}.bias" for name in names], f"{theirs}.attn.c_attn.bias", sizes),
            *(
                transposed(Weight((f"{ours}.{own}.weight",), (f"{theirs}.{other}.weight",)))
                for own, other in matrices.items()
            ),
        ]

    def is_redundant(self, name: str, tensors: Mapping[str, Tensor], model: Decoder) -> bool:
        """Also the causal mask that older files hold."""
        return name.endswith((".attn.bias", ".attn.masked_bias")) or super().is_redundant(name, tensors, model)


class GPTNeoX(Architecture):
    """Black et al. 2022, arXiv 2204.06745; Pythia (Biderman et al. 2023), arXiv 2304.01373. Attention and network side
    by side, a part of the features rotated.
    """

    model_type = "gpt_neox"
    class_name = "GPTNeoXForCausalLM"
    outside: ClassVar[Names] = {
        "embedding": "gpt_neox.embed_in",
        "norm": "gpt_neox.final_layer_norm",
        "head": "embed_out",
    }
    stem = "gpt_neox.layers"
    inside: ClassVar[Names] = {
        "attention_norm": "input_layernorm",
        "attention.output": "attention.dense",
        "feedforward_norm": "post_attention_layernorm",
        "feedforward.up": "mlp.dense_h_to_4h",
        "feedforward.down": "mlp.dense_4h_to_h",
    }

    def read(self, config: ConfigJson) -> dict[str, Any]:
        # Its older names for two keys of the rotation.
        older = {"rope_theta": config.get("rotary_emb_base"), "partial_rotary_factor": config.get("rotary_pct", 0.25)}
        known = {key: value for key, value in older.items() if value is not None}
        rope = ConfigJson(known | dict(config.config), config.where)
        config.ignore("rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor")
        parallel = config.get("use_parallel_residual", True)
        return {
            "vocab_size": config.need("vocab_size"),
            "dim": config.need("hidden_size"),
            "num_layers": config.need("num_hidden_layers"),
            "context_length": config.need("max_position_embeddings"),
            "attention": partial(
                MultiHeadAttention,
                num_heads=config.need("num_attention_heads"),
                bias=config.get("attention_bias", True),
            ),
            "feedforward": partial(
                FeedForward,
                hidden_dim=config.need("intermediate_size"),
                activation=config.activation("hidden_act", "gelu"),
                bias=True,
            ),
            "norm": partial(LayerNorm, eps=config.get("layer_norm_eps", 1e-5)),
            "position": read_rope(rope, partial_rotary=True),
            "block": partial(ParallelBlock, shared_norm=False) if parallel else TransformerBlock,
            "tie_embeddings": config.get("tie_word_embeddings", False),
        }

    def write(self, model: Decoder) -> dict[str, Any]:
        block, scheme = blocks_of(model)[0], model.position.of_layer(0)
        return {
            "vocab_size": model.vocab_size,
            "hidden_size": model.dim,
            "num_hidden_layers": model.num_layers,
            "max_position_embeddings": max_positions(scheme, model.context_length),
            "num_attention_heads": block.attention.num_heads,
            "attention_bias": getattr(block.attention, "bias", False),
            "intermediate_size": getattr(block.feedforward, "hidden_dim", 4 * model.dim),
            "hidden_act": their_activation(getattr(block.feedforward, "activation", "gelu")),
            "layer_norm_eps": getattr(model.norm, "eps", 1e-5),
            "rope_parameters": {"partial_rotary_factor": 1.0, **write_rope(scheme)},
            "use_parallel_residual": isinstance(block, ParallelBlock),
            "tie_word_embeddings": model.head.weight is None,
        }

    def with_prefix(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Also under whole names where the head has its newer one."""
        renamed = {"embed_out.weight" if name == "lm_head.weight" else name: part for name, part in tensors.items()}
        return super().with_prefix(renamed)

    def special_weights(self, model: Decoder, layer: int) -> list[Weight]:
        return _fused_heads(model, layer, f"{self.stem}.{layer}.attention.query_key_value")


class Bloom(Architecture):
    """BigScience 2022, arXiv 2211.05100: ALiBi, a norm of the embeddings, biases everywhere. Its code has sqrt(2 / pi)
    in GELU to eight digits, ours to all.
    """

    model_type = "bloom"
    class_name = "BloomForCausalLM"
    outside: ClassVar[Names] = {
        "embedding": "transformer.word_embeddings",
        "embedding.norm": "transformer.word_embeddings_layernorm",
        "norm": "transformer.ln_f",
        "head": "lm_head",
    }
    stem = "transformer.h"
    inside: ClassVar[Names] = {
        "attention_norm": "input_layernorm",
        "attention.output": "self_attention.dense",
        "feedforward_norm": "post_attention_layernorm",
        "feedforward.up": "mlp.dense_h_to_4h",
        "feedforward.down": "mlp.dense_4h_to_h",
    }

    def read(self, config: ConfigJson) -> dict[str, Any]:
        """A length is nowhere in the file: ALiBi has none."""
        config.only("apply_residual_connection_post_layernorm", False)
        # In published files, with no effect but to round in another order.
        config.ignore(
            "slow_but_exact", "offset_alibi", "unk_token_id", "skip_bias_add", "skip_bias_add_qkv",
            "attention_softmax_in_fp32", "masked_softmax_fusion", "bias_dropout_fusion",
        )  # fmt: skip
        dim = config.get("hidden_size") or config.get("n_embed") or config.need("n_embd")
        norm = partial(LayerNorm, eps=config.get("layer_norm_epsilon", 1e-5))
        heads = config.get("n_head") or config.need("num_attention_heads")
        return {
            "vocab_size": config.need("vocab_size"),
            "dim": dim,
            "num_layers": config.get("n_layer") or config.need("num_hidden_layers"),
            "context_length": config.get("seq_length", 2048),
            "attention": partial(MultiHeadAttention, num_heads=heads, bias=True),
            "feedforward": partial(FeedForward, hidden_dim=4 * dim, activation="gelu_tanh", bias=True),
            "norm": norm,
            "position": Alibi,
            "block": TransformerBlock,
            "embedding": partial(Embedding, norm=norm),
            "tie_embeddings": config.get("tie_word_embeddings", True),
        }

    def write(self, model: Decoder) -> dict[str, Any]:
        return {
            "vocab_size": model.vocab_size,
            "hidden_size": model.dim,
            "n_layer": model.num_layers,
            "n_head": blocks_of(model)[0].attention.num_heads,
            "layer_norm_epsilon": getattr(model.norm, "eps", 1e-5),
            "seq_length": model.context_length,
            "tie_word_embeddings": model.head.weight is None,
        }

    def special_weights(self, model: Decoder, layer: int) -> list[Weight]:
        return _fused_heads(model, layer, f"{self.stem}.{layer}.self_attention.query_key_value")


class Mpt(Architecture):
    """MosaicML NLP Team 2023 (a post, "Introducing MPT-7B"), as transformers has it: always with ALiBi, no biases."""

    model_type = "mpt"
    class_name = "MptForCausalLM"
    outside: ClassVar[Names] = {"embedding": "transformer.wte", "norm": "transformer.norm_f", "head": "lm_head"}
    stem = "transformer.blocks"
    inside: ClassVar[Names] = {
        "attention_norm": "norm_1",
        "attention.output": "attn.out_proj",
        "feedforward_norm": "norm_2",
        "feedforward.up": "ffn.up_proj",
        "feedforward.down": "ffn.down_proj",
    }

    def read(self, config: ConfigJson) -> dict[str, Any]:
        config.only("expansion_ratio", 4)
        config.only("no_bias", True)
        config.only("logit_scale")
        # transformers has these keys and does nothing with them.
        config.ignore("learned_pos_emb", "norm_type", "init_device", "verbose", "init_config")
        attention = ConfigJson(config.get("attn_config", {}), f"{config.where}: attn_config")
        attention.only("attn_type", "multihead_attention")
        attention.only("alibi", True)
        attention.only("alibi_bias_max", 8)
        for key in ("prefix_lm", "qk_ln"):
            attention.only(key, False)
        attention.only("clip_qkv")
        attention.ignore("attn_impl", "attn_uses_sequence_id")
        scores = partial(Softmax, scale=attention.get("softmax_scale"))
        attention.finish()
        return {
            "vocab_size": config.need("vocab_size"),
            "dim": config.need("d_model"),
            "num_layers": config.need("n_layers"),
            "context_length": config.need("max_seq_len"),
            "attention": partial(MultiHeadAttention, num_heads=config.need("n_heads"), scores=scores),
            "feedforward": partial(FeedForward, hidden_dim=4 * config.need("d_model"), activation="gelu"),
            "norm": partial(LayerNorm, eps=config.get("layer_norm_epsilon", 1e-5), bias=False),
            "position": Alibi,
            "block": TransformerBlock,
            "tie_embeddings": config.get("tie_word_embeddings", True),
        }

    def write(self, model: Decoder) -> dict[str, Any]:
        attention = blocks_of(model)[0].attention
        return {
            "vocab_size": model.vocab_size,
            "d_model": model.dim,
            "n_layers": model.num_layers,
            "n_heads": attention.num_heads,
            "max_seq_len": model.context_length,
            "layer_norm_epsilon": getattr(model.norm, "eps", 1e-5),
            "attn_config": {"alibi": True, "softmax_scale": getattr(getattr(attention, "scores", None), "scale", None)},
            "tie_word_embeddings": model.head.weight is None,
        }

    def special_weights(self, model: Decoder, layer: int) -> list[Weight]:
        names = [f"blocks.{layer}.attention.{part}.weight" for part in ("query", "key", "value")]
        return [joined(names, f"{self.stem}.{layer}.attn.Wqkv.weight", [model.dim] * 3)]


def _fused_heads(model: Decoder, layer: int, theirs: str) -> list[Weight]:
    """Weights and biases of queries, keys and values, head by head in one projection."""
    attention = blocks_of(model)[layer].attention
    parts = [f"blocks.{layer}.attention.{part}" for part in ("query", "key", "value")]
    return [
        interleaved([f"{part}.{kind}" for part in parts], f"{theirs}.{kind}", attention.num_heads)
        for kind in (("weight", "bias") if getattr(attention, "bias", False) else ("weight",))
    ]
