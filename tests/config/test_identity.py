"""A run's name is a function of what defines the run, and of nothing else."""

import copy
import inspect

import pytest

from atomiclm.config.run import digest, read_cell, slug
from atomiclm.optim import AdamW

CONFIG = {
    "tokenizer": {"_target_": "a.T", "vocab_size": 300},
    "data": {"_target_": "a.Text", "path": "/some/where/corpus.txt"},
    "model": {"_target_": "a.D", "dim": 64, "attention": {"_target_": "a.MHA", "num_heads": 4}},
    "optim": {"_target_": "a.AdamW", "lr": 0.001},
    "schedule": {"_target_": "a.Cosine"},
    "trainer": {"_target_": "a.Trainer", "order": {"_target_": "a.Shuffled", "seed": "${seed}"}},
    "seed": 1,
    "name": "runs",
    "runtime": {"device": "cpu"},
    "tracking": {"mode": "auto"},
    "evaluation": {"times": 5},
}


def _changed(path: str, value: object) -> dict:
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split(".")
    node = config
    for part in parents:
        node = node[part]
    node[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.dim", 65),
        ("optim.lr", 0.002),
        ("seed", 2),
        ("data.path", "/else/corpus.txt"),
        ("tokenizer.vocab_size", 1),
    ],
)
def test_every_identity_group_changes_the_digest(path, value):
    assert digest(_changed(path, value)) != digest(CONFIG)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "other"),
        ("runtime.device", "cuda"),
        ("tracking.mode", "offline"),
        ("evaluation.times", 9),
        ("arm", "wide"),
        ("profile", "gpu"),
    ],
)
def test_nothing_else_does(path, value):
    assert digest(_changed(path, value)) == digest(CONFIG)


def test_the_order_of_keys_does_not_matter():
    assert digest(dict(reversed(CONFIG.items()))) == digest(CONFIG)


def test_a_number_is_the_same_however_it_is_written():
    assert digest(_changed("optim.lr", 2)) == digest(_changed("optim.lr", 2.0))
    assert digest(_changed("optim.betas", [0, 0.95])) == digest(_changed("optim.betas", [0.0, 0.95]))
    assert digest(_changed("optim.lr", True)) != digest(_changed("optim.lr", 1))


def test_the_slug_names_what_differs_and_the_seed():
    config = _changed("model.attention.num_heads", 8)
    config["seed"] = 3
    assert slug({}, config, CONFIG) == "num_heads=8-seed=3"
    assert slug({}, CONFIG, CONFIG) == "seed=1"
    assert slug({"model": "tiny", "model/norm": "layernorm"}, CONFIG, CONFIG) == "model=tiny-norm=layernorm-seed=1"
    assert slug({"model": "tiny", "tracking": "off"}, config, CONFIG) == "model=tiny-num_heads=8-seed=3"


def test_the_slug_of_a_study_begins_with_the_arm_and_adds_what_was_typed_beside_it():
    config = {**_changed("model.attention.num_heads", 8), "arm": "many"}
    assert slug({}, {**CONFIG, "arm": "many"}, {**CONFIG, "arm": "many"}) == "many-seed=1"
    assert slug({"model": "tiny"}, config, CONFIG) == "many-model=tiny-num_heads=8-seed=1"


def test_the_slug_names_another_class_instead_of_its_arguments():
    config = _changed("model.attention", {"_target_": "a.Latent", "rank": 8})
    assert slug({}, config, CONFIG) == "attention=Latent-seed=1"


def test_two_keys_that_end_alike_are_told_apart():
    config = _changed("model.attention.bias", True)
    config["model"]["feedforward"] = {"bias": True}
    base = _changed("model.attention.bias", False)
    base["model"]["feedforward"] = {"bias": False}
    assert slug({}, config, base) == "attention.bias=True-feedforward.bias=True-seed=1"


def test_the_slug_keeps_what_is_chosen_and_swept_before_paths_and_budgets():
    config = copy.deepcopy(CONFIG)
    config["data"]["path"] = ["/home/somebody/texts/of_the_first_kind.txt", "texts/of_the_second_kind.txt"]
    config["trainer"] |= {"max_steps": 12_000, "max_tokens": 400_000_000, "max_seconds": 360_000, "batch_size": 4}
    config["optim"]["lr"] = 0.01
    options = {"data": "text", "model": "tiny", "model/norm": "dyt"}
    name = "data=text-model=tiny-norm=dyt-lr=0.01-batch_size=4-max_steps=12000-seed=1"
    assert slug(options, config, CONFIG) == name, "the paths have no room, what is shorter has"
    assert slug(options, config, CONFIG, ["optim.lr", "seed"]).startswith("lr=0.01-data=text-")
    assert slug(options, config, CONFIG, ["model/norm"]).startswith("norm=dyt-data=text-")
    config["data"]["path"] = "/home/somebody/texts/all/"
    assert slug({}, config, CONFIG, ["trainer.max_tokens"]).startswith("max_tokens=400000000-path=all-")


def test_an_axis_may_be_a_mapping_or_the_class_of_a_node():
    config = _changed("optim.lr_scales", {"head": 2})
    config["model"]["dim"] = 8
    base = _changed("optim.lr_scales", {})
    assert slug({}, config, base, ["optim.lr_scales"]) == "head=2-dim=8-seed=1"
    assert slug({}, config, base) == "dim=8-head=2-seed=1"
    config = _changed("model.attention", {"_target_": "a.Latent", "rank": 8})
    config["tokenizer"] = {**CONFIG["tokenizer"], "vocab_size": 9}
    axis = ["model.attention._target_"]
    assert slug({"model": "tiny"}, config, CONFIG, axis) == "attention=Latent-model=tiny-vocab_size=9-seed=1"


def test_the_slug_is_a_bounded_safe_file_name_cut_between_its_parts():
    config = _changed("data.path", "/a b/c:*?.txt")
    assert slug({}, config, CONFIG) == "path=c_.txt-seed=1"
    config["model"] = {**CONFIG["model"], **{f"long_setting_{index}": index for index in range(9)}}
    text = slug({}, config, CONFIG)
    assert len(text) <= 80
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.=+-")
    assert text.endswith("-seed=1")
    assert all("=" in part for part in text.split("-"))


def test_a_setting_that_is_taken_away_is_named_by_what_its_class_uses_instead():
    plain = read_cell(["tokenizer=bytes"])
    taken = read_cell(["tokenizer=bytes", "~optim.lr"])
    assert inspect.signature(AdamW).parameters["lr"].default == 1e-3 != plain.values["optim"]["lr"]
    assert taken.run_id.startswith("tokenizer=bytes-lr=0.001-seed=1-")
    assert taken.run_id != plain.run_id
    assert read_cell(["~optim.lr_scales.head"]).run_id.startswith("head=None-seed=1-"), "of a mapping there is no other"


def test_what_the_chosen_class_does_not_take_is_taken_away_without_a_word(tmp_path, monkeypatch):
    """As the message for such a setting of an experiment's advises."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    text = "# @package _global_\nname: mine\nmodel: {attention: {num_kv_heads: 2}}\n"
    (tmp_path / "experiments" / "mine.yaml").write_text(text)
    typed = ["experiments=mine", "model/attention=mla", "~model.attention.num_kv_heads"]
    assert read_cell(typed).run_id.startswith("attention=mla-seed=1-")
