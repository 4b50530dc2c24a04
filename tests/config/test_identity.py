"""A run's name is a function of what defines the run, and of nothing else."""

import copy

import pytest

from atomiclm.config.identity import IDENTITY, NOT_IDENTITY, digest, run_id, slug

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
    [("name", "other"), ("runtime.device", "cuda"), ("tracking.mode", "offline"), ("evaluation.times", 9)],
)
def test_nothing_else_does(path, value):
    assert digest(_changed(path, value)) == digest(CONFIG)


def test_every_top_level_setting_is_declared_one_or_the_other():
    from atomiclm.config.compose import compose

    assert not set(IDENTITY) & set(NOT_IDENTITY)
    assert set(map(str, compose([]))) <= set(IDENTITY) | set(NOT_IDENTITY)


def test_the_order_of_keys_does_not_matter():
    assert digest(dict(reversed(CONFIG.items()))) == digest(CONFIG)


def test_the_slug_names_what_differs_and_the_seed():
    config = _changed("model.attention.num_heads", 8)
    config["seed"] = 3
    assert slug(config, CONFIG) == "num_heads=8-seed=3"
    assert slug(CONFIG, CONFIG) == "seed=1"
    assert run_id(config, config, CONFIG) == f"num_heads=8-seed=3-{digest(config)}"


def test_the_slug_names_another_class_instead_of_its_arguments():
    config = _changed("model.attention", {"_target_": "a.Latent", "rank": 8})
    assert slug(config, CONFIG) == "attention=Latent-seed=1"


def test_the_slug_is_a_bounded_safe_file_name():
    config = _changed("data.path", "/a b/c:*?" + "x" * 300 + ".txt")
    text = slug(config, CONFIG)
    assert len(text) <= 80
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.=+-")
    assert text.endswith("-seed=1")
