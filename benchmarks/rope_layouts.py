"""Rotating queries: neighbours as complex numbers, neighbours in real arithmetic, and halves (model/rope.py).

    OMP_NUM_THREADS=1 python benchmarks/rope_layouts.py [ROUNDS]

Forward and backward of one rotation on the CPU, batch 8, 8 heads, 256 tokens, of vectors that lie as a projection left
them; the ways in turn, round by round. Printed are the median time of the complex way, and for each other way the
median, least and greatest ratio of its time to that of the complex way in the same round.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from atomiclm.model.rope import RotaryEmbedding, rotate_adjacent, rotate_adjacent_real, rotate_halves

BATCH_SIZE, NUM_HEADS, LENGTH, REPEATS = 8, 8, 256, 5
Turn = Callable[[Tensor, Tensor], Tensor]


def seconds(turn: Turn, table: Tensor, projected: Tensor, gradient: Tensor) -> float:
    started = time.perf_counter()
    for _ in range(REPEATS):
        projected.grad = None
        vectors = projected.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2)
        # As RotaryEmbedding.rotate does: float32 inside, the vectors' own dtype outside.
        turn(vectors.float(), table).to(vectors.dtype).backward(gradient)
    return (time.perf_counter() - started) / REPEATS


def compare(head_dim: int, dtype: torch.dtype, rounds: int) -> None:
    positions = torch.arange(LENGTH)
    adjacent = RotaryEmbedding(head_dim, layout="adjacent").rotation(positions, LENGTH)
    half = RotaryEmbedding(head_dim, layout="half").rotation(positions, LENGTH)
    ways: dict[str, tuple[Turn, Tensor]] = {
        "complex": (rotate_adjacent, adjacent),
        "real": (rotate_adjacent_real, adjacent),
        "half": (rotate_halves, half),
    }
    projected = torch.randn(BATCH_SIZE, LENGTH, NUM_HEADS * head_dim).to(dtype).requires_grad_()
    gradient = torch.randn(BATCH_SIZE, LENGTH, NUM_HEADS, head_dim).to(dtype).transpose(1, 2)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, (turn, table) in ways.items():
            times[name].append(seconds(turn, table, projected, gradient))
    times = {name: values[1:] for name, values in times.items()}  # the first round warms up
    milliseconds = 1e3 * statistics.median(times["complex"])
    line = f"head_dim {head_dim}, {str(dtype).removeprefix('torch.')}: complex {milliseconds:.2f} ms"
    for name in ("real", "half"):
        ratios = sorted(value / base for value, base in zip(times[name], times["complex"], strict=True))
        line += f"; {name} {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    print(line, flush=True)


def main() -> None:
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    for head_dim in (24, 32, 64):
        for dtype in (torch.float32, torch.bfloat16):
            compare(head_dim, dtype, rounds)


if __name__ == "__main__":
    main()
