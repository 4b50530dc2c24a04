"""The study that pages are made of in these tests."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from comparison.fake_runs import gqa_arms, write_study

from atomiclm.comparison.analysis import compare_runs
from atomiclm.comparison.results import Comparison
from atomiclm.comparison.runs import read_runs
from atomiclm.sweep.ledger import TunedValue, read_ledger
from atomiclm.sweep.study import Tuning


def compared(folder: Path, **settings: Any) -> Comparison:
    """What `compare` makes of a folder of runs."""
    return compare_runs(read_runs([folder]), read_ledger(folder), **settings)


def eventful_study(folder: Path) -> Comparison:
    """Four arms, of which one has a missing seed, one a failed and one a diverged one; tuned; predicted."""
    states = [{}, {4: "missing"}, {2: "failed"}, {3: "diverged"}]
    arms = [replace(arm, states=state) for arm, state in zip(gqa_arms(), states, strict=True)]
    trials = {"0.001": 2.0, "0.002": 1.95, "0.004": 1.97}
    tuned = {arm.name: TunedValue(0.002, trials, True) for arm in arms[:3]}
    tuned[arms[3].name] = TunedValue(0.004, {"0.001": math.nan, "0.002": 1.99, "0.004": 1.98}, False)
    declared = {
        "expect": {"kv4": "equivalent", "kv2": "worse", "kv1": "better"},
        "tuning": Tuning("optim.lr", [0.001, 0.002, 0.004]),
    }
    write_study(folder, arms, (1, 2, 3, 4, 5), rows=30, noise=0.006, correlation=0.9, tuned=tuned, study=declared)
    return compared(folder)
