"""Two processes on one run: one trains, the other says so and leaves, or waits; the run is the same, bit for bit.

All twenty trials: `python tests/faults/test_two_processes.py FOLDER [TRIALS [SEED]]`, with tests/ on PYTHONPATH.
"""

import random
import sys
from pathlib import Path

import pytest
from faults.together import KINDS, series, together
from faults.workshop import Workshop
from warm import WarmParent

TRIALS = 20


@pytest.mark.slow
@pytest.mark.parametrize(("trial", "kind"), list(enumerate([*KINDS, "alone"])))
def test_two_processes_on_one_run(workshop, tmp_path, trial, kind):
    assert together(workshop, tmp_path / "place", kind, random.Random(trial))


if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    trials, seed = (int(text) for text in (sys.argv[2:4] + [TRIALS, 0][len(sys.argv[2:4]) :]))
    folder.mkdir(parents=True, exist_ok=True)
    shared = Workshop(folder)
    with WarmParent(shared.environment) as shared.warm:
        print(series(shared, folder, trials, seed).table())
