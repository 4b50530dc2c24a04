"""The figure of a study, one SVG without script or style sheet, for a README on a light or a dark page."""

import math

from atomiclm.comparison.comparison import Arm, Comparison
from atomiclm.comparison.page.labels import shortened, text_width
from atomiclm.comparison.page.markup import Markup, element, join
from atomiclm.comparison.page.scale import Scale, domain, tick_labels
from atomiclm.comparison.page.words import SIGNS, confidence, format_mean, metric_of, name_of, short_name_of, verdict_of
from atomiclm.user_error import UserError

WIDTH, ROW, TOP = 700.0, 28.0, 20.0
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
INK, QUIET, FAINT = "#757c85", "#757c85", "#9aa1a9"
COLOURS = {"better": "#1a883f", "worse": "#d9480f", "equivalent": "#1a7fc4", "inconclusive": INK, "diverged": "#d6336c"}
"""Each at least 4:1 against white and against a nearly black page, since a picture cannot know which it lies on."""


def figure_svg(comparison: Comparison) -> str:
    """Draw the arms' means with intervals, the seeds as dots, the baseline as a line and the margin as a band.

    Returns:
        A whole SVG document, 700 pixels wide.

    Raises:
        ValueError: no run has ended, so there is nothing to draw.
    """
    rows = [arm for arm in comparison.arms if arm.runs]
    if not rows:
        raise UserError(f"{comparison.name}: no run has ended, so there is no figure; run the study first")
    names = [shortened(arm.name, 13, 200) for arm in rows]
    left = 8 + max(text_width(name, 13) for name in names)
    means = [format_mean(metric_of(comparison, arm)) for arm in rows]
    said = [_said(comparison, arm) for arm in rows]
    right = WIDTH - 8 - max(text_width(words, 12) for words in said)
    bottom = TOP + ROW * len(rows)
    end = right - 24 - max(text_width(mean, 12) for mean in means)
    x = Scale(*domain(_extent(comparison, rows), pad=0.04), left + 14, end)
    parts = [_baseline(comparison, x, bottom)]
    for index, arm in enumerate(rows):
        middle = TOP + ROW * (index + 0.5)
        is_baseline = arm.name == comparison.baseline
        colour = INK if is_baseline else COLOURS.get(verdict_of(arm), INK)
        parts += [
            _text(names[index], left, middle + 4.5, INK, 13, "end", weight="600" if is_baseline else None),
            _arm(comparison, arm, x, middle, colour),
            _text(means[index], right - 12, middle + 4.5, INK, 12, "end"),
            _text(said[index], WIDTH - 4, middle + 4.5, colour, 12, "end"),
        ]
    parts.append(_axis(comparison, x, bottom))
    height = bottom + 78
    return element(
        "svg",
        element("title", f"{comparison.name}: {name_of(comparison.metric)} by arm"),
        join(*parts),
        xmlns="http://www.w3.org/2000/svg",
        width=WIDTH,
        height=height,
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        font_family=FONT,
    ) + "\n"  # fmt: skip


def _said(comparison: Comparison, arm: Arm) -> str:
    """The verdict with its sign."""
    if arm.verdict:
        return f"{SIGNS[verdict_of(arm)]} {arm.verdict}"
    return "baseline" if arm.name == comparison.baseline else ""


def _extent(comparison: Comparison, rows: list[Arm]) -> list[float]:
    values = [value for arm in rows for value in _seeds(comparison, arm)]
    for arm in rows:
        spread = metric_of(comparison, arm)
        values += [spread.mean - (spread.half_width or 0), spread.mean + (spread.half_width or 0)]
    centre = _centre(comparison)
    return [*values, centre - (comparison.margin or 0), centre + (comparison.margin or 0)]


def _centre(comparison: Comparison) -> float:
    """Mean of the baseline; NaN where none has ended."""
    if comparison.baseline is None:
        return math.nan
    spread = comparison.arm(comparison.baseline).figures.get(comparison.metric)
    return spread.mean if spread is not None else math.nan


def _seeds(comparison: Comparison, arm: Arm) -> list[float]:
    values = [run.summary.get(comparison.metric) for run in arm.runs]
    return [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]


def _baseline(comparison: Comparison, x: Scale, bottom: float) -> Markup:
    """The baseline's mean through all rows, in the band of what would be equivalent to it."""
    centre = _centre(comparison)
    if math.isnan(centre):
        return join()
    parts = []
    if comparison.margin is not None:
        left, right = x(centre - comparison.margin), x(centre + comparison.margin)
        band = {"x": left, "y": TOP, "width": right - left, "height": bottom - TOP}
        parts.append(element("rect", **band, fill=FAINT, fill_opacity=0.18))
    line = f"M{x(centre):.1f} {TOP:.1f}V{bottom:.1f}"
    parts.append(element("path", d=line, stroke=FAINT, stroke_dasharray="4 3"))
    return join(*parts)


def _arm(comparison: Comparison, arm: Arm, x: Scale, middle: float, colour: str) -> Markup:
    spread = metric_of(comparison, arm)
    seeds = (
        element("circle", cx=x(value), cy=middle + 8, r=2, fill=colour, fill_opacity=0.65)
        for value in _seeds(comparison, arm)
    )
    if math.isnan(spread.mean):
        return join(*seeds)
    interval = None
    if spread.half_width:
        low, high = x(spread.mean - spread.half_width), x(spread.mean + spread.half_width)
        path = f"M{low:.1f} {middle - 4:.1f}v8m0 -4H{high:.1f}m0 -4v8"
        interval = element("path", d=path, stroke=colour, stroke_width=1.6, fill="none")
    return join(*seeds, interval, element("circle", cx=x(spread.mean), cy=middle, r=4.5, fill=colour))


def _axis(comparison: Comparison, x: Scale, bottom: float) -> Markup:
    ticks = x.ticks(4)
    parts = [element("path", d=f"M{x.start:.1f} {bottom:.1f}H{x.end:.1f}", stroke=FAINT)]
    for tick, label in zip(ticks, tick_labels(ticks), strict=True):
        parts.append(element("path", d=f"M{x(tick):.1f} {bottom:.1f}v4", stroke=FAINT))
        parts.append(_text(label, x(tick), bottom + 18, QUIET, 12, "middle"))
    metric = short_name_of(comparison.metric)
    first = f"{metric}, {comparison.direction} is better: mean and {confidence(comparison)} interval; dots are seeds"
    band = f"band: margin of {comparison.margin:g} about the baseline; " if comparison.margin is not None else ""
    second = f"{band}verdicts are of differences to the baseline, by seed"
    for line, words in enumerate((first, second)):
        parts.append(_text(words, WIDTH / 2, bottom + 44 + 18 * line, QUIET, 12, "middle"))
    return join(*parts)


def _text(
    text: str, x: float, y: float, colour: str, size: float, anchor: str | None = None, weight: str | None = None
) -> Markup:
    return element("text", text, x=x, y=y, fill=colour, font_size=size, text_anchor=anchor, font_weight=weight)
