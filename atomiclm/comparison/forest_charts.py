"""Arms with their intervals: the figure of a study, and the differences to the baseline (a forest plot)."""

import math

import altair as alt

from atomiclm.cli import UserError
from atomiclm.comparison import charts
from atomiclm.comparison.results import Arm, Comparison
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

_ENDS = {"whole": "M-.2,-1H.2V1H-.2Z", "low": "triangle-left", "high": "triangle-right"}
"""Of an interval: a bar, or an arrow where it goes on beyond the chart."""


def means(comparison: Comparison) -> alt.LayerChart:
    """The figure of a study: each arm's mean and interval, its seeds, the baseline as a line and the margin as a band.

    A UserError where no run has ended.
    """
    arms = [arm for arm in comparison.arms if arm.runs]
    if not arms:
        raise UserError(f"{comparison.name}: no run has ended, so there is no figure; run the study first")
    theme = charts.FIGURE
    rows: charts.Rows = []
    for arm, label in zip(arms, charts.labels([arm.name for arm in arms], 13, 300), strict=True):
        spread, word = arm.figures[comparison.metric], verdict_word(arm)
        half, text = spread.half_width or 0.0, format_spread(spread)
        said = f"{SIGNS[word]} {arm.verdict}" if word else "baseline" if arm.name == comparison.baseline else ""
        ends = {"low": spread.mean - half, "mean": spread.mean, "high": spread.mean + half}
        row = {"arm": label, "verdict": word, "full": f"{arm.name}: {text}", "said": said, "text": text}
        rows.append({**row, **ends, "seeds": [float(run.summary[comparison.metric]) for run in arm.runs]})
    centre = next((row["mean"] for arm, row in zip(arms, rows, strict=True) if arm.name == comparison.baseline), None)
    margin = comparison.margin or 0.0
    extent = [value for row in rows for value in (row["low"], row["high"], *row["seeds"])]
    extent += [centre - margin, centre + margin] if centre is not None else []
    y_axis = alt.Axis(labelFontSize=13, labelLimit=320, labelPadding=10)
    x_axis = alt.Axis(tickCount=4, title=None)
    layers, base = forest(rows, centre, comparison.margin, charts.padded(extent, 0.04), theme, x_axis, y_axis, 28)
    column = 14 + 0.85 * max(charts.text_width(row["text"], 12) for row in rows)
    figures = base.mark_text(align="right", fontSize=12, x=alt.expr(f"width + {column:.0f}"))
    verdicts = base.mark_text(align="left", fontSize=12, x=alt.expr(f"width + {column + 12:.0f}"))
    layers += [figures.encode(text="text:N", color=alt.value(theme.ink)), verdicts.encode(text="said:N")]
    metric = f"{heading(comparison.metric)}, {comparison.direction} is better"
    notes = [f"{metric}: mean and {confidence(comparison.alpha)} interval; dots are seeds"]
    notes.append("verdicts are of differences to the baseline, by seed")
    if comparison.margin is not None:
        notes[1] = f"band: margin of {comparison.margin:g} about the baseline; {notes[1]}"
    title = alt.TitleParams(notes, orient="bottom", fontSize=12, offset=14)
    padding = {"left": 10, "right": 18, "top": 5, "bottom": 5}
    return charts.finished(layers, theme, charts.WIDTH, 28 * len(rows), title=title, padding=padding)


