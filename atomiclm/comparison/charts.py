"""The charts of a comparison in Altair (Vega-Lite): for the page, for figures (svg, png, pdf) and for notebooks.

Each function takes what it draws and a `Theme`, and returns a chart, or None where there is nothing to draw. A new
chart is one more function that ends in `_finished`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import altair as alt
import vl_convert

from atomiclm.atomic_io import write_atomic
from atomiclm.cli import UserError
from atomiclm.comparison.curves import Recorded
from atomiclm.comparison.labels import Box, place, shortened, spread_out, text_width
from atomiclm.comparison.results import Arm, Comparison, Contrast
from atomiclm.comparison.wording import (
    MINUS,
    QUANTITIES,
    SIGNS,
    confidence,
    difference_parts,
    format_cost,
    format_difference,
    format_spread,
    heading,
    name,
    verdict_word,
)
from atomiclm.tracking.wording import printable

Rows = list[dict[str, Any]]

WIDTH = 700
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
AXES = {"tokens": "training tokens", "flops": "training FLOPs", "seconds": "seconds of training", "step": "steps"}
MOST_NAMES = 8
"""Names at the ends of lines; more would be a list beside the chart, and the legend is that list."""
MOST_MARKERS = 14
"""Points of a line that are marked one by one."""
VERDICTS = ("better", "worse", "equivalent", "inconclusive", "diverged", "")


@dataclass(frozen=True)
class Theme:
    """Colours.

    Attributes:
        ink, quiet, faint: of text, of axes, of grids.
        paper: what lies behind.
        hues: of arms. The first, of the baseline, is ink; the others are six hues after Okabe and Ito (2008, "Color
            Universal Design"), shifted until each has a contrast of 3:1 with its background.
        verdicts: by the words of VERDICTS.
    """

    ink: str
    quiet: str
    faint: str
    paper: str
    hues: Sequence[str]
    verdicts: Sequence[str]


LIGHT = Theme(
    "#1c1f24",
    "#5b626b",
    "#dfe2e6",
    "#ffffff",
    ("#1c1f24", "#0072b2", "#d55e00", "#00916a", "#a8408f", "#3d9ad6", "#7d4300"),
    ("#17723a", "#b3390b", "#0b62b0", "#5b626b", "#b0215a", "#1c1f24"),
)
DARK = Theme(
    "#e8eaed",
    "#a2a9b2",
    "#343a42",
    "#15181d",
    ("#f0f2f5", "#2f86dd", "#ff7f2a", "#2bbf93", "#e07cc9", "#8fd6ff", "#b39256"),
    ("#57c785", "#ff9466", "#7ab8f5", "#a2a9b2", "#ff85b0", "#e8eaed"),
)
PAGE = Theme(
    "var(--ink)",
    "var(--quiet)",
    "var(--line)",
    "var(--paper)",
    tuple(f"var(--hue{index})" for index in range(len(LIGHT.hues))),
    ("var(--good)", "var(--bad)", "var(--same)", "var(--quiet)", "var(--broken)", "var(--ink)"),
)
"""Names of the page's colours, which follow its scheme, light or dark, without drawing anew."""
FIGURE = Theme(
    "#757c85",
    "#757c85",
    "#9aa1a9",
    "#ffffff",
    LIGHT.hues,
    ("#1a883f", "#d9480f", "#1a7fc4", "#757c85", "#d6336c", "#757c85"),
)
"""Each at least 4:1 against white and against a nearly black page, since a picture cannot know which it lies on."""

DASHES: tuple[list[float], ...] = ([1, 0], [7, 3], [2, 2.5], [9, 3, 2, 3])
"""Lengths in pixels of line and gap, by turns."""
SHAPES = {
    "circle": "M-1,0A1,1,0,1,1,1,0A1,1,0,1,1,-1,0Z",
    "square": "M-.9,-.9H.9V.9H-.9Z",
    "triangle": "M0,-1.25L1.08,.63H-1.08Z",
    "diamond": "M0,-1.25L1.25,0L0,1.25L-1.25,0Z",
    "wedge": "M0,1.25L1.08,-.63H-1.08Z",
    "star": "M0,-1.5L.45,-.45L1.5,0L.45,.45L0,1.5L-.45,.45L-1.5,0L-.45,-.45Z",
    "bar": "M-1.5,-.5H1.5V.5H-1.5Z",
}
"""Outlines about (0, 0), of about the same area; the circle is the baseline's."""


@dataclass(frozen=True)
class ArmStyle:
    """How an arm is drawn, so that neither colour nor one way of seeing it is needed."""

    hue: int
    dash: int
    shape: str

    @classmethod
    def of(cls, position: int) -> "ArmStyle":
        """Of the arm at `position`, 0 the baseline; the first 25 all differ in hue and dash, and in hue and shape."""
        if position == 0:
            return cls(0, 0, "circle")
        turn, hue = divmod(position - 1, len(LIGHT.hues) - 1)
        shapes = list(SHAPES)[1:]
        return cls(hue + 1, turn % len(DASHES), shapes[(hue + turn) % len(shapes)])


@dataclass(frozen=True)
class Line:
    """One line of a chart: y over x, NaN where it breaks; `ringed` are positions of points that are singled out."""

    name: str
    style: ArmStyle
    points: Sequence[tuple[float, float]]
    ringed: Sequence[int] = ()


def save(chart: alt.LayerChart, path: Path) -> None:
    """Write a chart as the ending of `path` says: .svg (also without one), .png (of twice as many pixels) or .pdf.

    Raises:
        UserError: another ending.
    """
    spec = specification(chart)
    if path.suffix in (".svg", ""):
        content = svg(spec).encode()
    elif path.suffix == ".png":
        content = vl_convert.vegalite_to_png({**spec, "background": "#ffffff"}, scale=2)
    elif path.suffix == ".pdf":
        content = vl_convert.vegalite_to_pdf(spec)
    else:
        raise UserError(f"{path}: a figure is written as .svg, .png or .pdf; give one of these endings")
    write_atomic(path, content)


def specification(chart: alt.LayerChart) -> dict[str, Any]:
    """A chart as Vega-Lite, whose texts (names of arms come from strangers) can steer nothing."""

    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return printable(value)
        if isinstance(value, dict):
            return {printable(str(key)): plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    found: dict[str, Any] = plain(chart.to_dict())
    return found


def svg(spec: dict[str, Any]) -> str:
    """The picture of a chart's specification."""
    return vl_convert.vegalite_to_svg(spec)


def means(comparison: Comparison, theme: Theme = FIGURE) -> alt.LayerChart:
    """The figure of a study: each arm's mean and interval, its seeds, the baseline as a line and the margin as a band.

    Raises:
        UserError: no run has ended, so there is nothing to draw.
    """
    arms = [arm for arm in comparison.arms if arm.runs]
    if not arms:
        raise UserError(f"{comparison.name}: no run has ended, so there is no figure; run the study first")
    names = _distinct([shortened(arm.name, 13, 200) for arm in arms])
    rows: Rows = []
    seeds: Rows = []
    for arm, label in zip(arms, names, strict=True):
        spread, word = arm.figures[comparison.metric], verdict_word(arm)
        half = spread.half_width or 0.0
        said = f"{SIGNS[word]} {arm.verdict}" if word else "baseline" if arm.name == comparison.baseline else ""
        row = {"arm": label, "verdict": word, "mean": _finite(spread.mean), "text": format_spread(spread), "said": said}
        rows.append(row | {"low": _finite(spread.mean - half), "high": _finite(spread.mean + half)})
        values = [_finite(run.summary.get(comparison.metric)) for run in arm.runs]
        seeds += [{"arm": label, "verdict": word, "value": value} for value in values if value is not None]
    base = next((row for arm, row in zip(arms, rows, strict=True) if arm.name == comparison.baseline), None)
    centre, margin = base["mean"] if base else None, comparison.margin or 0.0
    extent = [row[key] for row in rows for key in ("low", "high")] + [row["value"] for row in seeds]
    extent += [centre - margin, centre + margin] if centre is not None else []
    x = alt.Scale(domain=_padded([value for value in extent if value is not None], 0.04), nice=False, zero=False)
    y = alt.Y(
        "arm:N",
        sort=names,
        title=None,
        axis=alt.Axis(domain=False, ticks=False, labelFontSize=13, labelLimit=220, labelPadding=10),
    )
    colour = _verdict_colour(theme)
    layers: list[alt.Chart] = []
    if centre is not None:
        if comparison.margin is not None:
            band = _data([{"from": centre - margin, "to": centre + margin}])
            layers.append(_margin(alt.Chart(band), theme).encode(x=alt.X("from:Q", scale=x), x2="to:Q"))
        line = alt.Chart(_data([{"mean": centre}])).mark_rule(strokeDash=[4, 3], stroke=theme.faint)
        layers.append(line.encode(x=alt.X("mean:Q", scale=x)))
    column = 14 + 0.85 * max(text_width(row["text"], 12) for row in rows)
    base_chart = alt.Chart(_data(rows)).encode(y=y, color=colour)
    metric = f"{heading(comparison.metric)}, {comparison.direction} is better"
    notes = [f"{metric}: mean and {confidence(comparison.alpha)} interval; dots are seeds"]
    notes.append("verdicts are of differences to the baseline, by seed")
    if comparison.margin is not None:
        notes[1] = f"band: margin of {comparison.margin:g} about the baseline; {notes[1]}"
    layers += [
        alt.Chart(_data(seeds))
        .mark_circle(size=13, opacity=0.65, yOffset=8)
        .encode(x=alt.X("value:Q", scale=x, title=None), y=y, color=colour),
        base_chart.mark_rule(strokeWidth=1.6).encode(x=alt.X("low:Q", scale=x), x2="high:Q"),
        base_chart.mark_tick(size=8, thickness=1.6, orient="vertical", opacity=1).encode(x=alt.X("low:Q", scale=x)),
        base_chart.mark_tick(size=8, thickness=1.6, orient="vertical", opacity=1).encode(x=alt.X("high:Q", scale=x)),
        base_chart.mark_circle(size=64, opacity=1).encode(x=alt.X("mean:Q", scale=x, axis=alt.Axis(tickCount=4))),
        _beside(base_chart, "text", column, theme, align="right"),
        base_chart.mark_text(align="left", fontSize=12, x=alt.expr(f"width + {column + 12:.0f}")).encode(text="said:N"),
    ]
    title = alt.TitleParams(
        notes, orient="bottom", anchor="start", fontSize=12, fontWeight="normal", color=theme.quiet, offset=14
    )
    chart = alt.layer(*layers).properties(
        width=WIDTH, height=28 * len(rows), title=title, autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
    )
    return _finished(chart.properties(padding={"left": 10, "right": 18, "top": 5, "bottom": 5}), theme)


def effects(comparison: Comparison, theme: Theme = LIGHT, width: int | Literal["container"] = WIDTH) -> Any:
    """Differences to the baseline with their intervals, one row an arm (a forest plot); None where there is none.

    An interval that lies wholly in the band is equivalent, one that leaves the zero line on one side is a difference.
    """
    arms = [arm for arm in comparison.arms if has_difference(arm)]
    if not arms:
        return None
    low, high = effect_domain(comparison)
    names = _distinct([shortened(arm.name, 12, 170) for arm in arms])
    rows: Rows = []
    seeds: Rows = []
    for arm, label in zip(arms, names, strict=True):
        contrast = arm.contrast
        assert contrast is not None
        mean, *ends = (text.replace("-", MINUS) for text in difference_parts(contrast))
        row = {"arm": label, "verdict": verdict_word(arm), "mean": contrast.mean, "text": mean, "said": arm.verdict}
        row |= {"interval": " to ".join(ends) if ends[0] else "", "full": f"{arm.name}: {format_difference(contrast)}"}
        if contrast.low is not None and contrast.high is not None:
            row |= {"low": max(contrast.low, low), "high": min(contrast.high, high)}
            row |= {"cut_low": contrast.low < low, "cut_high": contrast.high > high}
        rows.append(row)
        inside = [value for value in contrast.differences if low <= value <= high]
        seeds += [{"arm": label, "verdict": row["verdict"], "value": value} for value in inside]
    x = alt.Scale(domain=[low, high], nice=False, zero=False)
    y = alt.Y(
        "arm:N", sort=names, title=None, axis=alt.Axis(domain=False, ticks=False, labelFontSize=12, labelLimit=190)
    )
    colour = _verdict_colour(theme)
    tip = [alt.Tooltip("full:N", title="arm"), alt.Tooltip("said:N", title="verdict")]
    base = alt.Chart(_data(rows)).encode(y=y, color=colour, tooltip=tip)
    layers: list[alt.Chart] = []
    if comparison.margin is not None:
        band = _data([{"from": -comparison.margin, "to": comparison.margin}])
        layers.append(_margin(alt.Chart(band), theme).encode(x=alt.X("from:Q", scale=x), x2="to:Q"))
    words: list[tuple[str, Any, int]] = [("← better", "right", -8), ("worse →", "left", 8)]
    if comparison.direction == "higher":
        words = [("← worse", "right", -8), ("better →", "left", 8)]
    zero = alt.Chart(_data([{"zero": 0}])).encode(x=alt.X("zero:Q", scale=x))
    layers.append(zero.mark_rule(stroke=theme.ink))
    for text, align, dx in words:
        if (-low if align == "right" else high) > 0.15 * (high - low):
            layers.append(zero.mark_text(text=text, align=align, dx=dx, y=-9, fontSize=11, color=theme.quiet))
    title = f"difference to {shortened(str(comparison.baseline), 11, 160)}, {heading(comparison.metric)}"
    axis = alt.Axis(tickCount=5, title=title, labelFlush=False)
    for end, shape in (("low", "triangle-left"), ("high", "triangle-right")):
        at = alt.X(f"{end}:Q", scale=x)
        layers.append(
            base.transform_filter(f"datum.cut_{end} === false")
            .mark_tick(size=8, thickness=1.5, orient="vertical", opacity=1)
            .encode(x=at)
        )
        layers.append(
            base.transform_filter(f"datum.cut_{end} === true")
            .mark_point(shape=shape, size=35, filled=True)
            .encode(x=at)
        )
    layers += [
        base.mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q", scale=x), x2="high:Q"),
        base.mark_square(size=80, opacity=1).encode(x=alt.X("mean:Q", scale=x, axis=axis)),
        alt.Chart(_data(seeds))
        .mark_circle(size=12, opacity=0.65, yOffset=9)
        .encode(x=alt.X("value:Q", scale=x), y=y, color=colour),
        base.mark_text(align="left", dy=-6, x=alt.expr("width + 12"), fontWeight="bold").encode(
            text="text:N", color=alt.value(theme.ink)
        ),
        base.mark_text(align="left", dy=7, x=alt.expr("width + 12"), fontSize=10).encode(
            text="interval:N", color=alt.value(theme.quiet)
        ),
    ]
    return _finished(alt.layer(*layers).properties(width=width, height=32 * len(rows), autosize=_FIT), theme)


def curves(
    comparison: Comparison, recorded: Recorded, theme: Theme = LIGHT, width: int | Literal["container"] = WIDTH
) -> Any:
    """What was measured over the course of training: means over the seeds, with bands from the least to the greatest.

    Its controls choose both axes, a logarithmic x, the last half and single seeds; a click in the legend singles out
    an arm. None where no run has recorded a curve.
    """
    if not recorded.figures:
        return None
    names = _distinct([shortened(arm.name, 11, 160) for arm in comparison.arms])
    styles = [ArmStyle.of(index) for index in range(len(names))]
    rows, ends = _curve_rows(names, recorded)
    most = max((len(curve.values) for arm in recorded.arms for curve in arm.curves.values()), default=0)
    figures = {figure: name(figure) for figure in recorded.figures}
    reach = {key: _reach(recorded, figure, half) for figure in figures for key, half in _reach_keys(figure)}
    height = 320
    first = recorded.figures[0]
    param = alt.param
    axis = param(
        "axis", value="tokens", bind=alt.binding_radio(options=list(AXES), labels=list(AXES.values()), name="x ")
    )
    figure = param(
        "figure", value=first, bind=alt.binding_radio(options=list(figures), labels=list(figures.values()), name="y ")
    )
    log = param("log", value=False, bind=alt.binding_checkbox(name="logarithmic x "))
    half = param("half", value=False, bind=alt.binding_checkbox(name="the last half "))
    seeds = param("seeds", value=False, bind=alt.binding_checkbox(name="single seeds "))
    told = [param("figures", value=figures), param("axes", value=AXES), param("reach", value=reach)]
    picked = alt.selection_point("arms", fields=["arm"], bind="legend")
    hover = alt.selection_point("at", fields=["x"], nearest=True, on="pointermove", clear="pointerout", empty=False)
    shown = [
        alt.FilterTransform("datum.figure === figure"),
        alt.CalculateTransform(calculate="log ? log(datum[axis]) / LN10 : datum[axis]", **{"as": "x"}),
        alt.JoinAggregateTransform(joinaggregate=[alt.JoinAggregateFieldDef(op="max", field="x", **{"as": "last"})]),
        alt.FilterTransform("isFinite(datum.x) && (!half || datum.x >= (log ? datum.last - 0.602 : datum.last / 2))"),
    ]
    decades = [math.log10(factor * 10.0**power) for power in range(-3, 28) for factor in (1, 2, 5)]
    label = "format(log ? pow(10, datum.value) : datum.value, '.3~s')"
    x = alt.X(
        "x:Q",
        scale=alt.Scale(nice=False, zero=alt.expr("!log && !half"), padding=5),
        axis=alt.Axis(
            title=None, values=alt.expr(f"log ? {decades} : null"), labelExpr=label, labelOverlap=True, tickCount=6
        ),
    )
    bounds = "reach[figure + (half ? '/half' : '')]"
    scale = alt.Scale(zero=False, nice=False, domainMin=alt.expr(f"{bounds}[0]"), domainMax=alt.expr(f"{bounds}[1]"))
    y_axis = alt.Axis(title=None, tickCount=5, grid=True)
    arm = _arm_encodings(names, styles, theme, legend=True, offset=44)
    visible = alt.when(picked).then(alt.value(1)).otherwise(alt.value(0.1))
    data = alt.Chart(_data(rows)).encode(x=x, color=arm["color"])
    data.transform = shown
    single = data.copy()
    single.transform = [
        *shown,
        alt.FoldTransform(fold=[f"seed{index}" for index in range(most)], **{"as": ["seed", "value"]}),
        alt.FilterTransform("isValid(datum.value) && (seeds || toNumber(substring(datum.seed, 4)) >= datum.ended)"),
    ]
    tip = data.copy()
    tip.transform = [*shown, alt.PivotTransform(pivot="index", value="mean", groupby=["x"], op="mean")]
    at = alt.CalculateTransform(calculate="format(log ? pow(10, datum.x) : datum.x, '.4~s')", **{"as": "where"})
    tip.transform.append(at)
    tips = [alt.Tooltip("where:N", title="at")]
    tips += [alt.Tooltip(f"{index}:Q", title=text, format=".4f") for index, text in enumerate(names)]
    opacity = 0.16 * min(1, 6 / len(names))  # many bands over each other would be a fog
    layers = [
        data.mark_area(clip=True, stroke=None)
        .transform_filter("!seeds")
        .encode(
            y=alt.Y("low:Q", scale=scale, axis=y_axis),
            y2="high:Q",
            fillOpacity=alt.when(picked).then(alt.value(opacity)).otherwise(alt.value(0)),
        ),
        single.mark_line(clip=True, strokeWidth=0.8).encode(
            y=alt.Y("value:Q", scale=scale), detail=["seed:N"], opacity=visible
        ),
        data.mark_line(clip=True, strokeWidth=1.8).encode(
            y=alt.Y("mean:Q", scale=scale), opacity=visible, strokeDash=arm["strokeDash"]
        ),
        data.mark_point(filled=True, clip=True, size=34)
        .transform_filter(f"datum.points <= {MOST_MARKERS}")
        .encode(y=alt.Y("mean:Q", scale=scale), opacity=visible, shape=arm["shape"]),
        tip.mark_rule(stroke=theme.quiet)
        .encode(
            x=x,
            color=alt.value(theme.quiet),
            opacity=alt.when(hover).then(alt.value(1)).otherwise(alt.value(0)),
            tooltip=tips,
        )
        .add_params(hover),
    ]
    if ends:
        stopped = alt.Chart(_data(ends)).mark_text(
            text="\N{MULTIPLICATION SIGN}", fontSize=15, fontWeight="bold", clip=True
        )
        stopped = stopped.encode(x=x, y=alt.Y("value:Q", scale=scale), color=arm["color"], opacity=visible)
        stopped.transform = shown
        layers.append(stopped)
    layers += _anchor_layers(comparison, scale, theme, "test(/bits_per_byte$/, figure)", bounds)
    if len(names) <= MOST_NAMES:
        labels = _end_names(names, recorded, reach, height)
        right = alt.Chart(_data(labels)).transform_filter("datum.figure === figure && datum.half === half")
        layers.append(
            right.mark_text(align="left", x=alt.expr("width + 8"), fontSize=11).encode(
                y=alt.Y("pixel:Q", scale=None), text="text:N", color=arm["color"], opacity=visible
            )
        )
    under = alt.Chart(_data([{}])).mark_text(
        text=alt.expr("axes[axis]"), x=alt.expr("width / 2"), y=height + 34, fontSize=11, color=theme.quiet
    )
    title = alt.TitleParams(
        text=alt.expr("figures[figure]"),
        anchor="start",
        frame="group",
        fontSize=11,
        fontWeight="normal",
        color=theme.quiet,
        offset=10,
    )
    chart = alt.layer(*layers, under).add_params(axis, figure, log, half, seeds, *told, picked)
    return _finished(chart.properties(width=width, height=height, title=title, autosize=_FIT), theme)


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
    xs = _padded(costs, 0.1, log)
    halves = [0.0 if crowd else quality.half_width or 0.0 for *_, quality in known]
    ys = _padded([mean + sign * half for mean, half in zip(qualities, halves, strict=True) for sign in (-1, 1)], 0.12)
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
    arm_channels = _arm_encodings(every, [ArmStyle.of(index) for index in range(len(every))], theme)
    tip = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("quality:N", title=heading(comparison.metric)),
        alt.Tooltip("takes:N", title=heading(cost)),
    ]
    base = alt.Chart(_data(rows)).encode(x=x, y=y, tooltip=tip)
    layers: list[alt.Chart] = []
    if comparison.metric.endswith("bits_per_byte"):
        layers += _anchor_layers(comparison, y_scale, theme, "true", str(list(ys)))
    layers += [
        base.transform_filter("datum.best").mark_line(strokeDash=[4, 3], stroke=theme.quiet, strokeWidth=1),
        base.mark_rule(opacity=0.5).encode(y=alt.Y("low:Q", scale=y_scale), y2="high:Q", color=arm_channels["color"]),
        alt.Chart(_data(leaders))
        .mark_rule(stroke=theme.faint)
        .encode(x=alt.X("x:Q", scale=None), y=alt.Y("y:Q", scale=None), x2="x2:Q", y2="y2:Q"),
        base.mark_point(filled=True, size=55, opacity=1).encode(
            color=arm_channels["color"], shape=arm_channels["shape"]
        ),
        alt.Chart(_data(labels))
        .mark_text(align="left", baseline="alphabetic", fontSize=11, color=theme.ink)
        .encode(x=alt.X("x:Q", scale=None), y=alt.Y("y:Q", scale=None), text="text:N"),
    ]
    title = _y_title(heading(comparison.metric), theme)
    return _finished(alt.layer(*layers).properties(width=width, height=height, title=title), theme)


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
    names = _distinct([shortened(line.name, 11, 150) for line in given])
    drawn = [
        [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y) and (x > 0 or not log)]
        for line in given
    ]
    if not any(drawn):
        return None
    low, high = y_domain or _padded([y for points in drawn for _, y in points], 0.04)
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
    arm = _arm_encodings(names, [line.style for line in given], theme, legend=not named)
    tip = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("x:Q", title=x_title, format=".4~r"),
        alt.Tooltip("value:Q", title=y_title, format=".4f"),
    ]
    base = alt.Chart(_data(rows)).encode(x=x, y=y, color=arm["color"], tooltip=tip)
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
            alt.Chart(_data(labels))
            .mark_text(align="left", x=alt.expr("width + 8"), fontSize=11)
            .encode(y=alt.Y("pixel:Q", scale=None), text="arm:N", color=arm["color"])
        )
    chart = alt.layer(*layers).properties(width=width, height=height, title=_y_title(y_title, theme), autosize=_FIT)
    return _finished(chart, theme)


