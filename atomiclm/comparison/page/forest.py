"""Differences to the baseline with their intervals: a row an arm (forest plot), or one small cell of a table.

Both have zero, which is the baseline, and the margin about it as a band: an interval that is wholly inside the band is
equivalent, one that leaves zero on one side is a difference.
"""

import math
from collections.abc import Iterable, Sequence

from atomiclm.comparison.comparison import Arm, Comparison, Contrast
from atomiclm.comparison.page.frame import chart
from atomiclm.comparison.page.labels import shortened, text_width
from atomiclm.comparison.page.markup import Markup, element, join
from atomiclm.comparison.page.scale import Scale, domain, tick_labels
from atomiclm.comparison.page.words import format_difference, short_name_of, verdict_of

WIDTH, ROW, TOP = 700.0, 26.0, 30.0
CELL_WIDTH, CELL_HEIGHT = 130.0, 20.0


def forest(comparison: Comparison) -> Markup | None:
    """The forest plot of all arms that can be compared; None where there is none."""
    rows = [arm for arm in comparison.arms if has_difference(arm)]
    if not rows:
        return None
    names = [shortened(arm.name, 12, 210) for arm in rows]
    left = 12 + max(text_width(name, 12) for name in names)
    height = TOP + ROW * len(rows) + 44
    x = Scale(*_range(comparison, rows), left + 10, WIDTH - 200)
    bottom = TOP + ROW * len(rows)
    parts = [_band(comparison, x, TOP - 6, bottom), _zero(x, TOP - 6, bottom)]
    better, worse = ("← better", "worse →") if comparison.direction == "lower" else ("← worse", "better →")
    if x(0) - x.start > 60:
        parts.append(element("text", better, x=x(0) - 8, y=TOP - 14, text_anchor="end", class_="tick"))
    if x.end - x(0) > 60:
        parts.append(element("text", worse, x=x(0) + 8, y=TOP - 14, class_="tick"))
    for index, (arm, name) in enumerate(zip(rows, names, strict=True)):
        assert arm.contrast is not None
        middle = TOP + ROW * (index + 0.5)
        difference, interval = format_difference(arm.contrast)
        row = join(
            element("title", f"{arm.name}: {difference} ({interval or 'no interval'}), {arm.verdict}"),
            element("text", name, x=left, y=middle + 4, text_anchor="end", class_="label"),
            _interval(arm.contrast, x, middle, 4.5),
            _seeds(arm.contrast, x, middle),
            element("text", difference, x=WIDTH - 130, y=middle + 4, text_anchor="end", class_="value"),
            element("text", interval, x=WIDTH, y=middle + 4, text_anchor="end", class_="tick"),
        )
        parts.append(element("g", row, class_=f"verdict {verdict_of(arm)}"))
    ticks = x.ticks(5)
    parts.append(element("path", d=f"M{x.start:.1f} {bottom:.1f}H{x.end:.1f}", class_="axis"))
    for tick, label in zip(ticks, tick_labels(ticks), strict=True):
        parts.append(element("path", d=f"M{x(tick):.1f} {bottom:.1f}v4", class_="axis"))
        parts.append(element("text", label, x=x(tick), y=bottom + 17, text_anchor="middle", class_="tick"))
    unit = f"difference to {shortened(str(comparison.baseline), 12, 200)}, {short_name_of(comparison.metric)}"
    parts.append(
        element("text", unit, x=(x.start + x.end) / 2, y=bottom + 35, text_anchor="middle", class_="axis-name")
    )
    label = f"Differences of {len(rows)} arms to the baseline {comparison.baseline}, with intervals; also in the table."
    return chart(join(*parts), WIDTH, height, label)


def cell(comparison: Comparison, arm: Arm) -> Markup | None:
    """One arm's interval, on the scale of all of them; None where it has no difference."""
    rows = [other for other in comparison.arms if has_difference(other)]
    if not has_difference(arm):
        return None
    assert arm.contrast is not None
    x = Scale(*_range(comparison, rows), 3, CELL_WIDTH - 3)
    parts = join(
        _band(comparison, x, 0, CELL_HEIGHT),
        _zero(x, 0, CELL_HEIGHT),
        _interval(arm.contrast, x, CELL_HEIGHT / 2, 3.5),
    )
    box = f"0 0 {CELL_WIDTH:.0f} {CELL_HEIGHT:.0f}"
    kind = f"cell verdict {verdict_of(arm)}"
    return element("svg", parts, class_=kind, aria_hidden="true", width=CELL_WIDTH, height=CELL_HEIGHT, viewBox=box)


def has_difference(arm: Arm) -> bool:
    """Whether there is a number to draw."""
    return arm.contrast is not None and math.isfinite(arm.contrast.mean)


def _range(comparison: Comparison, rows: Sequence[Arm]) -> tuple[float, float]:
    """Zero, the margin, all means and intervals; an interval ten times wider than the others is cut, with an arrow."""
    contrasts = [arm.contrast for arm in rows if arm.contrast is not None]
    margin = comparison.margin or 0.0
    reach = sorted(max(map(abs, _ends(contrast))) for contrast in contrasts)
    most = max([abs(contrast.mean) for contrast in contrasts] + [3 * reach[len(reach) // 2], margin])
    shown = [min(max(end, -most), most) for contrast in contrasts for end in _ends(contrast)]
    return domain([0.0, margin, -margin, *shown], pad=0.04)


def _ends(contrast: Contrast) -> Iterable[float]:
    return [end for end in (contrast.low, contrast.high) if end is not None and math.isfinite(end)] or [contrast.mean]


def _band(comparison: Comparison, x: Scale, top: float, bottom: float) -> Markup | None:
    if comparison.margin is None:
        return None
    left, right = x(-comparison.margin), x(comparison.margin)
    return element("rect", x=left, y=top, width=right - left, height=bottom - top, class_="margin")


def _zero(x: Scale, top: float, bottom: float) -> Markup:
    return element("path", d=f"M{x(0):.1f} {top:.1f}V{bottom:.1f}", class_="zero")


def _interval(contrast: Contrast, x: Scale, middle: float, radius: float) -> Markup:
    """The interval as a line with ends, or with arrows where it goes on beyond the chart, and the mean as a square."""
    parts = []
    if contrast.low is not None and contrast.high is not None:
        low, high = max(contrast.low, x.low), min(contrast.high, x.high)
        parts.append(element("path", d=f"M{x(low):.1f} {middle:.1f}H{x(high):.1f}", class_="interval"))
        for end, shown, sign in ((contrast.low, low, 1), (contrast.high, high, -1)):
            at, tip = x(shown), 4 * sign
            cut = f"M{at + tip:.1f} {middle - 4:.1f}L{at:.1f} {middle:.1f}L{at + tip:.1f} {middle + 4:.1f}"
            whole = f"M{at:.1f} {middle - 4:.1f}v8"
            parts.append(element("path", d=whole if end == shown else cut, class_="interval"))
    at = x(contrast.mean)
    side = 2 * radius
    parts.append(element("rect", x=at - radius, y=middle - radius, width=side, height=side, class_="mean"))
    return join(*parts)


def _seeds(contrast: Contrast, x: Scale, middle: float) -> Markup:
    inside = [difference for difference in contrast.differences if x.low <= difference <= x.high]
    return join(*(element("circle", cx=x(value), cy=middle + 8, r=1.9, class_="seed") for value in inside))
