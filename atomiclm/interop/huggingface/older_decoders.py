"""Architectures from before Llama: layer norms, plain feed-forward networks, fused queries, keys and values."""

from functools import partial

from atomiclm import model as ours
from atomiclm.interop.huggingface.architecture import Architecture
from atomiclm.interop.huggingface.fields import ActivationName, Epsilon, Ignored, Nested, Only, Setting
from atomiclm.interop.huggingface.llama import HEADS, LAYERS, NEVER, TIED, UNTIED
from atomiclm.interop.huggingface.rope import MAX_POSITIONS, Rope

_PARTS = {
    "attention": ours.MultiHeadAttention,
    "attention.bias": True,
    "feedforward": ours.FeedForward,
    "feedforward.bias": True,
    "norm": ours.LayerNorm,
    "block": ours.TransformerBlock,
}


def _fused(name: str) -> dict[str, str]:
    """Queries, keys and values in one projection."""
    return {f"attention.{part}": name for part in ("query", "key", "value")}


# Radford et al. 2019: learned positions, biases everywhere, every matrix as (inputs, outputs).
GPT2 = Architecture(
    "gpt2",
    "GPT2LMHeadModel",
    parts={**_PARTS, "attention.scores": ours.Softmax, "position": ours.LearnedPosition},
    keys={
        "vocab_size": Setting("vocab_size"),
        "n_embd": Setting("dim"),
        "n_layer": LAYERS,
        "n_positions": Setting("context_length"),
        "n_ctx": Ignored(),  # an older name of n_positions, beside it
        "n_head": HEADS,
        "n_inner": Setting("feedforward.hidden_dim", None),
        "activation_function": ActivationName("gelu_new"),
        "layer_norm_epsilon": Epsilon(1e-5),
        "scale_attn_weights": Setting(
            "attention.scores.scale",
            True,
            to_ours=lambda scaled, _: None if scaled else 1.0,
            to_theirs=lambda scale, _: scale is None,
        ),
        **dict.fromkeys(("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "add_cross_attention"), NEVER),
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), Ignored(written=lambda _: 0.0)),
        "tie_word_embeddings": TIED,
    },
    outside={
        "embedding": "transformer.wte",
        "position.embedding": "transformer.wpe",
        "norm": "transformer.ln_f",
        "head": "lm_head",
    },
    stem="transformer.h",
    inside={
        **_fused("attn.c_attn"),
        "attention_norm": "ln_1",
        "attention.output": "attn.c_proj",
        "feedforward_norm": "ln_2",
        "feedforward.up": "mlp.c_fc",
        "feedforward.down": "mlp.c_proj",
    },
    transposed=True,
    redundant=(".attn.bias", ".attn.masked_bias"),  # the causal mask that older files hold
)

# Black et al. 2022, arXiv 2204.06745; Pythia (Biderman et al. 2023), arXiv 2304.01373: attention and network side by
# side, a part of the features rotated.
GPT_NEOX = Architecture(
    "gpt_neox",
    "GPTNeoXForCausalLM",
    parts=_PARTS,
    keys={
        "vocab_size": Setting("vocab_size"),
        "hidden_size": Setting("dim"),
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": MAX_POSITIONS,
        "num_attention_heads": HEADS,
        "attention_bias": Setting("attention.bias", True),
        "intermediate_size": Setting("feedforward.hidden_dim"),
        "hidden_act": ActivationName("gelu"),
        "layer_norm_eps": Epsilon(1e-5),
        "rope_parameters": Rope(partial=True),
        "use_parallel_residual": Setting(
            "block",
            True,
            to_ours=lambda parallel, _: (
                partial(ours.ParallelBlock, shared_norm=False) if parallel else ours.TransformerBlock
            ),
            to_theirs=lambda block, _: isinstance(block, ours.ParallelBlock),
        ),
        "tie_word_embeddings": UNTIED,
    },
    outside={"embedding": "gpt_neox.embed_in", "norm": "gpt_neox.final_layer_norm", "head": "embed_out"},
    stem="gpt_neox.layers",
    inside={
        **_fused("attention.query_key_value"),
        "attention_norm": "input_layernorm",
        "attention.output": "attention.dense",
        "feedforward_norm": "post_attention_layernorm",
        "feedforward.up": "mlp.dense_h_to_4h",
        "feedforward.down": "mlp.dense_4h_to_h",
    },
    interleaved=True,
    # The causal mask, and frequencies, that older files hold.
    redundant=(".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq"),
    other_names={"lm_head.weight": "embed_out.weight"},
)

