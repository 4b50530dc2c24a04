"""How long OpenMP threads should spin before they sleep, on an idle machine and on a busy one (atomiclm/machine.py).

    python benchmarks/openmp_waiting.py [ROUNDS]

Training steps of a small decoder on two threads, in processes of their own, the settings in turn; first alone, then
beside one process that keeps a core busy. Printed are the median steps a second and the ratio to libgomp's default,
round by round. Run it on a machine where nothing else runs, with as many cores as threads: taskset -c 0,1.
"""

import json
import os
import statistics
import subprocess
import sys

STEP = """
import json, time
import numpy as np, torch
from functools import partial
from atomiclm.model import Decoder, MultiHeadAttention, cross_entropy
torch.set_num_threads(2)
model = Decoder(vocab_size=1024, dim=128, num_layers=4, context_length=128,
                attention=partial(MultiHeadAttention, num_heads=4, num_kv_heads=2))
tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 1024, (8, 129)))
def step():
    (cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]) / 1024).backward()
step()
started, steps = time.perf_counter(), 0
while time.perf_counter() - started < 4:
    step()
    steps += 1
print(json.dumps(steps / (time.perf_counter() - started)))
"""
SETTINGS = {"default": {}, "3000 spins": {"GOMP_SPINCOUNT": "3000"}, "no spins": {"GOMP_SPINCOUNT": "0"}}


def steps_per_second(setting: dict[str, str]) -> float:
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")}
    command = [sys.executable, "-c", STEP]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**clean, **setting})
    return float(json.loads(done.stdout))


def compare(label: str, rounds: int) -> None:
    speeds: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for _ in range(rounds):
        for name, setting in SETTINGS.items():
            speeds[name].append(steps_per_second(setting))
    for name, values in speeds.items():
        ratios = sorted(value / default for value, default in zip(values, speeds["default"], strict=True))
        print(
            f"{label}, {name}: {statistics.median(values):.2f} steps/s, "
            f"{statistics.median(ratios):.2f} of the default ({ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    compare("alone", rounds)
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        compare("beside a busy process", rounds)
    finally:
        neighbour.kill()
        neighbour.wait()


if __name__ == "__main__":
    main()
