"""The figures of a plan as text: one configuration in full, or a table with one row an arm."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atomiclm.config import CACHE_DTYPE
from atomiclm.config.match import Cost, Rate, residuals

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class CostRow:
    """One row of the table: the settings that tell it apart, its cost, and the size that its match was solved to."""

    settings: Mapping[str, str]
    cost: Cost
    matched: str | None = None


def figures(cost: Cost) -> dict[str, Any]:
    """The figures of one configuration by name, for a program; units are in the names."""
    derived = ("parameters", "non_embedding_parameters", "cache_bytes_per_token", "weight_bytes", "memory_bytes")
    return dataclasses.asdict(cost) | {name: getattr(cost, name) for name in derived}


def describe_cost(cost: Cost, rate: Rate) -> Iterator[tuple[str, str]]:
    """Yield (label, text) for every figure of one configuration."""
    total = cost.parameters
    yield "parameters", f"{total:,}"
    for role, count in cost.parameters_by_role.items():
        if count:
            yield f"  {role}", f"{count:,}  ({count / total:.1%})"
    if cost.active_parameters != total:
        yield "  active for a token", f"{cost.active_parameters:,}  ({cost.active_parameters / total:.1%})"
    context = f"context {cost.context_length}, all scores counted"
    yield "FLOPs/token forward", f"{cost.forward_flops_per_token:,}  ({context})"
    yield "FLOPs/token training", f"{cost.training_flops_per_token:,}"
    needed = cost.needed_flops_per_token
    yield "  without masked scores", f"{needed:,.0f}  ({needed / cost.training_flops_per_token:.1%})"
    yield "cache bytes/token", f"{cost.cache_bytes_per_token:,}  ({CACHE_DTYPE}, over a full context)"
    yield "memory", f"about {_bytes(cost.memory_bytes)} at the peak, beside Python and torch"
    yield "  weights, gradients", f"{_bytes(2 * cost.weight_bytes)}"
    yield "  optimizer", "its class does not say" if cost.optimizer_bytes is None else _bytes(cost.optimizer_bytes)
    yield "  activations", f"about {_bytes(cost.activation_bytes)}, or {_bytes(cost.validation_bytes)} in a validation"
    if cost.host_bytes:
        yield "  on this CPU", f"about {_bytes(cost.host_bytes)}: a checkpoint's copy, the allocator's gaps"
    if cost.tokens is None:
        yield "budget", "seconds of training steps"
        return
    yield "budget", f"{cost.steps:,} steps, {cost.tokens:,} tokens"
    yield "training FLOPs", f"{cost.flops:.3e}"
    yield "time", f"{_time(cost, rate)} of steps, validation not counted"
    yield "  at least", f"at {rate.flops_per_second:.2e} FLOP/s, {rate.origin}"
    if reached := rate.reached(cost.training_flops_per_token):
        yield "  at most", f"at {reached:.2e} FLOP/s, as the slowest run of about this size here"


def cost_table(rows: Sequence[CostRow], rate: Rate) -> Iterator[str]:
    """Yield the lines of a table, percentages are differences to the first row."""
    names = list(dict.fromkeys(name for row in rows for name in row.settings))
    has_match = any(row.matched for row in rows)
    lines = [[*(_short(name, names) for name in names), *(["matched by"] if has_match else [])]]
    lines[0] += ["parameters", "", "non-embedding", "", "FLOPs/token", ""]
    lines[0] += [f"cache B/token ({CACHE_DTYPE})", "", "memory", "time"]
    first = rows[0].cost
    for row in rows:
        cost = row.cost
        against = residuals(cost, first)
        training = cost.training_flops_per_token
        line = [row.settings.get(name, "") for name in names]
        if has_match:
            line.append(row.matched or "")
        line += [
            f"{cost.parameters:,}", _share(against["parameters"]),
            f"{cost.non_embedding_parameters:,}", _share(against["non_embedding_parameters"]),
            f"{training:,}", _share(training / first.training_flops_per_token - 1),
            f"{cost.cache_bytes_per_token:,}", _share(against["cache_bytes"]),
            _bytes(cost.memory_bytes), _time(cost, rate),
        ]  # fmt: skip
        lines.append(line)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = (text.rjust(width) for text, width in zip(line, widths, strict=True) if width)
        yield "  ".join(cells).rstrip()


def _short(name: str, names: Sequence[str]) -> str:
    last = name.rpartition(".")[2]
    return last if [other.rpartition(".")[2] for other in names].count(last) == 1 else name


def _share(fraction: float) -> str:
    return "=" if abs(fraction) < 5e-6 else f"{fraction:+.2%}"


def _bytes(number: float) -> str:
    power = min(4, max(0, math.floor(math.log(number, 1024)))) if number >= 1 else 0
    return f"{number / 1024**power:.1f} {_UNITS[power]}" if power else f"{number:.0f} B"


def _time(cost: Cost, rate: Rate) -> str:
    """From the time at the best rate to that at the rate of like runs; "over" the first where there was none."""
    if cost.tokens is None:
        return ""
    return span(*rate.seconds(cost))


def span(least_seconds: float, most_seconds: float | None) -> str:
    """A time between two, the unit of both said once; "over" the first where there is no second."""
    least = _duration(least_seconds)
    if most_seconds is None:
        return f"over {least}"
    most = _duration(most_seconds)
    if least == most:
        return most
    number, unit = least.split()
    return f"{number if most.endswith(f' {unit}') else least} to {most}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