# BigScience 2022, arXiv 2211.05100: ALiBi, a norm of the embeddings, biases everywhere. Its code has sqrt(2 / pi) in
# GELU to eight digits, ours to all. A length is nowhere in the file: ALiBi has none.
BLOOM = Architecture(
    "bloom",
    "BloomForCausalLM",
    parts={
        **_PARTS,
        "feedforward.activation": "gelu_tanh",
        "position": ours.Alibi,
        "embedding": ours.Embedding,
        "embedding.norm": ours.LayerNorm,
    },
    keys={
        "vocab_size": Setting("vocab_size"),
        "hidden_size": Setting("dim", also=("n_embed", "n_embd")),
        "n_layer": Setting("num_layers", most=LAYERS.most, also=("num_hidden_layers",)),
        "n_head": Setting("attention.num_heads", most=HEADS.most, also=("num_attention_heads",)),
        "layer_norm_epsilon": Epsilon(1e-5),
        "seq_length": Setting("context_length", 2048),
        "tie_word_embeddings": TIED,
        "apply_residual_connection_post_layernorm": NEVER,
        # In published files, with no effect but to round in another order.
        **dict.fromkeys(
            ("slow_but_exact", "offset_alibi", "unk_token_id", "skip_bias_add", "skip_bias_add_qkv",
             "attention_softmax_in_fp32", "masked_softmax_fusion", "bias_dropout_fusion"),
            Ignored(),
        ),
    },
    outside={
        "embedding": "transformer.word_embeddings",
        "embedding.norm": "transformer.word_embeddings_layernorm",
        "norm": "transformer.ln_f",
        "head": "lm_head",
    },
    stem="transformer.h",
    inside={**GPT_NEOX.inside, **_fused("self_attention.query_key_value"), "attention.output": "self_attention.dense"},
    interleaved=True,
)  # fmt: skip

# MosaicML NLP Team 2023 (a post, "Introducing MPT-7B"), as transformers has it: always with ALiBi, no biases.
MPT = Architecture(
    "mpt",
    "MptForCausalLM",
    parts={
        **_PARTS,
        "attention.bias": False,
        "attention.scores": ours.Softmax,
        "feedforward.activation": "gelu",
        "feedforward.bias": False,
        "norm.bias": False,
        "position": ours.Alibi,
    },
    keys={
        "vocab_size": Setting("vocab_size"),
        "d_model": Setting("dim"),
        "n_layers": LAYERS,
        "n_heads": HEADS,
        "max_seq_len": Setting("context_length"),
        "layer_norm_epsilon": Epsilon(1e-5),
        "attn_config": Nested(
            {
                "alibi": Only((True,), written=lambda _: True),
                "softmax_scale": Setting("attention.scores.scale", None, float),
                "attn_type": Only(("multihead_attention",)),
                "alibi_bias_max": Only((8,)),
                "prefix_lm": NEVER,
                "qk_ln": NEVER,
                "clip_qkv": Only(),
                "attn_impl": Ignored(),
                "attn_uses_sequence_id": Ignored(),
            }
        ),
        "tie_word_embeddings": TIED,
        "expansion_ratio": Only((4,)),
        "no_bias": Only((True,)),
        "logit_scale": Only(),
        # transformers has these keys and does nothing with them.
        **dict.fromkeys(("learned_pos_emb", "norm_type", "init_device", "verbose", "init_config"), Ignored()),
    },
    outside={"embedding": "transformer.wte", "norm": "transformer.norm_f", "head": "lm_head"},
    stem="transformer.blocks",
    inside={
        **_fused("attn.Wqkv"),
        "attention_norm": "norm_1",
        "attention.output": "attn.out_proj",
        "feedforward_norm": "norm_2",
        "feedforward.up": "ffn.up_proj",
        "feedforward.down": "ffn.down_proj",
    },
)
