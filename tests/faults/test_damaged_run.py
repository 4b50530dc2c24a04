"""Files of a checkpoint damaged between two starts of the real command: said, kept aside, and made good."""

import random
import shutil

import pytest
from faults import moments, trials
from faults.counts import Counts
from faults.disk import flip, truncate
from faults.evidence import checkpoints
from faults.harness import Trial
from faults.matrix import IN_CI


@pytest.fixture
def killed(workshop, tmp_path):
    """A run killed with two checkpoints behind it."""
    trial = Trial(workshop, tmp_path / "trial", IN_CI[2], Counts())
    assert trial.kill(moments.drawn(random.Random(2), "step", 8, 16), cold=False)
    assert len(checkpoints(trial.run)) >= 2
    return trial


@pytest.mark.slow
def test_the_one_before_takes_over(killed):
    trials.damage_newest(killed, random.Random(3))
    killed.finish(cold=False)
    trials.check_quarantine(killed)


@pytest.mark.slow
def test_where_none_is_sound_nothing_starts_anew_in_silence(killed):
    copies = {path: shutil.copytree(path, path.parents[1] / path.name) for path in checkpoints(killed.run)}
    for path in copies:
        flip(path / "model.safetensors", 9999)
        truncate(path / "state.json", 5)
    before = sorted(killed.run.glob("checkpoints/step_*"))
    assert killed.start(cold=False).wait(300) == 2
    assert all(path.name in killed.log for path in copies)
    assert "Traceback" not in killed.log
    assert before == sorted(killed.run.glob("checkpoints/step_*"))
    for path, copy in copies.items():  # and goes on where they are brought back
        shutil.rmtree(path)
        copy.rename(path)
    killed.finish(cold=False)
