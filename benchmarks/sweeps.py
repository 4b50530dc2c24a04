"""Eight seeds of the CPU recipe by one sweep, side by side, against one run after another, in wall time.

    python benchmarks/sweeps.py [ROUNDS] [OVERRIDE...]

Each round trains the same seeds by one `atomiclm train` after another, by a sweep with runtime.parallel=1, and by a
sweep that chooses itself; in turn, from empty folders, the text prepared before. Then every seed is trained once more
alone with as many threads as the sweep gave it, and rows of metrics and weights are compared bit for bit. Without
OMP_NUM_THREADS, as on a user's machine.
"""

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEEDS = range(1, 9)
RECIPE = ("experiments=nanogpt_cpu", "data=text", f"data.path={Path(__file__).parents[1] / 'docs'}",
          "trainer.max_steps=300", "tracking=off")  # fmt: skip
CLOCK = ("seconds", "train/tokens_per_second", "train/flops_utilization", "tokens_per_second", "time")


def train(folder: Path, *overrides: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment["ATOMICLM_CACHE"] = str(folder / "cache")
    command = [sys.executable, "-m", "atomiclm.train", "-q", *overrides, *RECIPE, *sys.argv[2:]]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def alone(folder: Path, *overrides: str) -> None:
    for seed in SEEDS:
        train(folder, f"seed={seed}", *overrides)


def sweep(folder: Path, *overrides: str) -> None:
    train(folder, "-m", f"seed={','.join(map(str, SEEDS))}", *overrides)


def results(folder: Path) -> dict[str, tuple[list[object], str]]:
    """Of each run its rows, without what the clock decides, and a hash of its weights."""
    found = {}
    for run in sorted(folder.glob("outputs/nanogpt_cpu/*/")):
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        kept = [{key: row[key] for key in row if key not in CLOCK} for row in rows if row["event"] != "checkpoint"]
        weights = max(run.glob("checkpoints/step_*/model*"))
        found[run.name.rpartition("-")[2]] = kept, hashlib.sha256(weights.read_bytes()).hexdigest()
    return found


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    sides = {
        "one command after another": alone,
        "a sweep, one after another": lambda folder: sweep(folder, "runtime.parallel=1"),
        "a sweep as it chooses": sweep,
    }
    folder = Path(tempfile.mkdtemp(prefix="sweeps-"))
    train(folder, "trainer.max_steps=1", "name=warm")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            shutil.rmtree(folder / "outputs", ignore_errors=True)
            started = time.monotonic()
            side(folder)
            seconds[name].append(time.monotonic() - started)
            print(f"  {name}: {seconds[name][-1]:.1f} s", flush=True)
    last = [*seconds][-1]
    for name, times in seconds.items():
        ratios = sorted(mine / theirs for mine, theirs in zip(seconds[last], times, strict=True))
        print(
            f"{name:28} {statistics.median(times):7.1f} s; {last} takes {statistics.median(ratios):.2f} of it "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {rounds} rounds)"
        )
    swept = results(folder)
    ledger = json.loads((folder / "outputs" / "nanogpt_cpu" / "study.json").read_text())
    shutil.rmtree(folder / "outputs")
    alone(folder, f"runtime.num_threads={ledger['threads']}")
    assert len(swept) == len(SEEDS)
    equal = results(folder) == swept
    print(f"threads of a cell: {ledger['threads']}; bit-equal to each run alone with as many: {equal}")
    shutil.rmtree(folder)
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
