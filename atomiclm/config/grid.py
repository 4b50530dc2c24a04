"""The cells of a sweep: every combination of the values that its overrides list."""

import itertools
import math
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Sweep

from atomiclm.config.compose import parsed
from atomiclm.config.errors import ConfigError, Fault

MAX_CELLS = 10_000
"""Of a sweep. Each is composed and validated before the first is trained, which takes about 0.1 s."""


def product(overrides: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return the keys that `overrides` list several values of, and the overrides of every cell, the last key fastest.

    Raises:
        ConfigError: values that cannot be listed, or more cells than are run; found before any is listed.
    """
    words = parsed(overrides)
    axes = [one for one in words if one.is_sweep_override()]
    faults = [Fault(one.key_or_group, rule) for one in axes if (rule := _rule(one.value()))]
    if not faults:
        lengths = {one.key_or_group: _length(one.value()) for one in axes}
        known = {key: length for key, length in lengths.items() if length is not None}
        if (cells := math.prod(known.values())) > MAX_CELLS:
            axes_text = ", ".join(f"{length:,} of {key}" for key, length in known.items())
            rule = f"the sweep has {cells:,} cells ({axes_text}), and at most {MAX_CELLS:,} are run"
            faults = [Fault("-m", f"{rule}; list fewer values, or make several sweeps of it")]
    if faults:
        raise ConfigError(faults)
    listed = {one.get_key_element(): list(_words(one)) for one in words}  # the last of a key counts
    return [one.key_or_group for one in axes], [list(cell) for cell in itertools.product(*listed.values())]


def _words(override: Override) -> Iterator[str]:
    key = override.get_key_element()
    if override.is_sweep_override():
        return (f"{key}={value}" for value in override.sweep_string_iterator())
    if override.is_delete() and override.value() is None:
        return iter([override.input_line or ""])
    return iter([f"{key}={override.get_value_element_as_str()}"])


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
