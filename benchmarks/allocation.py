"""What reusing freed memory saves in a training step on a CPU (Runtime.prepare).

    OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0 python benchmarks/allocation.py [PAIRS]

Both sides train the same small decoder in processes of their own, alternately, and report the CPU time (user and
system) of ten steps after two to warm up; printed are the medians and the ratio pair by pair.
"""

import json
import statistics
import subprocess
import sys

STEP = """
import json, resource, sys
import numpy as np, torch
from functools import partial
from atomiclm.model import Decoder, MultiHeadAttention, cross_entropy
from atomiclm.training import runtime
if sys.argv[1] == "fresh":
    runtime._reuse_freed_memory = lambda: None
machine = runtime.Runtime(device="cpu")
machine.prepare()
model = Decoder(vocab_size=4096, dim=192, num_layers=4, context_length=256,
                attention=partial(MultiHeadAttention, num_heads=8, num_kv_heads=2))
tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 4096, (16, 257)))
def step():
    with machine.autocast(machine.dtype("auto")):
        logits = model(tokens[:, :-1])
    (cross_entropy(logits, tokens[:, 1:]) / 4096).backward()
for _ in range(2): step()
before = resource.getrusage(resource.RUSAGE_SELF)
for _ in range(10): step()
after = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime]))
"""


def measure(side: str) -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", STEP, side], capture_output=True, text=True, check=True)
    user, system = json.loads(done.stdout)
    return user, system


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    fresh, reused = [], []
    for _ in range(pairs):
        fresh.append(measure("fresh"))
        reused.append(measure("reused"))
    for name, side in (("fresh", fresh), ("reused", reused)):
        user, system = (statistics.median(values) for values in zip(*side, strict=True))
        print(f"{name:7} user {user:6.2f} s  system {system:5.2f} s  (medians of {pairs}, ten steps)")
    ratios = sorted(sum(a) / sum(b) for a, b in zip(fresh, reused, strict=True))
    print(f"CPU time fresh / reused: median {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}")


if __name__ == "__main__":
    main()
