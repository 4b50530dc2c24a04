"""What this machine was seen to do: rates of matrix products, and what runs reached of them.

A run measures the rate when it starts (`Runtime.matmul_rate`) and leaves the best that was ever seen here, beside the
caches, so that `plan` can say how long a configuration takes without measuring anything.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from atomiclm.atomic_io import write_atomic
from atomiclm.data.cache import exclusive, silent
from atomiclm.tracking.environment import processor_name

_FILE = "machine.json"
_RUNS = 64
_LIKE = 2.0


@dataclass(frozen=True)
class MatmulRate:
    """The best rate seen.

    Attributes:
        kind: of device: cpu, cuda, mps.
        device: its name.
        dtype: of the product: float32, bfloat16.
        threads: CPU threads; 0 on an accelerator.
        flops_per_second: of a large square product, a multiply and an add counting as two.
    """

    kind: str
    device: str
    dtype: str
    threads: int
    flops_per_second: float


@dataclass(frozen=True)
class Reached:
    """What the steps of a run reached; the first attributes as those of the rate it ran under."""

    kind: str
    device: str
    dtype: str
    threads: int
    flops_per_token: float
    flops_per_second: float


@dataclass(frozen=True)
class Machine:
    """All that is saved: rates, the last one used at the end, and the newest runs, the newest at the end."""

    rates: tuple[MatmulRate, ...] = ()
    runs: tuple[Reached, ...] = ()

    def rate(self, kind: str | None = None, dtype: str | None = None, threads: int | None = None) -> MatmulRate | None:
        """Return the rate last used that has these values, None standing for any; of a CPU only if it is this one."""
        for rate in reversed(self.rates):
            wanted = zip((kind, dtype, threads), (rate.kind, rate.dtype, rate.threads), strict=True)
            is_here = rate.kind != "cpu" or rate.device == processor_name()
            if is_here and all(value in (None, found) for value, found in wanted):
                return rate
        return None

    def reached(self, rate: MatmulRate, flops_per_token: float) -> float | None:
        """Return the lowest FLOP/s of runs under `rate` with half to twice as many FLOPs a token; None without any."""
        like = [
            run.flops_per_second
            for run in self.runs
            if _key(run) == _key(rate) and 1 / _LIKE <= run.flops_per_token / flops_per_token <= _LIKE
        ]
        return min(like, default=None)


class Peak:
    """The yardstick of a run's utilisation, raised by a run that is faster.

    Args:
        rate: the best rate known.
        keep: called with a better one.
    """

    def __init__(self, rate: MatmulRate, keep: Callable[[MatmulRate], object]) -> None:
        self.rate = rate
        self._keep = keep

    def utilization(self, flops_per_second: float) -> float:
        """Return the share of the peak that so many FLOP/s are, at most 1."""
        if flops_per_second > self.rate.flops_per_second:
            self.rate = replace(self.rate, flops_per_second=flops_per_second)
            self._keep(self.rate)
        return flops_per_second / self.rate.flops_per_second


def read_machine(cache_dir: Path) -> Machine:
    """Return what was seen; nothing where no run has been, or where the file is not readable."""
    try:
        saved = json.loads((cache_dir / _FILE).read_text(encoding="utf-8"))
        rates = tuple(MatmulRate(**row) for row in saved["rates"])
        runs = tuple(Reached(**row) for row in saved["runs"])
        numbers = [rate.flops_per_second for rate in rates]
        numbers += [number for run in runs for number in (run.flops_per_second, run.flops_per_token)]
        return Machine(rates, runs) if all(0 < number < math.inf for number in numbers) else Machine()
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return Machine()


def keep_rate(cache_dir: Path, rate: MatmulRate) -> MatmulRate:
    """Keep a measurement if it is the best of its device, dtype and threads, and return the best.

    Raises:
        OSError, ValueError: the folder cannot be written to.
    """
    best = rate

    def with_rate(known: Machine) -> Machine:
        nonlocal best
        best = max([*(other for other in known.rates if _key(other) == _key(rate)), rate], key=_flops_per_second)
        return replace(known, rates=(*(other for other in known.rates if _key(other) != _key(rate)), best))

    _update(cache_dir, with_rate)
    return best


def keep_run(cache_dir: Path, run: Reached) -> None:
    """Keep what a run reached, and forget the oldest of many.

    Raises:
        OSError, ValueError: the folder cannot be written to.
    """
    _update(cache_dir, lambda known: replace(known, runs=(*known.runs, run)[-_RUNS:]))


def _update(cache_dir: Path, change: Callable[[Machine], Machine]) -> None:
    """Read, change and write, while no other process does."""
    with exclusive(cache_dir / _FILE, silent):
        content = json.dumps(asdict(change(read_machine(cache_dir))), indent=1) + "\n"
        write_atomic(cache_dir / _FILE, content.encode())


def _key(seen: MatmulRate | Reached) -> tuple[str, str, str, int]:
    return seen.kind, seen.device, seen.dtype, seen.threads


def _flops_per_second(rate: MatmulRate) -> float:
    return rate.flops_per_second
