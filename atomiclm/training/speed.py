"""What this machine was seen to do: rates of matrix products, and what runs reached of them.

A run measures the rate when it starts (`Runtime.matmul_rate`) and leaves the best that was ever seen here, beside the
caches, so that `plan` can say how long a configuration takes without measuring anything.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from atomiclm.atomic_io import write_atomic
from atomiclm.data.cache import exclusive
from atomiclm.tracking.environment import processor_name

_FILE = "machine.json"
_RUNS = 64

_SHORTEST_TIMED_SECONDS = 10.0
"""Runs with fewer seconds of steps save no speed for `plan`, which takes the slowest run: first steps are slow."""

type _Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class MatmulRate:
    """The best rate seen of a large square product on a device, a multiply and an add counting as two.

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
    flops_per_second: _Positive

    def key(self) -> tuple[str, str, str, int]:
        return self.kind, self.device, self.dtype, self.threads


@dataclass(frozen=True)
class Reached(MatmulRate):
    """What the steps of a run reached there."""

    flops_per_token: _Positive


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
    """Utilisation is a share of it: the best rate known here, raised by a run that is faster. Saved for `plan`.

    Args:
        cache_dir: where it is saved.
        rate: measured now.
        say: called where nothing can be saved.
    """

    def __init__(self, cache_dir: Path, rate: MatmulRate, say: Callable[[str], None]) -> None:
        self.rate = rate
        self._cache_dir = cache_dir
        self._say = say
        self._save(rate)

    def utilization(self, flops_per_second: float) -> float:
        """Return the share of the peak that so many FLOP/s are, at most 1."""
        if flops_per_second > self.rate.flops_per_second:
            self._save(replace(self.rate, flops_per_second=flops_per_second))
        return flops_per_second / self.rate.flops_per_second

    def save_run(self, flops_per_token: float, tokens: int, seconds: float) -> None:
        """Save what the steps of a run reached, if there were enough of them."""
        if seconds >= _SHORTEST_TIMED_SECONDS:
            device = self.rate.key()
            self._save(Reached(*device, flops_per_token * tokens / seconds, flops_per_token))

    def _save(self, seen: MatmulRate) -> None:
        try:
            saved = save(self._cache_dir, seen)
        except (OSError, ValueError) as error:
            saved = seen
            self._say(f"the measured speed of this machine was not saved for plan: {error}")
        if not isinstance(saved, Reached):
            self.rate = saved


def read_machine(cache_dir: Path) -> Machine:
    """Return what was seen; nothing where no run has been, or where the file is not readable."""
    try:
        return TypeAdapter(Machine).validate_json((cache_dir / _FILE).read_bytes())
    except (OSError, ValueError):
        return Machine()


def save(cache_dir: Path, seen: MatmulRate) -> MatmulRate:
    """Save what a run reached, or a rate if it is the best of its device, dtype and threads; return run or best.

    Raises:
        OSError, ValueError: the folder cannot be written to.
    """
    with exclusive(cache_dir / _FILE):
        known = read_machine(cache_dir)
        if isinstance(seen, Reached):
            known = replace(known, runs=(*known.runs, seen)[-_RUNS:])
        else:
            same = [other for other in known.rates if other.key() == seen.key()]
            seen = max([*same, seen], key=lambda one: one.flops_per_second)
            known = replace(known, rates=(*(other for other in known.rates if other not in same), seen))
        write_atomic(cache_dir / _FILE, (json.dumps(asdict(known), indent=1) + "\n").encode())
    return seen
