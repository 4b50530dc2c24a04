"""Every preset, made small: it learns one step, and exports as the class it rebuilds, with the same logits."""

import json

import pytest
import torch
from small_model import small_preset
from transformers_float64 import Float64, load_float64

from atomiclm.config.build import build
from atomiclm.config.validate import Check
from atomiclm.interop import describe_decoder, differences, save_huggingface
from atomiclm.interop.huggingface.architectures import express
from atomiclm.interop.huggingface.load import read_model_node
from atomiclm.model import cross_entropy

CLASSES = {
    "bloom": "BloomForCausalLM",
    "deepseek_v2_lite": "DeepseekV2ForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "llama3": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "nanochat": "NanoChatForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "pythia": "GPTNeoXForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}


@pytest.mark.one_in(6)
@pytest.mark.parametrize("name", CLASSES)
def test_a_small_one_learns_and_exports(name, tmp_path):
    model = small_preset(name).double()
    tokens = torch.randint(53, (3, 21), generator=torch.Generator().manual_seed(5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        loss = cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]) / tokens[:, 1:].numel()
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]

    model.eval()
    exported = save_huggingface(model, tmp_path / "model")
    assert exported.class_name == CLASSES[name]
    theirs = load_float64(exported.folder)
    with torch.no_grad(), Float64():
        ours, logits = model(tokens), theirs(tokens).logits
    assert (logits - ours).abs().max() <= 1e-9 * ours.abs().max()


@pytest.mark.parametrize("name", CLASSES)
def test_its_config_json_read_as_a_configuration_builds_the_same_decoder(name, tmp_path):
    model = small_preset(name)
    architecture, config = express(model)
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": architecture.model_type}))
    node, check = read_model_node(tmp_path), Check()
    check.node("model", node)
    assert not check.faults
    built = build(node)
    assert differences(describe_decoder(model), describe_decoder(built)) == {}
    assert built.state_dict().keys() == model.state_dict().keys()
