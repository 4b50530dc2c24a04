"""Every option of conf/model/attention and of its sub-groups composes, builds and is what it says."""

from itertools import product
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

CONF = Path(__file__).parents[2] / "conf"
ATTENTION = CONF / "model" / "attention"
SUBGROUPS = {folder.name: sorted(path.stem for path in folder.glob("*.yaml")) for folder in sorted(ATTENTION.iterdir())}
SUBGROUPS = {name: options for name, options in SUBGROUPS.items() if options}
WITH_SUBGROUPS = ["gqa", "local_global", "mha", "mqa", "sliding"]
TOKENS = torch.arange(12)[None]


def built(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("model/tiny", overrides=["+tokenizer.vocab_size=40", "+seed=7", *overrides])
    return instantiate(config.model, _convert_="all")


def layers(model):
    return [block.attention for block in model.blocks]


def test_the_options_are_the_published_ones():
    assert sorted(path.stem for path in ATTENTION.glob("*.yaml")) == sorted([*WITH_SUBGROUPS, "mla", "none"])
    assert SUBGROUPS == {
        "gate": ["elementwise", "headwise"],
        "query_key_norm": ["per_head", "per_width", "plain"],
        "scores": ["capped", "sink", "softmax"],
    }


@pytest.mark.one_in(8)
@pytest.mark.parametrize(("group", "option"), [(group, option) for group in SUBGROUPS for option in SUBGROUPS[group]])
def test_every_part_goes_with_every_kind(group, option):
    for attention in WITH_SUBGROUPS:
        override = f"model/attention/{group}={option}"
        model = built(f"model/attention={attention}", override, "model.num_layers=1")
        assert getattr(layers(model)[0], group) is not None
        assert torch.isfinite(model(TOKENS)).all()


def test_parts_combine():
    overrides = [f"model/attention/{group}={options[0]}" for group, options in SUBGROUPS.items()]
    layer = layers(built("model/attention=gqa", *overrides, "model.attention.scores.cap=7"))[0]
    kinds = [type(getattr(layer, group)).__name__ for group in SUBGROUPS]
    assert kinds == ["OutputGate", "HeadNorm", "CappedSoftmax"]
    assert layer.scores.cap == 7


def test_kinds_are_what_they_say():
    assert [layer.layer_window for layer in layers(built("model/attention=local_global", "model.num_layers=7"))] == [
        *[64] * 5,
        None,
        64,
    ]
    assert {layer.layer_window for layer in layers(built("model/attention=sliding"))} == {64}
    assert layers(built("model/attention=mla", "model/attention/scores=capped"))[0].cache_elements(1) == 96 + 12
    assert layers(built("model/attention=none"))[0].num_heads == 4


@pytest.mark.parametrize(("attention", "group"), list(product(["mla", "none"], ["gate", "query_key_norm"])))
def test_a_part_that_a_kind_does_not_have_is_refused(attention, group):
    with pytest.raises(Exception, match=f"Could not override 'model/attention/{group}'"):
        built(f"model/attention={attention}", f"model/attention/{group}={SUBGROUPS[group][0]}")