def effects(comparison: Comparison, theme: charts.Theme) -> alt.LayerChart | None:
    """Differences to the baseline with their intervals, one row an arm (a forest plot); None where there is none.

    An interval that lies wholly in the band is equivalent, one that leaves the zero line on one side is a difference.
    """
    arms = [arm for arm in comparison.arms if has_difference(arm)]
    if not arms:
        return None
    margin = comparison.margin or 0.0
    contrasts = [arm.contrast for arm in arms if arm.contrast is not None]
    ends = [end for one in contrasts for end in (one.low, one.high, one.mean) if end is not None]
    reach = sorted(max(abs(one.mean), abs(one.low or 0.0), abs(one.high or 0.0)) for one in contrasts)
    # An interval much wider than the others is cut, with an arrow.
    most = max([abs(one.mean) for one in contrasts] + [3 * reach[len(reach) // 2], margin])
    low, high = charts.padded([0.0, margin, -margin, *(min(max(end, -most), most) for end in ends)], 0.04)
    rows: charts.Rows = []
    for arm, label in zip(arms, charts.labels([arm.name for arm in arms], 12, 170), strict=True):
        contrast = arm.contrast
        assert contrast is not None
        mean, *interval = (text.replace("-", MINUS) for text in difference_parts(contrast))
        row = {"arm": label, "verdict": verdict_word(arm), "mean": contrast.mean, "text": mean, "said": arm.verdict}
        row |= {"interval": " to ".join(filter(None, interval)), "full": f"{arm.name}: {format_difference(contrast)}"}
        rows.append(row | {"low": contrast.low, "high": contrast.high, "seeds": contrast.differences})
    title = f"difference to {charts.shortened(str(comparison.baseline), 11, 160)}, {heading(comparison.metric)}"
    x_axis, y_axis = alt.Axis(tickCount=5, title=title, labelFlush=False), alt.Axis(labelFontSize=12, labelLimit=190)
    layers, base = forest(rows, 0.0, comparison.margin, [low, high], theme, x_axis, y_axis, 32)
    left, right = ("better", "worse") if comparison.direction == "lower" else ("worse", "better")
    zero = charts.chart([{"zero": 0}]).encode(x="zero:Q")
    if -low > 0.15 * (high - low):
        layers.append(zero.mark_text(text=f"← {left}", align="right", dx=-8, y=-9, color=theme.quiet))
    if high > 0.15 * (high - low):
        layers.append(zero.mark_text(text=f"{right} →", align="left", dx=8, y=-9, color=theme.quiet))
    figures = base.mark_text(align="left", dy=-6, x=alt.expr("width + 12"), fontWeight="bold")
    intervals = base.mark_text(align="left", dy=7, x=alt.expr("width + 12"), fontSize=10)
    layers += [
        figures.encode(text="text:N", color=alt.value(theme.ink)),
        intervals.encode(text="interval:N", color=alt.value(theme.quiet)),
    ]
    return charts.finished(layers, theme, "container", 32 * len(rows))


def forest(
    rows: charts.Rows,
    reference: float | None,
    margin: float | None,
    domain: list[float],
    theme: charts.Theme,
    x_axis: alt.Axis,
    y_axis: alt.Axis | None,
    height: int,
    below: int = 0,
) -> tuple[list[alt.Chart], alt.Chart]:
    """A row an arm: its mean, its interval as far as the axis goes, a dot a seed below; and the rows, for their texts.

    A row has arm, verdict, mean, low and high (None without an interval), seeds; full and said for the tooltip. A line
    of `height` pixels stands at the reference, a band of half the width `margin` about it; everything lies so many
    pixels `below` the middle of a row.
    """
    colour = alt.Color("verdict:N", scale=alt.Scale(domain=charts.VERDICTS, range=theme.verdicts), legend=None)
    y = alt.Y("arm:N", sort=[row["arm"] for row in rows], title=None, axis=y_axis)
    tip = [alt.Tooltip("full:N", title="arm"), alt.Tooltip("said:N", title="verdict")]
    drawn: charts.Rows = []
    seeds: charts.Rows = []
    ends: charts.Rows = []
    for row in rows:
        own = {key: value for key, value in row.items() if key != "seeds"}
        same = {"arm": row["arm"], "verdict": row["verdict"]}
        seeds += [same | {"value": value} for value in row["seeds"] if domain[0] <= value <= domain[1]]
        if row["low"] is not None:
            own |= {"low": max(row["low"], domain[0]), "high": min(row["high"], domain[1])}
            for end in ("low", "high"):
                ends.append(same | {"at": own[end], "end": "whole" if own[end] == row[end] else end})
        drawn.append(own)
    layers: list[alt.Chart] = []
    if reference is not None and margin is not None:
        band = charts.chart([{"from": reference - margin, "to": reference + margin}])
        layers.append(band.mark_rect(fill=theme.quiet, fillOpacity=0.16).encode(x="from:Q", x2="to:Q"))
    base = charts.chart(drawn).encode(y=y, color=colour, tooltip=tip)
    if reference is not None:
        line = base.mark_tick(size=height, thickness=1, orient="vertical", opacity=1, yOffset=below)
        layers.append(line.encode(x=alt.X(datum=reference), color=alt.value(theme.ink)))
    mean = alt.X("mean:Q", scale=charts.within(domain), axis=x_axis)
    shape = alt.Shape("end:N", scale=alt.Scale(domain=list(_ENDS), range=list(_ENDS.values())), legend=None)
    layers += [
        base.mark_square(size=70, opacity=1, yOffset=below).encode(x=mean),
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.5, yOffset=below)
        .encode(x="low:Q", x2="high:Q"),
        charts.chart(ends)
        .mark_point(filled=True, size=64, opacity=1, yOffset=below)
        .encode(x="at:Q", y=y, color=colour, shape=shape),
        charts.chart(seeds)
        .mark_circle(size=12, opacity=0.65, yOffset=9 + below)
        .encode(x="value:Q", y=y, color=colour),
    ]
    return layers, base


def has_difference(arm: Arm) -> bool:
    """Whether there is a number to draw."""
    return arm.contrast is not None and math.isfinite(arm.contrast.mean)
