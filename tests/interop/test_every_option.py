"""Every option of the model is exported exactly, or refused by its name: nothing is lost in silence."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from transformers_float64 import Float64, load_float64

from atomiclm.cli import UserError
from atomiclm.interop import save_huggingface
from atomiclm.interop.huggingface.architecture import Architecture
from atomiclm.interop.huggingface.experts import DEEPSEEK_V2, DEEPSEEK_V3
from atomiclm.model import Decoder, GatedFeedForward

CONF = Path(__file__).parents[2] / "conf"
FOLDERS = sorted(path for path in (CONF / "model").rglob("*") if path.is_dir())
OPTIONS = [
    (folder.relative_to(CONF).as_posix(), option.stem) for folder in FOLDERS for option in sorted(folder.glob("*.yaml"))
]
TRAINING_ONLY = ("model/init", "model/lookahead")
EXPECTED = {
    "model/attention=gqa": "LlamaForCausalLM",
    "model/attention=mla": None,
    "model/attention=sliding": "MistralForCausalLM",
    "model/attention/query_key_norm=per_head": "Qwen3ForCausalLM",
    "model/attention/gate=elementwise": None,
    "model/attention/scores=sink": None,
    "model/block=post": None,
    "model/feedforward=swiglu": "LlamaForCausalLM",
    "model/feedforward=geglu": "LlamaForCausalLM",
    "model/feedforward=gelu": None,
    "model/feedforward=moe": "MixtralForCausalLM",
    "model/head=linear": "LlamaForCausalLM",
    "model/norm=rmsnorm": "LlamaForCausalLM",
    "model/position=nope_every_fourth": "SmolLM3ForCausalLM",
    "model/position=ntk": None,
    "model/position=yarn": "LlamaForCausalLM",
}
"""Some of what must come out: the class that loads it, or None where there is none."""


def model_with(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        sizes = ["model.dim=24", "model.attention.num_heads=4", "model.num_layers=4", "model.context_length=32"]
        common = ["+tokenizer.vocab_size=50", "+seed=7"]
        config = compose("model/tiny", overrides=[*common, *sizes, *overrides])
    model = instantiate(config.model).double().eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def logits_of_export(model, folder, tokens):
    exported = save_huggingface(model, folder)
    theirs = load_float64(folder)
    with Float64(), torch.no_grad():
        return exported.class_name, theirs(tokens).logits


@pytest.mark.one_in(30)
@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{group}={option}" for group, option in OPTIONS])
def test_an_option_is_exported_exactly_or_refused_by_name(group, option, tmp_path):
    model = model_with(f"{group}={option}")
    tokens = torch.randint(50, (2, 20), generator=torch.Generator().manual_seed(1))
    name, refusal = None, ""
    try:
        name, logits = logits_of_export(model, tmp_path / "model", tokens)
    except ValueError as error:
        refusal = str(error)
    if name is None:
        assert not list(tmp_path.iterdir()), "a refusal leaves nothing behind"
        assert group.replace("/", ".") in refusal, "the message names the option"
        assert group not in TRAINING_ONLY
    else:
        with torch.no_grad():
            expected = model(tokens)
        assert (logits - expected).abs().max() <= 1e-9 * expected.abs().max()
    assert EXPECTED.get(f"{group}={option}", name) == name


def test_what_is_expected_is_there():
    assert EXPECTED.keys() <= {f"{group}={option}" for group, option in OPTIONS}


@pytest.mark.one_in(7)
@pytest.mark.parametrize(
    "overrides",
    [
        ("model/attention/query_key_norm=per_head", "model.attention.bias=true"),
        ("model/attention/query_key_norm=per_width", "model/block=reordered"),
        ("model/block=parallel", "model.block.shared_norm=false", "model/norm=layernorm", "model/feedforward=gelu",
         "model.feedforward.bias=true", "model.position.rotary_fraction=0.34", "model/attention=mha"),
        ("model/attention=mla", "model/feedforward=moe_shared", "model.attention.rotary_dim=6"),
        ("model.attention.window=3",),
        ("model.attention.window=[3,null,null]", "model/attention/query_key_norm=per_head"),
        ("model.attention.window=[3,null]", "model/position=rope", "model.attention.bias=true",
         "model.attention.output_bias=false"),
    ],
    ids=["qwen3", "olmo2", "gpt_neox", "deepseek_v3", "mistral", "windows", "qwen2"],
)  # fmt: skip
@pytest.mark.parametrize("layout", ["adjacent", "half"])
def test_both_layouts_of_rotary_pairs_export_to_the_same_function(overrides, layout, tmp_path):
    model = model_with(*overrides, f"model.position.layout={layout}")
    tokens = torch.randint(50, (2, 20), generator=torch.Generator().manual_seed(1))
    _, logits = logits_of_export(model, tmp_path / "model", tokens)
    with torch.no_grad():
        expected = model(tokens)
    assert (logits - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model/attention/gate=headwise",), r"model\.attention\.gate: OutputGate, not None"),
        (("model/position=ntk",), r"model\.position: NTKAware, not RotaryEmbedding"),
        (("model/position=dynamic_ntk", "model.position.original_length=12"),
         r"model\.position\.original_length: 12, not 32"),
        (("model/position=local_global_theta", "model.num_layers=6"), r"model\.position\.theta: 1000000\.0, not 1"),
        (("model.head.scale=0.5", "model.embedding.norm={_target_: atomiclm.model.RMSNorm, _partial_: true}"),
         r"model\.embedding\.norm: RMSNorm, not None"),
        (("model.final_norm={_target_: atomiclm.model.NoNorm, _partial_: true}",), r"model\.final_norm: NoNorm"),
        (("model.final_norm={_target_: atomiclm.model.RMSNorm, _partial_: true, eps: 0.001}",),
         r"model\.norm\.eps: 1e-06, not 0\.001"),
        (("model.attention.window=[3,5]",), r"model\.attention\.window: 3, not None"),
        (("model/position=p_rope", "model/norm=layernorm"), r"model\.norm: LayerNorm, not RMSNorm"),
        (("model/attention=none",), r"model\.attention: NoAttention, not MultiHeadAttention"),
        (("model.attention.window=1",), r"Mistral\w+, which does not have:\n  model\.attention\.window=1: "),
        (("model.attention.window=[1,null]", "model/position=nope_every_fourth"),
         r"SmolLM3\w+, which does not have:\n  model\.attention\.window=1: "),
        (("model/position=none", "model.attention.head_dim=5"),
         r"SmolLM3\w+, which does not have:\n  model\.attention\.head_dim: 5 is odd"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_nearest_class_and_every_option(overrides, message, tmp_path):
    with pytest.raises(ValueError, match=r"The nearest is \w+ForCausalLM, which does not have:") as refusal:
        save_huggingface(model_with(*overrides), tmp_path / "model")
    refusal.match(message)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model/position=none", "model.attention.head_dim=5"), r"SmolLM3\w+ of transformers refuses this model"),
        (("model.attention.window=1",), r"Mistral\w+ of transformers computes other logits with its cache"),
    ],
)
def test_what_was_written_is_tried_before_it_is_there(overrides, message, tmp_path, monkeypatch):
    """Of limits that nobody knows yet."""
    monkeypatch.setattr(Architecture, "limits", lambda *_: iter(()))
    with pytest.raises(UserError, match=message):
        save_huggingface(model_with(*overrides), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_other_logits_are_not_exported(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "atomiclm.interop.huggingface.save.load_huggingface",
        lambda *_, **__: (model_with("model.position.theta=9").float(),),
    )
    with pytest.raises(UserError, match="computes other logits than this model"):
        save_huggingface(model_with(), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_latent_features_of_odd_number_are_for_the_third_version_only():
    model = model_with("model/attention=mla", "model.attention.rotary_dim=6", "model.attention.latent_dim=7")
    (said,) = DEEPSEEK_V2.limits(model)
    assert said.startswith("model.attention.latent_dim: 7 is odd")
    assert list(DEEPSEEK_V3.limits(model)) == []


class SwiGLU(GatedFeedForward):
    """A component from elsewhere, under the name of one of ours."""

    def forward(self, hidden):
        return super().forward(hidden) * 2


class Renamed(GatedFeedForward):
    """The same function as its parent's, but who is to know?"""


@pytest.mark.parametrize("component", [SwiGLU, Renamed])
def test_a_component_from_elsewhere_is_never_taken_for_one_of_ours(component, tmp_path):
    model = Decoder(50, 24, 2, 32, feedforward=component)
    with pytest.raises(ValueError, match=rf"model\.feedforward: [\w.]+\.{component.__name__}, not GatedFeedForward"):
        save_huggingface(model, tmp_path / "model")
