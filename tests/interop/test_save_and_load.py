"""Folders: what may be in them, what is refused by name, and that a failure leaves nothing half written."""

import json
import shutil
from functools import partial

import pytest
import safetensors.torch
import torch

from atomiclm.interop import load_huggingface, save_huggingface
from atomiclm.model import (
    Decoder,
    FeedForward,
    LatentAttention,
    LayerNorm,
    LearnedPosition,
    MixtureOfExperts,
    MultiHeadAttention,
    ParallelPrediction,
    RMSNorm,
    SigmoidTopK,
)
from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer

SIZES = {"vocab_size": 40, "dim": 24, "num_layers": 2, "context_length": 32}


def llama(**arguments):
    return Decoder(**SIZES, **{"attention": partial(MultiHeadAttention, num_heads=4, num_kv_heads=2), **arguments})


def gpt2():
    return Decoder(
        **SIZES,
        attention=partial(MultiHeadAttention, num_heads=4, bias=True),
        feedforward=partial(FeedForward, activation="gelu_tanh", bias=True),
        norm=LayerNorm,
        position=LearnedPosition,
    )


def equal(ours, theirs):
    mine, others = ours.state_dict(), theirs.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(mine[name], others[name]) for name in mine)


def edited(folder, **keys):
    """The folder with keys of config.json set, or removed where they are None."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | keys
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


@pytest.fixture
def folder(tmp_path):
    save_huggingface(llama(), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.slow
def test_the_same_model_comes_back_with_its_tokenizer(tmp_path):
    model, tokenizer = llama(), BasicTokenizer(260)
    exported = save_huggingface(model, tmp_path / "deep" / "model", tokenizer)
    assert exported.class_name == "LlamaForCausalLM"
    assert exported.files == {path.name: path.stat().st_size for path in (tmp_path / "deep" / "model").iterdir()}
    assert set(exported.files) == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    back, its_tokenizer = load_huggingface(tmp_path / "deep" / "model")
    # Rows of queries and keys lie otherwise in the file; here they are back under the layout of the file.
    assert back.position.layout == "half"
    tokens = torch.randint(40, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(back(tokens), model.eval()(tokens), atol=1e-5)
    assert its_tokenizer.special_tokens == tokenizer.special_tokens
    generation = json.loads((tmp_path / "deep" / "model" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == tokenizer.special_tokens[END_OF_TEXT]
    assert load_huggingface(tmp_path / "deep" / "model", tokenizer=False)[1] is None
    (tmp_path / "deep" / "model" / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}')
    with pytest.raises(ValueError, match=r"model\.type"):
        load_huggingface(tmp_path / "deep" / "model")


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    save_huggingface(llama(), tmp_path / "mine")  # empty is fine
    before = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}
    with pytest.raises(ValueError, match="not an empty folder"):
        save_huggingface(gpt2(), tmp_path / "mine")
    assert {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()} == before
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="not an empty folder"):
        save_huggingface(llama(), tmp_path / "file")


@pytest.mark.parametrize("where", ["tensors", "configuration"])
def test_a_failure_leaves_nothing_half_written(where, tmp_path, monkeypatch):
    def fail(*arguments, **keywords):
        raise safetensors.SafetensorError("No space left on device")

    if where == "tensors":
        monkeypatch.setattr(safetensors.torch, "save_file", fail)
        with pytest.raises(OSError, match="No space left"):
            save_huggingface(llama(), tmp_path / "model")
    else:
        monkeypatch.setattr(json, "dumps", fail)
        with pytest.raises(OSError, match="No space left"):
            save_huggingface(llama(), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_halves_the_file(tmp_path):
    from transformers import AutoModelForCausalLM

    model = llama()
    sizes = {
        dtype: save_huggingface(model, tmp_path / str(dtype), dtype=dtype).files["model.safetensors"]
        for dtype in (torch.float32, torch.bfloat16)
    }
    assert sizes[torch.bfloat16] < 0.6 * sizes[torch.float32]
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "torch.bfloat16")
    assert theirs.dtype == torch.bfloat16
    half, _ = load_huggingface(tmp_path / "torch.bfloat16")
    assert half.embedding.weight.dtype == torch.float32
    assert torch.equal(half.embedding.weight, model.embedding.weight.bfloat16().float())


def test_the_correction_of_a_routers_choice_stays_float32(tmp_path):
    router = partial(SigmoidTopK, num_groups=2, groups_per_token=1)
    experts = partial(MixtureOfExperts, num_experts=4, num_shared_experts=1, router=router)
    attention = partial(LatentAttention, num_heads=2, latent_dim=6, content_dim=4, rotary_dim=4, value_dim=4)
    model = llama(attention=attention, feedforward=experts)
    for block in model.blocks:
        block.feedforward.router.correction_bias.normal_(generator=torch.Generator().manual_seed(1))
    assert save_huggingface(model, tmp_path / "model", dtype=torch.bfloat16).class_name == "DeepseekV3ForCausalLM"
    tensors = safetensors.torch.load_file(tmp_path / "model" / "model.safetensors")
    kept = {name for name, tensor in tensors.items() if tensor.dtype == torch.float32}
    assert kept == {f"model.layers.{layer}.mlp.gate.e_score_correction_bias" for layer in range(2)}
    back, _ = load_huggingface(tmp_path / "model")
    router = back.blocks[1].feedforward.router
    assert torch.equal(router.correction_bias, model.blocks[1].feedforward.router.correction_bias)


def test_what_only_training_needs_is_left_out_and_named(tmp_path):
    model = llama(lookahead=ParallelPrediction)
    exported = save_huggingface(model, tmp_path / "model")
    assert [line.split(":")[0] for line in exported.left_out] == ["lookahead"]
    assert load_huggingface(tmp_path / "model")[0].lookahead is None


def test_shards_are_read_by_their_index(folder, tmp_path):
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    whole, shards = load_huggingface(folder)[0], load_huggingface(tmp_path / "shards")[0]
    assert equal(whole, shards)


def test_older_files_are_read(folder, tmp_path):
    """What checkpoints of years ago look like: rope_theta beside rope_scaling, GPT-2 without its prefix, with masks."""
    from transformers import AutoConfig

    scaling = {"type": "linear", "factor": 4.0}
    old = load_huggingface(edited(folder, rope_parameters=None, rope_theta=500.0, rope_scaling=scaling))[0]
    assert (type(old.position).__name__, old.position.theta, old.position.factor) == (
        "PositionInterpolation",
        500.0,
        4.0,
    )
    theirs = AutoConfig.from_pretrained(folder)
    assert theirs.rope_parameters["rope_theta"] == 500.0
    assert theirs.rope_parameters["rope_type"] == "linear"

    save_huggingface(gpt2(), tmp_path / "gpt2")
    tensors = safetensors.torch.load_file(tmp_path / "gpt2" / "model.safetensors")
    stripped = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    stripped["h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
    shutil.copytree(tmp_path / "gpt2", tmp_path / "old")
    safetensors.torch.save_file(stripped, tmp_path / "old" / "model.safetensors", metadata={"format": "pt"})
    assert equal(load_huggingface(tmp_path / "gpt2")[0], load_huggingface(tmp_path / "old")[0])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model_type": "t5"}, r"model_type='t5' cannot be read; supported are llama, gpt2"),
        ({"model_type": None}, r"model_type='None' cannot be read"),
        ({"sliding_window": 128}, r"sliding_window=128 cannot be read"),
        ({"attention_chunk_size": 8}, r"attention_chunk_size=8 not understood"),
        ({"use_qk_norm": True}, r"use_qk_norm=True not understood"),
        ({"is_causal": False}, r"is_causal=False not understood"),
        ({"hidden_act": "quick_gelu"}, r"hidden_act='quick_gelu' cannot be read"),
        ({"hidden_size": None}, r"hidden_size is missing"),
        ({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, r"rope_type='longrope' cannot be read"),
        (
            {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 4]}},
            r"mrope_section=\[2, 4\] not understood",
        ),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, r"partial_rotary_factor=0\.5"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}}, r"factor is missing"),
        ({"num_hidden_layers": 3}, r"the weights lack 9 tensors"),
        ({"num_hidden_layers": 1}, r"the weights hold 9 tensors that LlamaForCausalLM .* has not"),
        ({"intermediate_size": 80}, r"has the shape \(64, 24\) where config\.json says \(80, 24\)"),
        ({"attention_bias": True}, r"the weights lack 8 tensors"),
        ({"tie_word_embeddings": False}, r"the weights lack 1 tensors, such as lm_head\.weight"),
    ],
)
def test_what_is_not_understood_is_refused_by_its_name(keys, message, folder):
    with pytest.raises(ValueError, match=message):
        load_huggingface(edited(folder, **keys))


def test_a_tied_head_in_the_file_must_be_the_embedding(folder):
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    head = tensors["model.embed_tokens.weight"].clone()
    safetensors.torch.save_file(tensors | {"lm_head.weight": head}, path)
    load_huggingface(folder)
    safetensors.torch.save_file(tensors | {"lm_head.weight": head + 1}, path)
    with pytest.raises(ValueError, match=r"such as lm_head\.weight"):
        load_huggingface(folder)


def test_what_is_not_there_or_damaged_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        load_huggingface(tmp_path / "nowhere")
    (folder / "model.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(ValueError, match="is damaged"):
        load_huggingface(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        load_huggingface(folder)
    index = {"weight_map": {"model.embed_tokens.weight": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="is not a file of this folder"):
        load_huggingface(folder)


def test_sizes_that_transformers_refuses_are_refused_here(tmp_path):
    """Its Llama wants the width divisible by the heads even where head_dim is given; its Mistral does not."""
    from transformers import AutoModelForCausalLM

    model = llama(attention=partial(MultiHeadAttention, num_heads=5, head_dim=6), norm=partial(RMSNorm, eps=1e-5))
    assert save_huggingface(model, tmp_path / "model").class_name == "MistralForCausalLM"
    AutoModelForCausalLM.from_pretrained(tmp_path / "model")
