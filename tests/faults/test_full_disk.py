"""A disk that fills up while a run trains: said, survived, and made good once there is space."""

import random

import pytest
from faults import trials
from faults.counts import Counts
from faults.disk import CannotMount, small_disk
from faults.harness import Trial
from faults.matrix import IN_CI


@pytest.mark.slow
def test_a_disk_full_three_times_costs_nothing_but_time(workshop, tmp_path):
    chance = random.Random(11)
    try:
        with small_disk(tmp_path / "disk", 24) as disk:
            trial = Trial(workshop, disk, IN_CI[1], Counts())
            for moment, free_bytes in zip(
                trials.spread(("step", "save", "step"), chance), (0, 5_000, 80_000), strict=True
            ):
                trials.fill_once(trial, moment, free_bytes, cold=False)
            trial.finish(cold=False)
            assert trial.counts.faults["full"] == 3
    except CannotMount as error:
        pytest.skip(f"no small disk can be mounted here: {error}")
