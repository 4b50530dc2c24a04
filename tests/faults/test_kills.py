"""SIGKILL at random moments, through the real command: every run ends as the run that nothing disturbed.

CI's share. `python tests/faults/soak.py` does the same for as long as it is told to, over the whole matrix.
"""

import random

import pytest
from faults import trials
from faults.counts import Counts
from faults.matrix import IN_CI

TRIALS, KILLS_EACH = 4, 5
PLANS = (
    ("anywhere", "step", "save", "evaluation", "save"),
    ("step", "step", "save", "evaluation", "step"),
)  # fmt: skip


@pytest.fixture(scope="module")
def counts() -> Counts:
    return Counts()


@pytest.mark.slow
@pytest.mark.parametrize("index", range(TRIALS))
def test_a_run_killed_five_times_ends_bit_equal(workshop, tmp_path, counts, index):
    chance = random.Random(index)
    kinds = PLANS[index % len(PLANS)]
    trials.kill(workshop, tmp_path / "trial", IN_CI[index], chance, counts, kinds, cold=False)


@pytest.mark.slow
def test_the_kills_have_landed_where_they_should(counts):
    print(counts.table())
    if counts.trials.total() == TRIALS:  # not where some were deselected
        assert counts.trials["equal"] == TRIALS
        assert counts.faults["kill"] >= TRIALS * KILLS_EACH - 4, "the last of a trial can come when the run is over"
        assert counts.hits["inside a save"] >= 2
