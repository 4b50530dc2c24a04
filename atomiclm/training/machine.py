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
from atomiclm.data.cache import exclusive
from atomiclm.tracking.environment import processor_name

_FILE = "machine.json"
_RUNS = 64


@dataclass(frozen=True)
class Device:
    """What matrix products run on, and in which dtype.

    Attributes:
        kind: cpu, cuda, mps.
        device: its name.
        dtype: of the product: float32, bfloat16.
        threads: CPU threads; 0 on an accelerator.
    """

    kind: str
    device: str
    dtype: str
    threads: int

    def key(self) -> tuple[str, str, str, int]:
        return self.kind, self.device, self.dtype, self.threads


@dataclass(frozen=True)
class MatmulRate(Device):
    """The best rate seen of a large square product, a multiply and an add counting as two."""

    flops_per_second: float


@dataclass(frozen=True)
class Reached(Device):
    """What the steps of a run reached."""

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
            if run.key() == rate.key() and 0.5 <= run.flops_per_token / flops_per_token <= 2.0
        ]
        return min(like, default=None)


class Peak:
    """Utilisation is a share of it: the best rate known, raised by a run that is faster; `save` is called with that."""

    def __init__(self, rate: MatmulRate, save: Callable[[MatmulRate], object]) -> None:
        self.rate = rate
        self._save = save

    def utilization(self, flops_per_second: float) -> float:
        """Return the share of the peak that so many FLOP/s are, at most 1."""
        if flops_per_second > self.rate.flops_per_second:
            self.rate = replace(self.rate, flops_per_second=flops_per_second)
            self._save(self.rate)
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


def save_rate(cache_dir: Path, rate: MatmulRate) -> MatmulRate:
    """Save a measurement if it is the best of its device, dtype and threads, and return the best.

    Raises:
        OSError, ValueError: the folder cannot be written to.
    """
    with exclusive(cache_dir / _FILE):
        known = read_machine(cache_dir)
        same = [other for other in known.rates if other.key() == rate.key()]
        best = max([*same, rate], key=lambda one: one.flops_per_second)
        others = (other for other in known.rates if other not in same)
        _write(cache_dir, replace(known, rates=(*others, best)))
    return best


def save_run(cache_dir: Path, run: Reached) -> None:
    """Save what a run reached, and forget the oldest of many.

    Raises:
        OSError, ValueError: the folder cannot be written to.
    """
    with exclusive(cache_dir / _FILE):
        known = read_machine(cache_dir)
        _write(cache_dir, replace(known, runs=(*known.runs, run)[-_RUNS:]))


def _write(cache_dir: Path, machine: Machine) -> None:
    write_atomic(cache_dir / _FILE, (json.dumps(asdict(machine), indent=1) + "\n").encode())
