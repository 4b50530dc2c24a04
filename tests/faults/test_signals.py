"""SIGTERM, SIGUSR1 and SIGINT during a step, an evaluation and a save: saved, said, and resumed bit-equal."""

import random
import signal

import pytest
from faults import moments
from faults.counts import Counts
from faults.harness import Trial
from faults.matrix import IN_CI, STEPS

SIGNALS = (
    (signal.SIGTERM, "step"),
    (signal.SIGUSR1, "save"),
    (signal.SIGTERM, "evaluation"),
    (signal.SIGINT, "step"),
    (signal.SIGTERM, "save"),
)
WITHIN_SECONDS = 10


@pytest.mark.slow
def test_a_run_asked_to_end_five_times_ends_bit_equal(workshop, tmp_path):
    """One run, interrupted ever later; each time within seconds, with the status that has a scheduler requeue it."""
    chance = random.Random(7)
    trial = Trial(workshop, tmp_path / "trial", IN_CI[0], Counts())
    width = (STEPS - 4) // len(SIGNALS)
    for place, (number, kind) in enumerate(SIGNALS):
        first = 1 + place * width
        seconds = trial.signal(number, moments.drawn(chance, kind, first, first + width), cold=place in (0, 3))
        assert seconds is not None, f"the run was over before signal {place}"
        assert seconds < WITHIN_SECONDS
        assert "same command resumes" in trial.log
        assert "Traceback" not in trial.log
    trial.finish(cold=False)
    assert trial.counts.faults == {"SIGTERM": 3, "SIGUSR1": 1, "SIGINT": 1}
