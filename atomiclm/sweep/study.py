"""A study as its author declares it, before the first run: the question, the prediction, the arms, and what decides."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal

from atomiclm.cli import UserError
from atomiclm.config.errors import nearest
from atomiclm.sweep.factors import declared_arms

METRICS = (
    "validation/bits_per_byte",
    "validation/loss",
    "validation/accuracy",
    "train/loss",
    "train/bits_per_byte",
    "seconds",
    "tokens_per_second",
    "decode_tokens_per_second",
)
"""Figures of summary.json that may decide; of a mixture also those of a source, its name behind a slash."""

Expected = Literal["better", "worse", "equivalent", "different"]
"""What a prediction says of an arm, against the baseline; `different` leaves the direction open."""


def check_margin(name: str, margin: float) -> None:
    """Raise UserError unless a margin, wherever it was given, is a difference that can matter.

    name: what stands before the number in the message, such as "--margin: "
    """
    if not 0 < margin < math.inf:
        raise UserError(f"{name}{margin:g} is not positive and finite; give the smallest difference that matters")


_ARM = r"[A-Za-z_][\w.+-]*"
_NOT_ARMS = ("null", "true", "false", "yes", "no", "on", "off", "nan", "inf")
"""Names that YAML or the command line (`arm=1e4`) reads as something else than text, digits in front likewise."""


@dataclass(frozen=True)
class Tuning:
    """One setting chosen for every arm by itself, because a value that suits the baseline may not suit its rivals.

    Every arm gets the same trials: each value under each seed, validated on a part of the training text
    (`held_out=dev`), so the text that reports is never looked at. The value with the lowest mean wins; one at an end
    of the grid extends it, for all arms alike, since the optimum may lie beyond.
    """

    key: str  # the setting, optim.lr for example
    values: Sequence[float]  # from small to large, each about the same factor from the last: 1, 3, 10, or 1, 2, 5, 10
    seeds: Sequence[int] = (1001,)  # of the trials; apart from the study's own
    # Values of arms that need others, as many as `values`: two optimizers have no scale in common.
    grids: Mapping[str, Sequence[float]] = field(default_factory=dict)
    max_extensions: int = 2  # of the grid by one value each; an optimum at its end is then reported as such

    def __post_init__(self) -> None:
        for name, values in {"values": self.values, **{f"grids.{arm}": own for arm, own in self.grids.items()}}.items():
            if len(values) < 3:
                raise ValueError(f"{name}={list(values)}: an optimum inside a grid takes at least three values")
            if any(value <= 0 for value in values):
                raise ValueError(f"{name}={list(values)} must be positive")
            factors = [later / earlier for earlier, later in pairwise(values)]
            if min(factors) <= 1 or max(factors) > 1.26 * min(factors):
                raise ValueError(f"{name}={list(values)} must grow by about one factor, as 1e-3, 3e-3, 1e-2 do")
            if len(values) != len(self.values):
                raise ValueError(f"{name} has {len(values)} values, `values` {len(self.values)}: equal trials for all")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={list(self.seeds)} must be at least one, all different")
        if self.max_extensions < 0:
            raise ValueError(f"max_extensions={self.max_extensions} is negative; give 0 for a fixed grid")

    def grid(self, arm: str, lower: int = 0, higher: int = 0) -> list[float]:
        """The values tried for an arm, with so many more below and above by the same factor."""
        values = self.grids.get(arm, self.values)
        factor = (values[-1] / values[0]) ** (1 / (len(values) - 1))
        below = [values[0] / factor**power for power in range(lower, 0, -1)]
        above = [values[-1] * factor**power for power in range(1, higher + 1)]
        # Few digits, so that a run's name and identity do not hang on the last bit of a division.
        return [float(f"{value:.6g}") for value in (*below, *values, *above)]


@dataclass(frozen=True)
class Sequential:
    """Add seeds until every arm has a verdict, or a limit is reached.

    Looking again after every few seeds, and stopping when the answer pleases, finds differences that are not there;
    so the chance of error is shared out over the looks beforehand (`comparison.seeds.look_shares`).
    """

    max_seeds: int  # an arm has at most
    step: int = 2  # seeds added between two looks

    def __post_init__(self) -> None:
        if self.max_seeds < 2 or self.step < 1:
            raise ValueError(f"max_seeds={self.max_seeds}, step={self.step}: give at least 2 seeds and a step of 1")


@dataclass(frozen=True)
class Study:
    """What a study asks, predicts and will be judged by. An experiment that asks nothing has no arms."""

    question: str = ""  # what is to be found out, in a sentence
    prediction: str = ""  # what is expected, in words
    source: str = ""  # where the expectation comes from: authors, year, arXiv number
    # What is expected by arm, for the scoreboard.
    expect: Mapping[str, Literal["better", "worse", "equivalent", "different"]] = field(default_factory=dict)
    baseline: str | None = None  # the arm all others are held against
    # For each arm the overrides that make it, `[]` for the experiment as the file has it.
    arms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # In place of arms: by name the key that a factor varies, and its levels. Every combination is an arm
    # (`sweep.factors.declared_arms`); the first one is the baseline unless another is named.
    factors: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    seeds: Sequence[int] = ()  # repetitions; every arm has the same, and they are compared pairwise
    metric: str = "validation/bits_per_byte"  # figure of summary.json that decides, see METRICS
    direction: Literal["lower", "higher"] = "lower"  # which values of the metric are better
    margin: float | None = None  # the smallest difference in it that matters; smaller ones are called equivalent
    tuning: Tuning | None = None  # a setting chosen for every arm by itself
    sequential: Sequential | None = None  # add seeds until the verdicts are in; None runs `seeds` and no more
    # Overrides for other budgets than the file's own (which is `cpu`): smoke, gpu.
    profiles: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fail_fast: bool = False  # stop the sweep at the first cell that fails

    def __post_init__(self) -> None:
        if self.factors:
            made = {
                arm: [f"{key}={level}" for key, level in own.items()]
                for arm, own in declared_arms(self.factors).items()
            }
            if self.arms and self.arms != made:
                raise ValueError("arms and factors: a study declares one or the other; leave one out")
            object.__setattr__(self, "arms", made)
            object.__setattr__(self, "baseline", self.baseline or next(iter(made)))
        for arm in self.arms:
            if not isinstance(arm, str) or not re.fullmatch(_ARM, arm) or arm.lower() in _NOT_ARMS:
                raise ValueError(f"arms: {arm!r} is no name; begin with a letter, go on with letters, digits, _ . + -")
        if self.arms and self.baseline not in self.arms:
            raise ValueError(f"baseline={self.baseline!r} is none of the arms: {', '.join(self.arms)}")
        if not self.arms and self.baseline is not None:
            raise ValueError(f"baseline={self.baseline!r}, but there are no arms; declare study.arms")
        for arm in self.expect:
            if arm not in self.arms or arm == self.baseline:
                others = ", ".join(name for name in self.arms if name != self.baseline)
                raise ValueError(f"expect: {arm!r} is none of the arms that are compared: {others}")
        if self.expect and not (self.prediction and self.source):
            raise ValueError("expect: give both `prediction`, what is expected, and `source`, who found it")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={list(self.seeds)} are not all different")
        if self.arms and not self.seeds:
            raise ValueError("seeds: a study with arms needs at least one; 3 or more give an error bar")
        if self.tuning and (shared := set(self.seeds) & set(self.tuning.seeds)):
            raise ValueError(f"tuning.seeds: {sorted(shared)} are also in seeds, which would flatter what they tune")
        if self.tuning and self.arms and (strangers := [arm for arm in self.tuning.grids if arm not in self.arms]):
            raise ValueError(f"tuning.grids: {strangers[0]!r} is none of the arms: {', '.join(self.arms)}")
        if not any(self.metric == known or self.metric.startswith(f"{known}/") for known in METRICS):
            raise ValueError(f"metric={self.metric!r} is no figure of every run{nearest(self.metric, METRICS)}")
        if self.margin is not None:
            check_margin("margin=", self.margin)
        if self.sequential and len(self.seeds) > self.sequential.max_seeds:
            raise ValueError(f"sequential.max_seeds={self.sequential.max_seeds} is below the {len(self.seeds)} seeds")
        if self.sequential and len(self.seeds) < 2:
            raise ValueError("sequential: begin with at least 2 seeds; one has no noise to look at")
        if "cpu" in self.profiles:
            raise ValueError("profiles: cpu is the name of what the file itself says; give this profile another")

    @property
    def levels(self) -> dict[str, dict[str, str]]:
        """For each arm its level by factor; empty of a study that declares no factors."""
        arms = declared_arms(self.factors) if self.factors else {}
        return {arm: dict(zip(self.factors, own.values(), strict=True)) for arm, own in arms.items()}

    @property
    def is_declared(self) -> bool:
        """Whether there is anything to compare."""
        return bool(self.arms)

    def prediction_sha256(self) -> str:
        """Hash of everything that must be fixed before the first run for a prediction to be one."""
        fixed = {key: value for key, value in asdict(self).items() if key in _FIXED}
        return hashlib.sha256(json.dumps(fixed, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Study":
        """Inverse of `dataclasses.asdict`, from plain containers."""
        nested: dict[str, Any] = {
            "tuning": Tuning(**values["tuning"]) if values.get("tuning") else None,
            "sequential": Sequential(**values["sequential"]) if values.get("sequential") else None,
        }
        return cls(**{**values, **nested})


_FIXED = ("question", "prediction", "source", "expect", "baseline", "metric", "direction", "margin")