def has_difference(arm: Arm) -> bool:
    """Whether there is a number to draw."""
    return arm.contrast is not None and math.isfinite(arm.contrast.mean)


def effect_domain(comparison: Comparison) -> tuple[float, float]:
    """Zero, the margin, all means and intervals; an interval much wider than the others is cut, with an arrow."""
    contrasts = [arm.contrast for arm in comparison.arms if arm.contrast is not None and has_difference(arm)]
    margin = comparison.margin or 0.0
    reach = sorted(max(map(abs, _interval(contrast))) for contrast in contrasts)
    most = max([abs(contrast.mean) for contrast in contrasts] + [3 * reach[len(reach) // 2], margin])
    shown = [min(max(end, -most), most) for contrast in contrasts for end in _interval(contrast)]
    return _padded([0.0, margin, -margin, *shown], 0.04)


# ------------------------------------------------------------------------------------------------- parts of the charts

_FIT = alt.AutoSizeParams(type="fit-x", contains="padding")


def _data(rows: Rows) -> alt.InlineData:
    return alt.InlineData(values=rows)


def _finished(chart: Any, theme: Theme) -> alt.LayerChart:
    """Fonts, colours and grids, the same for all charts."""
    label, title = {"labelColor": theme.quiet, "labelFontSize": 11}, {"titleColor": theme.quiet, "titleFontSize": 11}
    plain = {
        "titleFontWeight": "normal",
        "domainColor": theme.quiet,
        "tickColor": theme.quiet,
        "gridColor": theme.faint,
    }
    finished: alt.LayerChart = (
        chart.configure(background="transparent", aria=False, font=FONT, padding=4)
        .configure_view(stroke=None)
        .configure_axis(**label, **title, **plain, grid=False)
        .configure_axisY(labelColor=theme.ink, domain=False, ticks=False, labelPadding=6)
        .configure_text(color=theme.ink)
        .configure_legend(
            labelColor=theme.ink,
            labelFontSize=11,
            labelLimit=190,
            title=None,
            orient="bottom",
            symbolSize=60,
            symbolStrokeWidth=2,
            columns=alt.expr("max(1, floor(width / 130))"),
            rowPadding=3,
        )
    )
    return finished


def _arm_encodings(
    names: Sequence[str], styles: Sequence[ArmStyle], theme: Theme, legend: bool = False, offset: float = 18
) -> dict[str, Any]:
    """Colour, dash and marker of arms, one legend for the three."""
    shown: Any = alt.Legend(offset=offset) if legend else None
    domain = list(names)
    hues = alt.Scale(domain=domain, range=[theme.hues[style.hue] for style in styles])
    dashes = alt.Scale(domain=list(range(len(DASHES))), range=list(DASHES))
    shapes = alt.Scale(domain=domain, range=[SHAPES[style.shape] for style in styles])
    return {
        "color": alt.Color("arm:N", scale=hues, legend=shown),
        "strokeDash": alt.StrokeDash("dash:N", scale=dashes, legend=None),
        "shape": alt.Shape("arm:N", scale=shapes, legend=shown),
    }


def _verdict_colour(theme: Theme) -> alt.Color:
    return alt.Color("verdict:N", scale=alt.Scale(domain=list(VERDICTS), range=list(theme.verdicts)), legend=None)


def _margin(chart: alt.Chart, theme: Theme) -> alt.Chart:
    return chart.mark_rect(fill=theme.quiet, fillOpacity=0.16)


def _beside(chart: alt.Chart, field: str, right: float, theme: Theme, align: Literal["left", "right"]) -> alt.Chart:
    text = chart.mark_text(align=align, x=alt.expr(f"width + {right:.0f}"), fontSize=12)
    return text.encode(text=f"{field}:N", color=alt.value(theme.ink))


def _y_title(text: str, theme: Theme) -> alt.TitleParams:
    """Above the axis, where it needs no width."""
    return alt.TitleParams(text=text, anchor="start", fontSize=11, fontWeight="normal", color=theme.quiet, offset=8)


def _anchor_layers(comparison: Comparison, scale: alt.Scale, theme: Theme, when: str, bounds: str) -> list[alt.Chart]:
    """A dashed line at each anchor that the axis reaches; `when` and `bounds` are expressions."""
    rows = [{"anchor": text, "bits": value} for text, value in comparison.anchors.items() if math.isfinite(value)]
    if not rows:
        return []
    base = (
        alt.Chart(_data(rows))
        .transform_filter(f"({when}) && datum.bits > {bounds}[0] && datum.bits < {bounds}[1]")
        .encode(y=alt.Y("bits:Q", scale=scale))
    )
    return [
        base.mark_rule(stroke=theme.quiet, strokeDash=[2, 3]),
        base.mark_text(align="right", x=alt.expr("width - 2"), dy=-6, fontSize=11, color=theme.quiet).encode(
            text="anchor:N"
        ),
    ]


def _curve_rows(names: Sequence[str], recorded: Recorded) -> tuple[Rows, Rows]:
    """One row a point of an arm's curve, and one where a diverged seed ends."""
    rows: Rows = []
    ends: Rows = []
    for index, (arm, label) in reversed(list(enumerate(zip(recorded.arms, names, strict=True)))):  # the baseline on top
        for figure, curve in arm.curves.items():
            means, band = curve.mean(), curve.band()
            own: Rows = []
            for at in range(len(means)):
                row: dict[str, Any] = {
                    "arm": label,
                    "index": index,
                    "figure": figure,
                    "ended": curve.ended,
                    "dash": ArmStyle.of(index).dash,
                }
                row |= {axis: _finite(values[at]) for axis, values in curve.axes.items()} | {"points": len(means)}
                row |= {"mean": _finite(means[at]), "low": _finite(band[at][0]), "high": _finite(band[at][1])}
                own.append(row | {f"seed{seed}": _finite(values[at]) for seed, values in enumerate(curve.values)})
            rows += own
            for seed, values in list(enumerate(curve.values))[curve.ended :]:
                finite = [at for at, value in enumerate(values) if math.isfinite(value)]
                if finite:
                    ends.append({**own[finite[-1]], "value": values[finite[-1]]} | {f"seed{seed}": None})
    return rows, ends


def _reach_keys(figure: str) -> list[tuple[str, bool]]:
    return [(figure, False), (f"{figure}/half", True)]


def _reach(recorded: Recorded, figure: str, half: bool) -> tuple[float, float]:
    """From the best value to what the worst arm had after a tenth (half) of the way: earlier ones would flatten all."""
    found: list[float] = []
    for arm in recorded.arms:
        if (curve := arm.curves.get(figure)) is None:
            continue
        steps = curve.axes["step"]
        begin = (0.5 if half else 0.1) * max((step for step in steps if math.isfinite(step)), default=0)
        columns = curve.values[: curve.ended] or curve.values
        found += [
            value
            for column in columns
            for step, value in zip(steps, column, strict=True)
            if step >= 0.9999 * begin and math.isfinite(value)
        ]
    return _padded(found or [0.0, 1.0], 0.05)


def _end_names(names: Sequence[str], recorded: Recorded, reach: dict[str, tuple[float, float]], height: float) -> Rows:
    """Each name at the right of the chart, as near to its line's end as the others let it."""
    rows: Rows = []
    for figure in recorded.figures:
        ends = {
            index: last
            for index, arm in enumerate(recorded.arms)
            if figure in arm.curves and (last := _last(arm.curves[figure].mean())) is not None
        }
        for key, half in _reach_keys(figure):
            low, high = reach[key]
            wanted = [height * (high - min(max(value, low), high)) / (high - low) for value in ends.values()]
            for index, pixel in zip(ends, spread_out(wanted, 13, 0, height), strict=True):
                text = f"{names[index]}  {ends[index]:.4f}"
                rows.append({"arm": names[index], "text": text, "figure": figure, "half": half, "pixel": pixel})
    return rows


def _last(values: Sequence[float]) -> float | None:
    return next((value for value in reversed(values) if math.isfinite(value)), None)


def _interval(contrast: Contrast) -> Iterable[float]:
    return [end for end in (contrast.low, contrast.high) if end is not None and math.isfinite(end)] or [contrast.mean]


def _padded(values: Iterable[float], pad: float, log: bool = False) -> tuple[float, float]:
    """Ends of an axis about `values`, with some room; of equal values, an axis about them."""
    found = list(values)
    low, high = min(found), max(found)
    if log:
        low, high = math.log(low), math.log(high)
    room = pad * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - room, high + room
    return (math.exp(low), math.exp(high)) if log else (low, high)


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


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _distinct(names: Sequence[str]) -> list[str]:
    """Shortened names that tell no two arms apart get numbers."""
    return [f"{text} ({index + 1})" if names.count(text) > 1 else text for index, text in enumerate(names)]
