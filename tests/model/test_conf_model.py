"""Every file of conf/model composes, builds, and says what it does about each argument."""

import inspect
import re
from itertools import product
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

import atomiclm.model
from atomiclm.model import Decoder

CONF = Path(__file__).parents[2] / "conf"
# Published presets have tests of their own (tests/config/test_presets.py).
SIZES = ["medium", "small", "tiny"]
FOLDERS = [path for path in (CONF / "model").iterdir() if path.is_dir()]
GROUPS = {folder.name: sorted(path.stem for path in folder.glob("*.yaml")) for folder in FOLDERS}


def composed(size, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(f"model/{size}", overrides=["+tokenizer.vocab_size=100", "+seed=7", *overrides])


def built(size, *overrides):
    with torch.device("meta"):
        return instantiate(composed(size, *overrides).model)


def test_the_documentation_lists_every_option():
    """Each row of its table names exactly the options that are there."""
    page = (CONF.parent / "docs/configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| (`[^|]+`) \| ([^|]+) \|", page.split("| group | options |")[1].split("\n\n")[0])
    listed: dict[str, set[str]] = {}
    for groups, options in rows:
        names = re.findall(r"`([\w/]+)`", groups)
        parts = options.split(";") if len(names) > 1 else [options]
        for name, part in zip(names, parts, strict=True):
            listed[name] = set(re.findall(r"`(\w+)`", part))
    present: dict[str, set[str]] = {}
    for path in CONF.rglob("*.yaml"):
        group = path.parent.relative_to(CONF).as_posix()
        if group != "." and not group.startswith("hydra"):
            present.setdefault(group, set()).add(path.stem)
    listed.pop("experiments")
    assert listed == present


@pytest.mark.one_in(27)
@pytest.mark.parametrize(("size", "group"), list(product(SIZES, GROUPS)))
def test_every_option_builds_in_every_size(size, group):
    for option in GROUPS[group]:
        model = built(size, f"model/{group}={option}")
        assert isinstance(model, Decoder)
        assert model.vocab_size == 100


@pytest.mark.parametrize(
    ("size", "dim", "layers", "heads", "kv_heads", "context", "parameters"),
    [
        ("tiny", 64, 2, 4, 2, 128, 92_480),
        ("small", 192, 4, 8, 2, 256, 1_550_016),
        ("medium", 512, 8, 8, 2, 1024, 22_061_568),
    ],
)
def test_sizes(size, dim, layers, heads, kv_heads, context, parameters):
    model = built(size)
    attention = model.blocks[0].attention
    assert (model.dim, model.num_layers, model.context_length) == (dim, layers, context)
    assert (attention.num_heads, attention.num_kv_heads) == (heads, kv_heads)
    assert model.num_parameters() - model.num_parameters_by_role()["embedding"] == parameters


@pytest.mark.slow
def test_heads_are_set_in_one_place_and_every_override_arrives():
    assert built("small", "model.attention.num_kv_heads=4").blocks[3].attention.num_kv_heads == 4
    assert built("small", "model.attention.num_heads=4").blocks[0].attention.head_dim == 48
    assert built("medium", "model/attention=mha").blocks[0].attention.num_kv_heads == 8
    assert built("medium", "model/attention=mqa", "model.attention.num_heads=16").blocks[0].attention.num_heads == 16
    assert built("small", "model.position.theta=500").position.theta == 500
    assert built("small", "model.tie_embeddings=false").num_parameters_by_role()["head"] == 100 * 192
    assert built("small", "model.dropout=0.1").blocks[0].attention.dropout == 0.1


def test_seed_of_the_run_decides_the_weights():
    with torch.random.fork_rng():
        first, again, other = (instantiate(composed("tiny", f"seed={seed}").model).state_dict() for seed in (7, 7, 8))
    name = "blocks.0.attention.query.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("path", sorted((CONF / "model").rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_key_is_an_argument_and_is_explained(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# "), "the first line says what the option is"
    node = OmegaConf.to_container(OmegaConf.load(path))
    if "_target_" not in node:  # another size of the same parts
        assert node["defaults"][0] == "small"
        node["_target_"] = "atomiclm.model.Decoder"
    target = node["_target_"].rpartition(".")
    assert target[0] == "atomiclm.model"
    arguments = inspect.signature(getattr(atomiclm.model, target[2])).parameters
    keys = [key for key in node if not key.startswith("_") and key != "defaults"]
    assert set(keys) <= set(arguments)
    for key in keys:
        if isinstance(node[key], dict):
            continue
        assert re.search(rf"(?m)^\s*{key}:.*\s# .+", text), f"{key} has no comment"
