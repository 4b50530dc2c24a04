"""What passive waiting of OpenMP threads costs on an idle machine and saves on a busy one (training/openmp.py).

    python benchmarks/openmp_waiting.py [PAIRS]

Training steps of a small decoder on two threads, in processes of their own, alternately spinning (the default of
libgomp) and passive; once alone, once beside one process that keeps a core busy. Printed are steps a second and the
ratio pair by pair. Run it on a machine where nothing else runs, with as many cores as threads: taskset -c 0,1.
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


def steps_per_second(policy: dict[str, str]) -> float:
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")}
    command = [sys.executable, "-c", STEP]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**clean, **policy})
    return float(json.loads(done.stdout))


def compare(label: str, pairs: int) -> None:
    spinning, passive = [], []
    for _ in range(pairs):
        spinning.append(steps_per_second({}))
        passive.append(steps_per_second({"OMP_WAIT_POLICY": "passive"}))
    ratios = sorted(p / s for p, s in zip(passive, spinning, strict=True))
    print(
        f"{label}: spinning {statistics.median(spinning):.2f}, passive {statistics.median(passive):.2f} steps/s; "
        f"passive / spinning median {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}",
        flush=True,
    )


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    compare("alone", pairs)
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        compare("beside a busy process", pairs)
    finally:
        neighbour.kill()
        neighbour.wait()


if __name__ == "__main__":
    main()
