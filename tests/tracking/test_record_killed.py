"""SIGKILL while rows are appended, at random moments."""

import random
import subprocess
import sys
import time

from atomiclm.tracking import read_metrics

APPENDS = """
import sys
from pathlib import Path
from atomiclm.tracking import Record
record = Record(Path(sys.argv[1]))
for step in range(10**9):
    axes = {"step": step, "tokens": step, "seconds": 0.0, "flops": 0.0}
    record.append({"event": "train", **axes, "text": "x" * (step % 5000)})
    print(step, flush=True)
"""


def test_a_kill_at_any_moment_costs_at_most_the_row_being_written(tmp_path):
    """Each row is announced after it was appended: all that were announced must be there, and at most one more."""
    for trial, seconds in enumerate(random.Random(0).uniform(0.0, 0.1) for _ in range(8)):
        path = tmp_path / f"{trial}.jsonl"
        announced = tmp_path / f"{trial}.txt"
        with announced.open("wb") as file:
            process = subprocess.Popen([sys.executable, "-c", APPENDS, str(path)], stdout=file)
            while not announced.stat().st_size:
                time.sleep(0.005)
            time.sleep(seconds)
            process.kill()
            process.wait()
        last = announced.read_bytes().count(b"\n") - 1
        steps = [row["step"] for row in read_metrics(path)]
        assert steps == list(range(len(steps)))
        assert last + 1 <= len(steps) <= last + 2
