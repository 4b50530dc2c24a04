"""How long training waits for a checkpoint: in the background only for the copy, otherwise until all is on disk.

    OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0 python benchmarks/checkpoint.py [PAIRS] [FOLDER]

One model of about 10 million parameters with its AdamW state; the two ways alternate in one process. Printed are the
medians of the wait, of all that a save takes (writing, hashing, flushing to disk), of verifying and reading it again,
and the ratio of the waits pair by pair. FOLDER is on the disk that is meant; by default the system's temporary one.
"""

import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch

from atomiclm.model import Decoder, MultiHeadAttention, parameter_roles
from atomiclm.optim import AdamW
from atomiclm.training import TrainState, checkpoint
from atomiclm.training.checkpoint import Snapshot


def trained_state() -> TrainState:
    """A state whose optimizer has taken a step."""
    attention = partial(MultiHeadAttention, num_heads=6, num_kv_heads=2)
    model = Decoder(vocab_size=2048, dim=384, num_layers=6, context_length=256, attention=attention)
    state = TrainState(model, AdamW(model.named_parameters(), parameter_roles(model), lr=1e-3))
    model(torch.zeros(1, 8, dtype=torch.long)).sum().backward()
    state.optimizer.step()
    return state


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    parent = sys.argv[2] if len(sys.argv) > 2 else None
    state = trained_state()
    waits: dict[str, list[float]] = {"inside": [], "beside": []}
    whole: list[float] = []
    reading: list[float] = []
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        pool = ThreadPoolExecutor(max_workers=1)
        for _ in range(pairs):
            state.step += 1
            begun = time.perf_counter()
            path = checkpoint.write(Snapshot.take(state), folder)
            waits["inside"].append(time.perf_counter() - begun)
            state.step += 1
            begun = time.perf_counter()
            written = pool.submit(checkpoint.write, Snapshot.take(state), folder)
            waits["beside"].append(time.perf_counter() - begun)
            written.result()
            whole.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            checkpoint.read(path)
            reading.append(time.perf_counter() - begun)
        size = sum(file.stat().st_size for file in path.iterdir())
    parameters = sum(parameter.numel() for parameter in state.model.parameters())
    print(f"{parameters:,} parameters, {size / 1e6:.0f} MB a checkpoint, medians of {pairs}")
    for label, values in (*waits.items(), ("whole save", whole), ("verify and read", reading)):
        print(f"{label:16} {statistics.median(values) * 1e3:8.1f} ms")
    ratios = sorted(a / b for a, b in zip(waits["inside"], waits["beside"], strict=True))
    print(f"wait inside / beside: median {statistics.median(ratios):.1f}, from {ratios[0]:.1f} to {ratios[-1]:.1f}")


if __name__ == "__main__":
    main()
