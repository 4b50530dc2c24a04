"""The axes of a sweep and their product, whose size is found before it is listed: Hydra would list 10**9 cells."""

import itertools
import math
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Sweep

from atomiclm.config.compose import parsed
from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.overrides import override_key

MAX_CELLS = 10_000
"""Of a sweep. Each is composed and validated before the first is trained, which takes about 0.1 s."""


def product(overrides: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return the keys that `overrides` list several values of, and the overrides of every cell, the last key fastest.

    Raises:
        ConfigError: values that cannot be listed, or more cells than are run.
    """
    axes = parsed(overrides)
    if faults := list(sweep_size_faults(axes)):
        raise ConfigError(faults)
    listed: dict[str, list[str]] = {}
    for axis in axes:
        key = axis.get_key_element()
        values = axis.sweep_string_iterator() if axis.is_sweep_override() else [axis.get_value_element_as_str()]
        listed[key] = [f"{key}={value}" for value in values]
    swept = [override_key(axis.input_line or "") for axis in axes if axis.is_sweep_override()]
    return swept, [list(cell) for cell in itertools.product(*listed.values())]


def sweep_size_faults(overrides: Sequence[Override]) -> Iterator[Fault]:
    """Yield what keeps the overrides that list values from being the axes of a sweep.

    Args:
        overrides: all of the sweep, its arms and seeds among them.
    """
    cells, axes = 1, []
    for override in overrides:
        if not override.is_sweep_override():
            continue
        key, value = override_key(override.input_line or ""), override.value()
        if rule := _rule(value):
            yield Fault(key, rule)
        elif (length := _length(value)) is not None:
            cells *= length
            axes.append(f"{length:,} of {key}")
    if cells > MAX_CELLS:
        yield Fault(
            "-m",
            f"the sweep has {cells:,} cells ({', '.join(axes)}), and at most {MAX_CELLS:,} are run; list fewer values, "
            "or make several sweeps of it",
        )


def _rule(value: object) -> str | None:
    """The rule that the values of an axis break."""
    if isinstance(value, IntervalSweep):
        return "an interval has no end of values; list those to be tried: 0.1,0.2,0.5, or range(0.1,0.6,0.1)"
    if isinstance(value, ChoiceSweep) and any(isinstance(one, Sweep) for one in value.list):
        return "a list of values holds single ones; write out the ranges in it"
    if isinstance(value, RangeSweep):
        numbers = (value.start, value.stop, value.step)
        if not all(number is not None and math.isfinite(number) for number in numbers) or not value.step:
            return "a range has three finite numbers, range(start,stop,step), and a step other than 0"
        if not _length(value):
            return f"no value from {value.start} to {value.stop}, left out, in steps of {value.step}; list some"
    return None


def _length(value: object) -> int | None:
    """The number of values; None where a look at the options of a group must tell, which are few."""
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if isinstance(value, RangeSweep):
        assert value.start is not None and value.stop is not None
        return max(0, math.ceil((value.stop - value.start) / value.step))
    return None
