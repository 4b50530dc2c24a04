"""Random small configurations of transformers' architectures: odd sizes, groups, scalings, windows, tied or not."""

MOST_TOKENS = 14
"""The longest input that every configuration takes."""


def sizes(draw, **fixed):
    """Sizes that most configurations share; odd ones, groups, and a width that is not heads times head_dim."""
    kv_heads, groups = draw.choice([1, 2, 3]), draw.choice([1, 2, 3])
    heads, head_dim = kv_heads * groups, draw.choice([4, 6, 10])
    return {
        "vocab_size": draw.randrange(30, 60),
        "hidden_size": heads * draw.randrange(3, 8),
        "num_hidden_layers": draw.choice([2, 3]),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": draw.randrange(11, 40),
        "max_position_embeddings": draw.choice([16, 32, 100]),
        "rms_norm_eps": draw.choice([1e-6, 1e-5, 1e-3]),
        "tie_word_embeddings": draw.random() < 0.5,
        "rope_parameters": rope(draw),
        "pad_token_id": None,
        **fixed,
    }


def rope(draw, kinds=("default", "linear", "dynamic", "llama3", "yarn", "proportional")):
    parameters = {"rope_type": draw.choice(kinds), "rope_theta": draw.choice([100.0, 10000.0, 500000.0])}
    more = {
        "linear": {"factor": draw.choice([1.5, 4.0])},
        "dynamic": {"factor": draw.choice([1.0, 2.0])},
        "proportional": {"partial_rotary_factor": 1.0},
        "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": draw.choice([2.0, 4.0]),
                   "original_max_position_embeddings": draw.choice([16, 64])},
        "yarn": {"factor": draw.choice([2.0, 16.0]), "original_max_position_embeddings": draw.choice([16, 32]),
                 **draw.choice([{}, {"attention_factor": 1.3}, {"beta_fast": 16.0, "beta_slow": 2.0},
                                {"mscale": 0.7, "mscale_all_dim": 0.5}, {"truncate": False}])},
    }  # fmt: skip
    return parameters | more.get(parameters["rope_type"], {})


def llama(draw):
    return sizes(draw, attention_bias=draw.random() < 0.5, mlp_bias=draw.random() < 0.5)


def mistral(draw):
    return sizes(draw, sliding_window=draw.choice([None, 2, 3, 7]))


def qwen2(draw):
    slides = draw.random() < 0.5
    return sizes(draw, use_sliding_window=slides, sliding_window=5, max_window_layers=draw.choice([0, 1]))


def qwen3(draw):
    return qwen2(draw) | {"attention_bias": draw.random() < 0.5}


def smollm3(draw):
    own = sizes(
        draw, num_hidden_layers=4, no_rope_layer_interval=draw.choice([2, 3, 4]), attention_bias=draw.random() < 0.5
    )
    if draw.random() < 0.5:
        own |= {"no_rope_layers": draw.choice([[1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]])}
    return own | draw.choice([{}, {"use_sliding_window": True, "sliding_window": 4}])


def granite(draw):
    return sizes(
        draw,
        embedding_multiplier=draw.choice([1.0, 7.5]),
        residual_multiplier=draw.choice([0.22, 1.0]),
        attention_multiplier=draw.choice([0.1, 1.3]),
        logits_scaling=draw.choice([3.0, 0.7]),
    )


def gemma2(draw):
    return sizes(
        draw,
        num_hidden_layers=3,
        sliding_window=draw.choice([3, 6]),
        query_pre_attn_scalar=draw.choice([3, 16]),
        attn_logit_softcapping=draw.choice([None, 2.0, 5.0]),
        final_logit_softcapping=draw.choice([None, 4.0]),
        **draw.choice([{}, {"layer_types": ["full_attention", "full_attention", "sliding_attention"]}]),
    )


def olmo2(draw):
    return sizes(draw, attention_bias=draw.random() < 0.5)


def nanochat(draw):
    return sizes(draw, final_logit_softcapping=draw.choice([None, 3.0]), attention_bias=draw.random() < 0.5)


def gpt_neox(draw):
    heads, head_dim = draw.choice([1, 2, 3]), draw.choice([8, 16])
    return {
        "vocab_size": draw.randrange(30, 60),
        "hidden_size": heads * head_dim,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "intermediate_size": draw.randrange(20, 50),
        "hidden_act": draw.choice(["gelu", "gelu_new", "relu"]),
        "layer_norm_eps": draw.choice([1e-5, 1e-3]),
        "use_parallel_residual": draw.random() < 0.7,
        "attention_bias": draw.random() < 0.7,
        "tie_word_embeddings": draw.random() < 0.5,
        "rope_parameters": rope(draw, ("default", "linear", "dynamic", "yarn"))
        | {"partial_rotary_factor": draw.choice([0.25, 0.5, 1.0]) if head_dim == 16 else 0.5},
    }


