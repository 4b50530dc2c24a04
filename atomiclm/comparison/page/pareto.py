"""Quality against cost: which arms no other beats in both (the frontier of Pareto)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from atomiclm.comparison.comparison import Arm, Comparison, Spread
from atomiclm.comparison.page.frame import PHONE_WIDTH, Frame, chart
from atomiclm.comparison.page.labels import draw, place, shortened
from atomiclm.comparison.page.markup import Markup, element, join
from atomiclm.comparison.page.palette import Look, marker
from atomiclm.comparison.page.scale import Scale, domain
from atomiclm.comparison.page.words import format_cost, format_mean, metric_of, name_of, short_name_of

COSTS = ("cache_bytes_per_token", "flops", "parameters", "tokens_per_second", "decode_tokens_per_second")
"""Less is better of all but the speeds."""
SPEEDS = ("tokens_per_second", "decode_tokens_per_second")
WIDTH, HEIGHT = float(PHONE_WIDTH), 290.0
LABEL_SIZE = 11.0
MOST_NAMES = 10
"""With more arms only the baseline and the frontier have names and intervals; the rest would be a thicket."""


@dataclass(frozen=True)
class _Point:
    """An arm in the chart: its place among the arms, its cost and its quality."""

    index: int
    arm: Arm
    cost: float
    quality: Spread


def pareto(comparison: Comparison, cost: str) -> Markup | None:
    """The chart of one cost; None where it does not tell two arms apart."""
    points = _points(comparison, cost)
    costs, qualities = [point.cost for point in points], [point.quality.mean for point in points]
    if len(points) < 2 or max(costs) <= min(costs) * 1.001:
        return None
    log = min(costs) > 0 and max(costs) > 3 * min(costs)
    x = Scale(*domain(costs, 0.1, log), 52, WIDTH - 8, log)
    is_crowd = len(points) > MOST_NAMES
    y = Scale(*_reach([point.quality for point in points], is_crowd), HEIGHT - 42, 26)
    frame = Frame(x, y, name_of(cost), short_name_of(comparison.metric))
    best = frontier(costs, qualities, cost not in SPEEDS, comparison.direction == "lower")
    steps = sorted((x(costs[position]), y(qualities[position])) for position in best)
    named = [at for at, point in enumerate(points) if not is_crowd or at in best or point.index == 0]
    placed = place(
        [shortened(points[at].arm.name, LABEL_SIZE, 120) for at in named],
        [(x(points[at].cost), y(points[at].quality.mean)) for at in named],
        frame.area,
        [(x(point.cost), y(point.quality.mean)) for point in points],
        LABEL_SIZE,
    )
    drawn = join(
        frame.draw(),
        frame.rules(comparison.anchors if comparison.metric.endswith("bits_per_byte") else {}),
        element("path", d="M" + "L".join(f"{at:.1f} {up:.1f}" for at, up in steps), class_="frontier"),
        *(_mark(point, cost, x, y, with_interval=at in named) for at, point in enumerate(points)),
        draw(placed, LABEL_SIZE),
    )
    label = f"{short_name_of(comparison.metric)} against {name_of(cost)} of {len(points)} arms"
    return chart(drawn, WIDTH, HEIGHT, label)


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


def _points(comparison: Comparison, cost: str) -> list[_Point]:
    """The arms whose cost and quality are known."""
    given = (
        (index, arm, arm.figures.get(cost), metric_of(comparison, arm)) for index, arm in enumerate(comparison.arms)
    )
    return [
        _Point(index, arm, spread.mean, quality)
        for index, arm, spread, quality in given
        if spread is not None and math.isfinite(spread.mean) and math.isfinite(quality.mean)
    ]


def _reach(qualities: Sequence[Spread], is_crowd: bool) -> tuple[float, float]:
    """Ends of the axis: whole intervals where all are drawn, else the means, about which the few drawn ones are cut."""
    means = [quality.mean for quality in qualities]
    halves = [0.0 if is_crowd else quality.half_width or 0.0 for quality in qualities]
    return domain([mean + sign * half for mean, half in zip(means, halves, strict=True) for sign in (-1, 1)], 0.12)


def _mark(point: _Point, cost: str, x: Scale, y: Scale, with_interval: bool) -> Markup:
    quality, look, at = point.quality, Look.of(point.index), x(point.cost)
    title = f"{point.arm.name}: {format_mean(quality)}, {format_cost(cost, point.arm.figures[cost])} {name_of(cost)}"
    whisker = None
    if with_interval and quality.half_width:
        top, bottom = min(quality.mean + quality.half_width, y.high), max(quality.mean - quality.half_width, y.low)
        whisker = element("path", d=f"M{at:.1f} {y(top):.1f}V{y(bottom):.1f}", class_="whisker")
    return element("g", element("title", title), whisker, marker(look, at, y(quality.mean)), class_=look.name)
