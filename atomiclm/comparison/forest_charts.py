"""Arms with their intervals: the figure of a study, and the differences to the baseline (a forest plot)."""

import math
from collections.abc import Iterable
from typing import Any, Literal

import altair as alt

from atomiclm.cli import UserError
from atomiclm.comparison.charts import (
    FIGURE,
    FIT,
    LIGHT,
    VERDICTS,
    WIDTH,
    Rows,
    Theme,
    data,
    distinct,
    finished,
    finite,
    padded,
)
from atomiclm.comparison.labels import shortened, text_width
from atomiclm.comparison.results import Arm, Comparison, Contrast
from atomiclm.comparison.wording import (
    MINUS,
    SIGNS,
    confidence,
    difference_parts,
    format_difference,
    format_spread,
    heading,
    verdict_word,
)


def means(comparison: Comparison, theme: Theme = FIGURE) -> alt.LayerChart:
    """The figure of a study: each arm's mean and interval, its seeds, the baseline as a line and the margin as a band.

    Raises:
        UserError: no run has ended, so there is nothing to draw.
    """
    arms = [arm for arm in comparison.arms if arm.runs]
    if not arms:
        raise UserError(f"{comparison.name}: no run has ended, so there is no figure; run the study first")
    names = distinct([shortened(arm.name, 13, 200) for arm in arms])
    rows: Rows = []
    seeds: Rows = []
    for arm, label in zip(arms, names, strict=True):
        spread, word = arm.figures[comparison.metric], verdict_word(arm)
        half = spread.half_width or 0.0
        said = f"{SIGNS[word]} {arm.verdict}" if word else "baseline" if arm.name == comparison.baseline else ""
        row = {"arm": label, "verdict": word, "mean": finite(spread.mean), "text": format_spread(spread), "said": said}
        rows.append(row | {"low": finite(spread.mean - half), "high": finite(spread.mean + half)})
        values = [finite(run.summary.get(comparison.metric)) for run in arm.runs]
        seeds += [{"arm": label, "verdict": word, "value": value} for value in values if value is not None]
    base = next((row for arm, row in zip(arms, rows, strict=True) if arm.name == comparison.baseline), None)
    centre, margin = base["mean"] if base else None, comparison.margin or 0.0
    extent = [row[key] for row in rows for key in ("low", "high")] + [row["value"] for row in seeds]
    extent += [centre - margin, centre + margin] if centre is not None else []
    x = alt.Scale(domain=padded([value for value in extent if value is not None], 0.04), nice=False, zero=False)
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
            band = data([{"from": centre - margin, "to": centre + margin}])
            layers.append(_margin(alt.Chart(band), theme).encode(x=alt.X("from:Q", scale=x), x2="to:Q"))
        line = alt.Chart(data([{"mean": centre}])).mark_rule(strokeDash=[4, 3], stroke=theme.faint)
        layers.append(line.encode(x=alt.X("mean:Q", scale=x)))
    column = 14 + 0.85 * max(text_width(row["text"], 12) for row in rows)
    base_chart = alt.Chart(data(rows)).encode(y=y, color=colour)
    metric = f"{heading(comparison.metric)}, {comparison.direction} is better"
    notes = [f"{metric}: mean and {confidence(comparison.alpha)} interval; dots are seeds"]
    notes.append("verdicts are of differences to the baseline, by seed")
    if comparison.margin is not None:
        notes[1] = f"band: margin of {comparison.margin:g} about the baseline; {notes[1]}"
    layers += [
        alt.Chart(data(seeds))
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
    return finished(chart.properties(padding={"left": 10, "right": 18, "top": 5, "bottom": 5}), theme)


def effects(comparison: Comparison, theme: Theme = LIGHT, width: int | Literal["container"] = WIDTH) -> Any:
    """Differences to the baseline with their intervals, one row an arm (a forest plot); None where there is none.

    An interval that lies wholly in the band is equivalent, one that leaves the zero line on one side is a difference.
    """
    arms = [arm for arm in comparison.arms if has_difference(arm)]
    if not arms:
        return None
    low, high = effect_domain(comparison)
    names = distinct([shortened(arm.name, 12, 170) for arm in arms])
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
    base = alt.Chart(data(rows)).encode(y=y, color=colour, tooltip=tip)
    layers: list[alt.Chart] = []
    if comparison.margin is not None:
        band = data([{"from": -comparison.margin, "to": comparison.margin}])
        layers.append(_margin(alt.Chart(band), theme).encode(x=alt.X("from:Q", scale=x), x2="to:Q"))
    words: list[tuple[str, Any, int]] = [("← better", "right", -8), ("worse →", "left", 8)]
    if comparison.direction == "higher":
        words = [("← worse", "right", -8), ("better →", "left", 8)]
    zero = alt.Chart(data([{"zero": 0}])).encode(x=alt.X("zero:Q", scale=x))
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
        alt.Chart(data(seeds))
        .mark_circle(size=12, opacity=0.65, yOffset=9)
        .encode(x=alt.X("value:Q", scale=x), y=y, color=colour),
        base.mark_text(align="left", dy=-6, x=alt.expr("width + 12"), fontWeight="bold").encode(
            text="text:N", color=alt.value(theme.ink)
        ),
        base.mark_text(align="left", dy=7, x=alt.expr("width + 12"), fontSize=10).encode(
            text="interval:N", color=alt.value(theme.quiet)
        ),
    ]
    return finished(alt.layer(*layers).properties(width=width, height=32 * len(rows), autosize=FIT), theme)


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
    return padded([0.0, margin, -margin, *shown], 0.04)


def _verdict_colour(theme: Theme) -> alt.Color:
    return alt.Color("verdict:N", scale=alt.Scale(domain=list(VERDICTS), range=list(theme.verdicts)), legend=None)


def _margin(chart: alt.Chart, theme: Theme) -> alt.Chart:
    return chart.mark_rect(fill=theme.quiet, fillOpacity=0.16)


def _beside(chart: alt.Chart, field: str, right: float, theme: Theme, align: Literal["left", "right"]) -> alt.Chart:
    text = chart.mark_text(align=align, x=alt.expr(f"width + {right:.0f}"), fontSize=12)
    return text.encode(text=f"{field}:N", color=alt.value(theme.ink))


def _interval(contrast: Contrast) -> Iterable[float]:
    return [end for end in (contrast.low, contrast.high) if end is not None and math.isfinite(end)] or [contrast.mean]