def gpt2(draw):
    heads = draw.choice([1, 2, 3])
    return {
        "vocab_size": draw.randrange(30, 60),
        "n_embd": heads * draw.choice([5, 8]),
        "n_layer": draw.choice([2, 3]),
        "n_head": heads,
        "n_inner": draw.choice([None, 37]),
        "n_positions": draw.choice([MOST_TOKENS, 40]),
        "activation_function": draw.choice(["gelu_new", "gelu", "relu"]),
        "layer_norm_epsilon": draw.choice([1e-5, 1e-3]),
        "scale_attn_weights": draw.random() < 0.7,
        "tie_word_embeddings": draw.random() < 0.5,
    }


def bloom(draw):
    heads = draw.choice([1, 3, 4, 5, 8])  # of these numbers all slopes are powers of two, exact in float32
    return {
        "vocab_size": draw.randrange(30, 60),
        "hidden_size": heads * draw.choice([5, 6]),
        "n_layer": 2,
        "n_head": heads,
        "layer_norm_epsilon": draw.choice([1e-5, 1e-3]),
        "tie_word_embeddings": draw.random() < 0.5,
    }


def mpt(draw):
    heads = draw.choice([1, 3, 4, 5, 8])
    return {
        "vocab_size": draw.randrange(30, 60),
        "d_model": heads * draw.choice([5, 6]),
        "n_layers": 2,
        "n_heads": heads,
        "max_seq_len": draw.choice([32, 64]),
        "layer_norm_epsilon": draw.choice([1e-5, 1e-3]),
        "attn_config": {"softmax_scale": draw.choice([None, 0.3])},
        "tie_word_embeddings": draw.random() < 0.5,
    }


def mixtral(draw):
    return sizes(
        draw, num_local_experts=draw.choice([4, 5]), num_experts_per_tok=2, sliding_window=draw.choice([None, 4])
    )


def qwen3_moe(draw):
    return sizes(
        draw,
        num_experts=draw.choice([4, 6]),
        num_experts_per_tok=draw.choice([2, 3]),
        moe_intermediate_size=draw.randrange(7, 20),
        norm_topk_prob=draw.random() < 0.5,
        use_sliding_window=draw.random() < 0.5,
        sliding_window=4,
        **draw.choice([{}, {"mlp_only_layers": [1]}, {"decoder_sparse_step": 2}]),
    )


def olmoe(draw):
    own = sizes(draw, num_experts=draw.choice([4, 6]), num_experts_per_tok=draw.choice([1, 2]), norm_topk_prob=False)
    own["hidden_size"] = own["num_attention_heads"] * own.pop("head_dim")
    return own | draw.choice([{}, {"num_experts_per_tok": 3, "norm_topk_prob": True}])


def latent(draw, **fixed):
    own = sizes(draw, num_hidden_layers=3, first_k_dense_replace=draw.choice([0, 1]))
    own["num_key_value_heads"] = own["num_attention_heads"]
    del own["head_dim"]
    return own | {
        "kv_lora_rank": draw.choice([5, 8]),
        "q_lora_rank": draw.choice([None, 7]),
        "qk_nope_head_dim": draw.choice([3, 6]),
        "qk_rope_head_dim": draw.choice([4, 6]),
        "v_head_dim": draw.choice([5, 8]),
        "moe_intermediate_size": draw.randrange(7, 20),
        "n_routed_experts": 8,
        "n_shared_experts": draw.choice([1, 2]),
        "num_experts_per_tok": draw.choice([2, 3]),
        "routed_scaling_factor": draw.choice([1.0, 2.5]),
        "attention_bias": draw.random() < 0.5,
        **fixed,
    }


def deepseek_v2(draw):
    groups = {"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2}
    # In float32 it computes no odd ones.
    even = {
        "kv_lora_rank": draw.choice([6, 8]),
        "qk_nope_head_dim": draw.choice([4, 6]),
    }
    return latent(draw, **even, **draw.choice([{"topk_method": "greedy"}, groups]))


def deepseek_v3(draw):
    groups = draw.choice([{"n_group": 1, "topk_group": 1}, {"n_group": 4, "topk_group": 2}])
    return latent(draw, norm_topk_prob=draw.random() < 0.5, num_mtp_layers=0, **groups)


DRAWS = {
    "llama": (llama, 6),
    "gpt2": (gpt2, 3),
    "mistral": (mistral, 4),
    "qwen3": (qwen3, 4),
    "qwen2": (qwen2, 3),
    "smollm3": (smollm3, 4),
    "granite": (granite, 2),
    "gemma2": (gemma2, 4),
    "olmo2": (olmo2, 3),
    "gpt_neox": (gpt_neox, 4),
    "nanochat": (nanochat, 3),
    "bloom": (bloom, 3),
    "mpt": (mpt, 3),
    "mixtral": (mixtral, 3),
    "qwen3_moe": (qwen3_moe, 4),
    "olmoe": (olmoe, 3),
    "deepseek_v2": (deepseek_v2, 5),
    "deepseek_v3": (deepseek_v3, 4),
}
"""For each model_type: a function that draws the arguments of its configuration, and how many are tested."""
