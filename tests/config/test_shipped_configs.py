"""The YAML is the product: every option and every cell of every study composes, validates and builds."""

from pathlib import Path

import pytest
import torch
from config.sketched import read_study
from omegaconf import DictConfig

from atomiclm.config.build import build
from atomiclm.config.compose import compose, initialized, resolved, root_keys
from atomiclm.config.plugins import CONF, EXPERIMENTS
from atomiclm.config.validate import validate
from atomiclm.plan import arms_of_experiment
from atomiclm.tokenizer import BasicTokenizer

OPTIONS = sorted(
    (str(path.parent.relative_to(CONF)), path.stem)
    for path in CONF.rglob("*.yaml")
    if path.parent != CONF and path.parent.parts[-2:-1] != ("hydra",)
)
NAMES = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))


def _needed(config: DictConfig, tmp_path: Path) -> list[str]:
    """Give the paths that an option leaves to the user, or that it would otherwise fetch."""
    text = tmp_path / "text.txt"
    text.write_text("some text to read\n" * 50)
    needed = [f"data.path={text}"] if "TextFiles" in config.data._target_ else []
    if "HuggingFace" in config.data._target_:
        needed.append(f"data.name={tmp_path}")
    if "Pretrained" in config.tokenizer._target_:
        tokenizer = BasicTokenizer(300)
        tokenizer.train("some text to read and to learn from\n" * 50)
        tokenizer.save(tmp_path / "tokenizer.json")
        needed += [f"tokenizer.path={tmp_path / 'tokenizer.json'}", f"tokenizer.vocab_size={tokenizer.vocab_size}"]
    return needed


def _built(overrides: list[str], tmp_path: Path) -> dict:
    with initialized():
        config = compose(overrides)
        if needed := _needed(config, tmp_path):
            config = compose([*overrides, *needed])
        values = validate(resolved(config), root_keys())
    with torch.device("meta"):
        model = build({**values["model"], "init": None})
    optimizer = build(values["optim"])
    assert callable(optimizer)
    for group in ("tokenizer", "data", "schedule", "trainer", "evaluation", "tracking", "runtime"):
        build(values[group])
    assert model.num_parameters() == sum(parameter.numel() for parameter in model.parameters())
    return values


@pytest.mark.one_in(96)
@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_of_every_group(group, option, tmp_path):
    # Only what is matched to what makes a match; see test_match.py. A study that adds seeds begins with two.
    needed = {"match": ["match.baseline=['model.dim=64']"], "study/sequential": ["study.seeds=[1,2]"]}.get(group, [])
    needed = needed if option != "none" else []
    _built([f"{group}={option}", *needed], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", NAMES)
def test_every_arm_of_every_experiment(experiment, tmp_path):
    """Seeds change no shape. Profiles and the cells of sweeps are in test_studies.py."""
    for arm in arms_of_experiment([f"experiments={experiment}"], read_study([f"experiments={experiment}"])):
        values = _built(arm, tmp_path)
        assert values["name"] == experiment
        assert read_study(arm).question or not values["arm"], "a study says what it asks"


def test_every_setting_is_explained():
    """Each key of every shipped option carries a comment with its meaning."""
    for path in CONF.rglob("*.yaml"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines, start=1):
            is_setting = ":" in line and not line.lstrip().startswith(("#", "-", "_", "$", "python"))
            follows_header = path.stem == "off" or path.parent.name in ("conf", "debug")
            if is_setting and not follows_header and not line.rstrip().endswith(":"):
                assert "#" in line, f"{path.relative_to(CONF)}:{number} says nothing of: {line.strip()}"
