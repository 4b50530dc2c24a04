"""Presets that rebuild known models: the published count, and what transformers builds from the published numbers."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from atomiclm.interop import describe_decoder, differences
from atomiclm.interop.huggingface.architectures import architecture_of, build, express
from atomiclm.model import Decoder

CONF = Path(__file__).parents[2] / "conf"

# What each model was released with: its parameters, and the numbers of its config.json.
LLAMA = {"vocab_size": 128256, "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
         "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192, "rms_norm_eps": 1e-5,
         "tie_word_embeddings": True, "max_position_embeddings": 131072,
         "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
                             "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}  # fmt: skip
QWEN = {"vocab_size": 151936, "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True, "max_position_embeddings": 40960,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}  # fmt: skip
GEMMA = {"vocab_size": 256000, "hidden_size": 2304, "num_hidden_layers": 26, "num_attention_heads": 8,
         "num_key_value_heads": 4, "head_dim": 256, "intermediate_size": 9216, "rms_norm_eps": 1e-6,
         "max_position_embeddings": 8192, "query_pre_attn_scalar": 256, "sliding_window": 4096,
         "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "tie_word_embeddings": True,
         "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}  # fmt: skip
OLMO = {"vocab_size": 100352, "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 16,
        "num_key_value_heads": 16, "intermediate_size": 8192, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}  # fmt: skip
MISTRAL = {"vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "intermediate_size": 14336, "rms_norm_eps": 1e-5, "sliding_window": 4096,
           "tie_word_embeddings": False, "max_position_embeddings": 32768,
           "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}  # fmt: skip
PYTHIA = {"vocab_size": 50304, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
          "intermediate_size": 3072, "layer_norm_eps": 1e-5, "hidden_act": "gelu", "tie_word_embeddings": False,
          "use_parallel_residual": True, "max_position_embeddings": 2048,
          "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                              "partial_rotary_factor": 0.25}}  # fmt: skip
SMOLLM = {"vocab_size": 128256, "hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16,
          "num_key_value_heads": 4, "intermediate_size": 11008, "rms_norm_eps": 1e-6, "no_rope_layer_interval": 4,
          "tie_word_embeddings": True, "max_position_embeddings": 65536,
          "rope_parameters": {"rope_type": "default", "rope_theta": 5000000.0}}  # fmt: skip
NANOCHAT = {"vocab_size": 65536, "hidden_size": 1280, "num_hidden_layers": 20, "num_attention_heads": 10,
            "num_key_value_heads": 10, "intermediate_size": 5120, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
            "final_logit_softcapping": 15.0, "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}  # fmt: skip
DEEPSEEK = {"vocab_size": 102400, "hidden_size": 2048, "num_hidden_layers": 27, "num_attention_heads": 16,
            "num_key_value_heads": 16, "q_lora_rank": None, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64, "v_head_dim": 128, "intermediate_size": 10944, "moe_intermediate_size": 1408,
            "n_routed_experts": 64, "num_experts_per_tok": 6, "n_shared_experts": 2, "first_k_dense_replace": 1,
            "topk_method": "greedy", "n_group": 1, "topk_group": 1, "norm_topk_prob": False,
            "routed_scaling_factor": 1.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
            "max_position_embeddings": 163840,
            "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "beta_fast": 32.0,
                                "beta_slow": 1.0, "mscale": 0.707, "mscale_all_dim": 0.707,
                                "original_max_position_embeddings": 4096}}  # fmt: skip
MIXTRAL = {"vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "intermediate_size": 14336, "num_local_experts": 8, "num_experts_per_tok": 2,
           "rms_norm_eps": 1e-5, "sliding_window": None, "tie_word_embeddings": False, "max_position_embeddings": 32768,
           "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}  # fmt: skip
QWEN_MOE = {"vocab_size": 151936, "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32,
            "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144, "moe_intermediate_size": 768,
            "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": True, "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False, "max_position_embeddings": 40960,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}  # fmt: skip
GPT2 = {"vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}  # fmt: skip
BLOOM = {"vocab_size": 250880, "hidden_size": 1024, "n_layer": 24, "n_head": 16, "layer_norm_epsilon": 1e-5}

PRESETS = {
    "bloom": ("bloom", BLOOM, 559_214_592),
    "deepseek_v2_lite": ("deepseek_v2", DEEPSEEK, 15_706_484_224),
    "gemma2": ("gemma2", GEMMA, 2_614_341_888),
    "gpt2": ("gpt2", GPT2, 124_439_808),
    "llama3": ("llama", LLAMA, 1_235_814_400),
    "mistral": ("mistral", MISTRAL, 7_241_732_096),
    "mixtral": ("mixtral", MIXTRAL, 46_702_792_704),
    "nanochat": ("nanochat", NANOCHAT, 560_988_160),
    "olmo2": ("olmo2", OLMO, 1_484_916_736),
    "pythia": ("gpt_neox", PYTHIA, 162_322_944),
    "qwen3": ("qwen3", QWEN, 596_049_920),
    "qwen3_moe": ("qwen3_moe", QWEN_MOE, 30_532_122_624),
    "smollm3": ("smollm3", SMOLLM, 3_075_098_624),
}


def preset(name, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(f"model/{name}", overrides=["+tokenizer.vocab_size=100", "+seed=7", *overrides])
    with torch.device("meta"):
        model = instantiate(config.model)
    assert isinstance(model, Decoder)
    return model


@pytest.mark.one_in(16)
@pytest.mark.parametrize("name", PRESETS)
def test_it_has_the_published_parameters(name):
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, published, count = PRESETS[name]
    ours = preset(name, f"model.vocab_size={published['vocab_size']}")
    config = AutoConfig.for_model(model_type, **published)
    with torch.device("meta"):
        theirs = AutoModelForCausalLM.from_config(config)
    assert ours.num_parameters() == sum(parameter.numel() for parameter in theirs.parameters()) == count
    text = (CONF / "model" / f"{name}.yaml").read_text(encoding="utf-8")
    assert f": {count:_} parameters with model.vocab_size={published['vocab_size']} (" in text


@pytest.mark.one_in(15)
@pytest.mark.parametrize("name", PRESETS)
def test_it_is_the_published_model_in_every_option(name):
    """Against the decoder built from the numbers of the published config.json, which test_architectures trusts."""
    model_type, published, _ = PRESETS[name]
    ours = preset(name, f"model.vocab_size={published['vocab_size']}")
    architecture = architecture_of(model_type, name)
    with torch.device("meta"):
        theirs = build(architecture, published, name)
    assert differences(describe_decoder(ours), describe_decoder(theirs)) == {}
    assert express(preset(name, "model.num_layers=4"))[0] is architecture


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("model.norm.eps=1e-4", "model.norm.eps"),
        ("model.attention.num_kv_heads=2", "model.attention.num_kv_heads"),
        ("model.position.factor=16", "model.position.factor"),
        ("model.tie_embeddings=false", "model.tie_embeddings"),
        ("model.feedforward.hidden_dim=100", "model.feedforward.hidden_dim"),
        ("model/feedforward=geglu", "model.feedforward.activation"),
        ("model.num_layers=3", "model.num_layers"),
    ],
)
def test_a_changed_option_is_noticed(override, path):
    with torch.device("meta"):
        theirs = build(architecture_of("llama", "llama"), LLAMA, "llama")
    ours = preset("llama3", "model.vocab_size=128256", override)
    assert path in differences(describe_decoder(ours), describe_decoder(theirs))
