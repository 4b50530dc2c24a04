"""Quality against cost, and lines over any x: trials of a tuned setting, evaluations by position."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import altair as alt

from atomiclm.comparison.charts import (
    FIT,
    LIGHT,
    MOST_MARKERS,
    MOST_NAMES,
    WIDTH,
    ArmStyle,
    Rows,
    Theme,
    anchor_layers,
    arm_encodings,
    data,
    distinct,
    finished,
    padded,
    title_above,
)
from atomiclm.comparison.labels import Box, place, shortened, spread_out
from atomiclm.comparison.results import Comparison
from atomiclm.comparison.wording import (
    QUANTITIES,
    format_cost,
    format_spread,
    heading,
    name,
)


@dataclass(frozen=True)
class Line:
    """One line of a chart: y over x, NaN where it breaks; `ringed` are positions of points that are singled out."""

    name: str
    style: ArmStyle
    points: Sequence[tuple[float, float]]
    ringed: Sequence[int] = ()


def pareto(comparison: Comparison, cost: str, theme: Theme = LIGHT) -> Any:
    """Quality against one cost, the arms that no other beats in both joined; None where the cost does not differ."""
    given = [
        (index, arm, arm.figures.get(cost), arm.figures[comparison.metric]) for index, arm in enumerate(comparison.arms)
    ]
    known = [
        (index, arm, spread, quality)
        for index, arm, spread, quality in given
        if spread is not None and math.isfinite(spread.mean) and math.isfinite(quality.mean)
    ]
    costs, qualities = [spread.mean for _, _, spread, _ in known], [quality.mean for *_, quality in known]
    if len(known) < 2 or max(costs) <= min(costs) * 1.001:
        return None
    width, height, crowd = 270, 230, len(known) > 10
    log = min(costs) > 0 and max(costs) > 3 * min(costs)
    xs = padded(costs, 0.1, log)
    halves = [0.0 if crowd else quality.half_width or 0.0 for *_, quality in known]
    ys = padded([mean + sign * half for mean, half in zip(qualities, halves, strict=True) for sign in (-1, 1)], 0.12)
    best = frontier(costs, qualities, not QUANTITIES[cost].larger_is_better, comparison.direction == "lower")
    named = [at for at, (index, *_) in enumerate(known) if not crowd or at in best or index == 0]
    rows: Rows = []
    for at, (_, arm, spread, quality) in enumerate(known):
        half = (quality.half_width or 0.0) if at in named else 0.0
        row = {"arm": arm.name, "cost": spread.mean, "mean": quality.mean, "best": at in best}
        row |= {"low": max(quality.mean - half, ys[0]), "high": min(quality.mean + half, ys[1])}
        rows.append(row | {"quality": format_spread(quality), "takes": format_cost(cost, spread)})
    scale = math.log if log else float
    pixels = [
        (
            width * (scale(spend) - scale(xs[0])) / (scale(xs[1]) - scale(xs[0])),
            height * (ys[1] - mean) / (ys[1] - ys[0]),
        )
        for spend, mean in zip(costs, qualities, strict=True)
    ]
    names = [shortened(known[at][1].name, 11, 120) for at in named]
    joined = sorted(pixels[at] for at in best)
    between = [
        (x + share * (x2 - x), y + share * (y2 - y))
        for (x, y), (x2, y2) in pairwise(joined)
        for share in (0.2, 0.4, 0.6, 0.8)
    ]
    whiskers = [
        (pixels[at][0], pixels[at][1] + share * height * (known[at][3].half_width or 0.0) / (ys[1] - ys[0]))
        for at in named
        for share in (-0.9, -0.6, -0.3, 0.3, 0.6, 0.9)
    ]
    area = Box(0, 0, width, height)
    points = [pixels[at] for at in named]
    placed = place(names, points, area, [*pixels, *between, *whiskers], clearance=5)
    if len(placed) < len(names):  # rather over a line than without a name
        placed = place(names, points, area, pixels, clearance=5)
    labels: Rows = []
    leaders: Rows = []
    for position, box in placed:
        at_x, at_y = pixels[named[position]]
        labels.append({"x": box.left, "y": box.bottom - 3, "text": names[position]})
        near_x, near_y = min(max(at_x, box.left), box.right), min(max(at_y, box.top), box.bottom)
        if (near_x - at_x) ** 2 + (near_y - at_y) ** 2 > 10**2:
            leaders.append({"x": at_x, "y": at_y, "x2": near_x, "y2": near_y})
    x = alt.X(
        "cost:Q",
        title=name(cost),
        scale=alt.Scale(domain=xs, **_scale_type(log)),
        axis=alt.Axis(format=".3~s", values=_log_ticks(*xs) if log else alt.Undefined, tickCount=3, labelOverlap=True),
    )
    y_scale = alt.Scale(domain=ys, nice=False, zero=False)
    y = alt.Y("mean:Q", scale=y_scale, title=None, axis=alt.Axis(tickCount=5, grid=True))
    every = [arm.name for arm in comparison.arms]
    arm_channels = arm_encodings(every, [ArmStyle.of(index) for index in range(len(every))], theme)
    tip = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("quality:N", title=heading(comparison.metric)),
        alt.Tooltip("takes:N", title=heading(cost)),
    ]
    base = alt.Chart(data(rows)).encode(x=x, y=y, tooltip=tip)
    layers: list[alt.Chart] = []
    if comparison.metric.endswith("bits_per_byte"):
        layers += anchor_layers(comparison, y_scale, theme, "true", str(list(ys)))
    layers += [
        base.transform_filter("datum.best").mark_line(strokeDash=[4, 3], stroke=theme.quiet, strokeWidth=1),
        base.mark_rule(opacity=0.5).encode(y=alt.Y("low:Q", scale=y_scale), y2="high:Q", color=arm_channels["color"]),
        alt.Chart(data(leaders))
        .mark_rule(stroke=theme.faint)
        .encode(x=alt.X("x:Q", scale=None), y=alt.Y("y:Q", scale=None), x2="x2:Q", y2="y2:Q"),
        base.mark_point(filled=True, size=55, opacity=1).encode(
            color=arm_channels["color"], shape=arm_channels["shape"]
        ),
        alt.Chart(data(labels))
        .mark_text(align="left", baseline="alphabetic", fontSize=11, color=theme.ink)
        .encode(x=alt.X("x:Q", scale=None), y=alt.Y("y:Q", scale=None), text="text:N"),
    ]
    title = title_above(heading(comparison.metric), theme)
    return finished(alt.layer(*layers).properties(width=width, height=height, title=title), theme)


def frontier(costs: Sequence[float], qualities: Sequence[float], less_cost: bool, less_is_better: bool) -> list[int]:
    """Positions of those that none beats: none is at least as good in both and better in one."""
    signed = [
        (cost if less_cost else -cost, quality if less_is_better else -quality)
        for cost, quality in zip(costs, qualities, strict=True)
    ]
    return [
        position
        for position, (cost, quality) in enumerate(signed)
        if not any(
            other_cost <= cost and other <= quality and (other_cost, other) != (cost, quality)
            for other_cost, other in signed
        )
    ]


def lines(
    given: Sequence[Line],
    x_title: str,
    y_title: str,
    *,
    log: bool = True,
    own_ticks: bool = False,
    y_domain: tuple[float, float] | None = None,
    theme: Theme = LIGHT,
    width: int | Literal["container"] = WIDTH,
    height: int = 300,
) -> Any:
    """Lines with names at their ends: trials of a tuned setting, or an evaluation by position. None without a point.

    Args:
        own_ticks: whether only the values of x that occur are ticks, as those of a grid that was tried.
        y_domain: ends of y; a point beyond is drawn at the edge. None takes all values.
    """
    names = distinct([shortened(line.name, 11, 150) for line in given])
    drawn = [
        [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y) and (x > 0 or not log)]
        for line in given
    ]
    if not any(drawn):
        return None
    low, high = y_domain or padded([y for points in drawn for _, y in points], 0.04)
    rows: Rows = [
        {
            "arm": label,
            "x": x,
            "y": min(max(y, low), high),
            "value": y,
            "ring": any(line.points[at][0] == x for at in line.ringed),
            "dash": line.style.dash,
        }
        for line, label, points in reversed(list(zip(given, names, drawn, strict=True)))  # the baseline on top
        for x, y in points
    ]
    occurring = sorted({row["x"] for row in rows})
    ticks = (
        occurring
        if own_ticks and len(occurring) <= 12
        else _log_ticks(occurring[0], occurring[-1])
        if log
        else alt.Undefined
    )
    x = alt.X(
        "x:Q",
        title=x_title,
        scale=alt.Scale(**_scale_type(log), padding=12),
        axis=alt.Axis(
            labelExpr="datum.value < 0.01 ? format(datum.value, '.3~g') : format(datum.value, '.4~r')",
            values=ticks,
            tickCount=6,
            labelOverlap=True,
        ),
    )
    y = alt.Y(
        "y:Q",
        title=None,
        scale=alt.Scale(domain=[low, high], nice=False, zero=False),
        axis=alt.Axis(grid=True, tickCount=5),
    )
    named = len(names) <= MOST_NAMES
    arm = arm_encodings(names, [line.style for line in given], theme, legend=not named)
    tip = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("x:Q", title=x_title, format=".4~r"),
        alt.Tooltip("value:Q", title=y_title, format=".4f"),
    ]
    base = alt.Chart(data(rows)).encode(x=x, y=y, color=arm["color"], tooltip=tip)
    layers = [base.mark_line(strokeWidth=1.8).encode(strokeDash=arm["strokeDash"])]
    if max(map(len, drawn)) <= MOST_MARKERS:
        layers.append(base.mark_point(filled=True, size=36, opacity=1).encode(shape=arm["shape"]))
    layers.append(
        base.transform_filter("datum.ring").mark_point(size=190, filled=False, strokeWidth=1.5, shape="circle")
    )
    if named:
        wanted = [height * (high - min(max(points[-1][1], low), high)) / (high - low) for points in drawn if points]
        present = [label for label, points in zip(names, drawn, strict=True) if points]
        pixels = spread_out(wanted, 13, 0, height)
        labels = [{"arm": label, "pixel": pixel} for label, pixel in zip(present, pixels, strict=True)]
        layers.append(
            alt.Chart(data(labels))
            .mark_text(align="left", x=alt.expr("width + 8"), fontSize=11)
            .encode(y=alt.Y("pixel:Q", scale=None), text="arm:N", color=arm["color"])
        )
    chart = alt.layer(*layers).properties(width=width, height=height, title=title_above(y_title, theme), autosize=FIT)
    return finished(chart, theme)


def _scale_type(log: bool) -> dict[str, Any]:
    return {"type": "log", "nice": False} if log else {"nice": False, "zero": False}


def _log_ticks(low: float, high: float, most: int = 8) -> Any:
    """Powers of ten in [low, high] and as many multiples as it takes to have three; Undefined where there are fewer."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        inside = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / most)]
    return alt.Undefined
