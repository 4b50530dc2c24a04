"""What a start costs: from Enter to the first training step of a cached corpus, `--help`, a finished cell skipped.

    python benchmarks/start.py [ROUNDS] [CELLS]

CPU seconds (and wall seconds) of whole processes, in turn, median and range of ROUNDS: `import torch`; a bare Hydra
application that composes the same tree once; both in one process; `atomiclm train` of one step without validation;
`--help`. Then a sweep of CELLS finished cells, and of one of them: their difference by cell is what skipping costs.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from path import BARE, ROOT

TRAIN = (
    "model=tiny", "trainer.max_steps=1", "evaluation.times=0", "evaluation.samples=0", "evaluation.anchors=false",
    "tracking=off",
)  # fmt: skip


def run(folder: Path, *command: str) -> tuple[float, float]:
    """Run Python with `command` in `folder`. Returns its CPU seconds and wall seconds."""
    settings = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0", "PYTHONPATH": str(ROOT)}
    before, begun = os.times(), time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=folder, env=os.environ | settings, capture_output=True)
    after, wall = os.times(), time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return after.children_user + after.children_system - before.children_user - before.children_system, wall


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    cells = int(sys.argv[2]) if len(sys.argv) > 2 else 24
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweep = ["-m", "atomiclm.train", "-m", *TRAIN, "name=sweep"]
        many, one = [*sweep, f"seed=range(1,{cells + 1})"], [*sweep, "seed=1,2"]
        run(folder, *many)  # the corpus is prepared and the cells are finished
        found: dict[str, list[tuple[float, float]]] = {}
        for index in range(rounds):
            for label, command in {
                "import torch": ["-c", "import torch"],
                "bare Hydra": ["-c", BARE, "model=tiny"],
                "torch and bare Hydra": ["-c", f"import torch\n{BARE}", "model=tiny"],
                "train, one step": ["-m", "atomiclm.train", *TRAIN, f"name=run{index}"],
                "train --help": ["-m", "atomiclm.train", "--help"],
                f"sweep of {cells} finished cells": many,
                "sweep of 2 finished cells": one,
            }.items():
                found.setdefault(label, []).append(run(folder, *command))
    print(f"CPU seconds, median and range of {rounds}, and wall seconds:")
    for label, pairs in found.items():
        cpu, wall = zip(*pairs, strict=True)
        spread = f"({min(cpu):.2f} to {max(cpu):.2f})"
        print(f"  {label:26} {statistics.median(cpu):5.2f}  {spread}  {statistics.median(wall):6.2f}")
    pairs = zip(found["train, one step"], found["torch and bare Hydra"], strict=True)
    ratios = sorted(ours[0] / bare[0] for ours, bare in pairs)
    print(f"  train over torch and Hydra {statistics.median(ratios):5.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    skipped = [
        (more[0] - few[0]) / (cells - 2)
        for more, few in zip(found[f"sweep of {cells} finished cells"], found["sweep of 2 finished cells"], strict=True)
    ]
    print(f"  a finished cell, skipped   {statistics.median(skipped):6.3f}  ({min(skipped):.3f} to {max(skipped):.3f})")


if __name__ == "__main__":
    main()
