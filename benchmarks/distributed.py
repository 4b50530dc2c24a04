"""One run in two processes on two cores: the speed-up over one, and the bytes that each strategy sends in a step.

    python benchmarks/distributed.py [ROUNDS] [OVERRIDE...]

Speed: one process and two train in turn, each with one thread; tokens a second are those of the steps after the first
few, by the wall clock, so the machine has to be idle. Traffic: what the loopback interface carried in the steps between
two rows of the record, for all processes together, in a network namespace of its own where this user may make one
(`unshare --net`), against the formulas of docs/scale.md.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

RECIPE = ("model=small", "data=text", f"data.path={Path(__file__).parents[1] / 'docs'}", "trainer.batch_size=16",
          "trainer.max_tokens=null", "tracking=off", "evaluation.times=1", "evaluation.samples=0",
          "evaluation.anchors=false", "runtime.log_every_steps=1", "runtime.checkpoint_every_seconds=null",
          "trainer.precision=float32")  # fmt: skip
STRATEGIES = {
    "ddp": (2, 2, ["runtime.distributed=ddp"]),
    "fsdp": (2, 4, ["runtime.distributed=fsdp"]),
    "fsdp, reshard=false": (2, 3, ["runtime.distributed=fsdp", "runtime.reshard=false"]),
    "fsdp, muon": (2, 5.5, ["runtime.distributed=fsdp", "optim=muon"]),
    "ddp of 4": (4, 6, ["runtime.distributed=ddp"]),
    "fsdp of 4": (4, 12, ["runtime.distributed=fsdp"]),
    "hybrid 2 x 2": (4, 10, ["runtime.distributed=fsdp", "runtime.shard=2"]),
}
"""Processes, and how often all of them together send the weights or as many gradients, by docs/scale.md, with gloo."""


def train(folder: Path, size: int, *overrides: str, around: Sequence[str] = ()) -> list[dict[str, float]]:
    """Train, and return the rows of the steps."""
    shutil.rmtree(folder / "outputs", ignore_errors=True)
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"] if size > 1 else []
    command = [sys.executable, *start, "-m", "atomiclm.train", *RECIPE, *overrides, *sys.argv[2:]]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0", "ATOMICLM_CACHE": str(folder / "cache")}
    subprocess.run([*around, *command], cwd=folder, env=variables, check=True, capture_output=True)
    (file,) = folder.glob("outputs/*/*/metrics.jsonl")
    return [row for row in map(json.loads, file.read_text().splitlines()) if row["event"] == "train"]


def speed(folder: Path, size: int) -> float:
    """Tokens a second, the median of the steps after the first few."""
    rows = train(folder, size, "trainer.max_steps=14")[4:]
    return statistics.median(row["train/tokens_per_second"] for row in rows)


def traffic(folder: Path, size: int, *overrides: str) -> float:
    """Bytes a step of all processes together: what eight steps more have sent."""
    counted = folder / "bytes"
    script = f'ip link set lo up && "$@" && grep lo: /proc/net/dev > {counted}'
    sent = []
    for steps in (4, 12):
        around = ["unshare", "--net", "sh", "-c", script, "sh"]
        train(folder, size, f"trainer.max_steps={steps}", *overrides, around=around)
        sent.append(int(counted.read_text().split()[9]))
    return (sent[1] - sent[0]) / 8


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    folder = Path(tempfile.mkdtemp(prefix="distributed-"))
    train(folder, 1, "trainer.max_steps=1")
    (summary,) = folder.glob("outputs/*/*/summary.json")
    weights = 4 * json.loads(summary.read_text())["parameters"]
    ratios = []
    for _ in range(rounds):
        one, two = speed(folder, 1), speed(folder, 2)
        ratios.append(two / one)
        print(f"  {one:,.0f} tokens/s by one process, {two:,.0f} by two", flush=True)
    if ratios:
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}, {rounds} rounds"
        print(f"two processes (ddp) do {statistics.median(ratios):.2f} times the work of one ({spread})")
    print(f"{'':20} MB a step, all processes   formula   (weights: {weights / 1e6:.1f} MB)")
    for name, (size, times, overrides) in STRATEGIES.items():
        formula = times * weights
        found = traffic(folder, size, *overrides)
        print(f"{name:20} {found / 1e6:10.1f} {formula / 1e6:23.1f}   {found / formula:.2f}", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
