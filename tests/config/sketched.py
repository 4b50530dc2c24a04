"""A small study for tests to change and to spoil, and the plan of a sweep without its training."""

from pathlib import Path
from typing import Any

import yaml

from atomiclm.config.command_line import composing
from atomiclm.config.compose import PRESETS, compose, initialized, override_key, parsed
from atomiclm.config.expand_overrides import expand_sweep, study_of
from atomiclm.sweep import Study
from atomiclm.sweep.plan import PlannedCell, plan_sweep

STUDY: dict[str, Any] = {
    "question": "Is wider better?",
    "prediction": "Yes.",
    "source": "own expectation",
    "baseline": "narrow",
    "arms": {"narrow": ["model.dim=16"], "wide": ["model.dim=32"]},
    "expect": {"wide": "better"},
    "seeds": [1, 2],
    "margin": 0.01,
    "profiles": {"smoke": ["trainer.max_tokens=8_000", "study.seeds=[1]"]},
}
SMALL = [{"override /model": "tiny"}, {"override /tokenizer": "bytes"}]
TUNED = [*SMALL, {"override /study/tuning": "grid"}]
GROWING = [*SMALL, {"override /study/sequential": "until_resolved"}]
MINE = "experiments=mine"


def write_experiment(
    folder: Path, study: dict[str, Any] | None = None, top: dict[str, Any] | None = None, text: str | None = None
) -> None:
    """Write `folder/experiments/mine.yaml`: STUDY with `study` over it (None takes a key away), or `text` as it is."""
    (folder / "experiments").mkdir(exist_ok=True)
    if text is None:
        merged = {key: value for key, value in {**STUDY, **(study or {})}.items() if value is not None}
        top = {"defaults": SMALL, "name": "mine", **(top or {})}
        text = "# @package _global_\n" + yaml.safe_dump({**top, "study": merged}, sort_keys=False)
    (folder / "experiments" / "mine.yaml").write_text(text, encoding="utf-8")


def read_study(typed) -> Study:
    """The study that is typed, without the rest of its configuration."""
    single = [one.input_line for one in parsed(typed) if not one.is_sweep_override()]
    words = [(one, override_key(one).replace("/", ".").partition(".")[0]) for one in expand_sweep(single)]
    return study_of(compose([one for one, root in words if root in ("study", *PRESETS)]))


def plan(*typed: str) -> list[PlannedCell]:
    """The cells of `atomiclm train -m ...typed`; what is to be tuned stands at the middle of its grid."""
    with composing(typed), initialized():  # as the command does
        return plan_sweep(typed, read_study(typed))
