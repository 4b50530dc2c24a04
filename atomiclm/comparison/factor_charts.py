"""Charts of a sweep over several factors: effects, two factors at once as a heatmap and as lines."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any, Literal

import altair as alt
import numpy as np
from numpy.typing import NDArray

from atomiclm.comparison.charts import (
    DASHES,
    FIGURE,
    VERDICTS,
    WIDTH,
    Rows,
    Theme,
    chart,
    finished,
    padded,
    styled,
    text_width,
)
from atomiclm.comparison.curves import Curve, Recorded
from atomiclm.comparison.factor_tables import effect_texts
from atomiclm.comparison.results import Comparison, FactorReport, Interaction
from atomiclm.comparison.wording import SIGNS, confidence, decimals_for, heading, number
from atomiclm.sweep.factors import Factor

_PANEL = 172
MOST_PANELS = 6
"""Pairs of factors that are drawn side by side."""


def factor_effects(comparison: Comparison, theme: Theme = FIGURE, width: int | Literal["container"] = WIDTH) -> Any:
    """Every level against the first of its factor, with its interval and verdict; None without an effect.

    Each factor is a panel of its own rows; an interval that leaves the zero line on one side is a difference.
    """
    report = comparison.factors
    effects = [effect for effect in report.effects if math.isfinite(effect.mean)] if report else []
    if not effects:
        return None
    rows: Rows = []
    for effect in effects:
        low, high = (
            (effect.mean, effect.mean) if effect.low is None or effect.high is None else (effect.low, effect.high)
        )
        texts = effect_texts(effect)
        rows.append({
            "row": f"{effect.factor}: {effect.level} against {effect.against}",
            "mean": effect.mean, "low": low, "high": high, "verdict": effect.verdict,
            "text": texts[0], "interval": texts[1],
            "said": f"{SIGNS[effect.verdict]} {effect.verdict}{' *' if effect.note.startswith('depends') else ''}",
        })  # fmt: skip
    margin = comparison.margin
    ends = [row[key] for row in rows for key in ("low", "high")] + [0.0] + ([margin, -margin] if margin else [])
    x = alt.Scale(domain=padded(ends, 0.06), nice=False, zero=False)
    order = [row["row"] for row in rows]
    y = alt.Y("row:N", sort=order, title=None, axis=alt.Axis(labelLimit=0, labelFontSize=12, labelPadding=10))
    colour = alt.Color("verdict:N", scale=alt.Scale(domain=list(VERDICTS), range=list(theme.verdicts)), legend=None)
    base = chart(rows).encode(y=y, color=colour)
    layers: list[alt.Chart] = []
    if margin:
        band = chart([{"from": -margin, "to": margin}])
        layers.append(band.mark_rect(fill=theme.quiet, fillOpacity=0.16).encode(x=alt.X("from:Q", scale=x), x2="to:Q"))
    column = 14 + 0.85 * max(text_width(row["text"], 12) for row in rows)
    axis = alt.Axis(tickCount=5, title=f"effect on {heading(comparison.metric)}, {comparison.direction} is better")
    layers += [
        chart([{"zero": 0}]).mark_rule(stroke=theme.ink).encode(x=alt.X("zero:Q", scale=x)),
        base.mark_rule(strokeWidth=1.6).encode(x=alt.X("low:Q", scale=x), x2="high:Q"),
        base.mark_square(size=70, opacity=1).encode(x=alt.X("mean:Q", scale=x, axis=axis)),
        base.mark_text(align="right", x=alt.expr(f"width + {column:.0f}"), fontSize=12).encode(
            text="text:N", color=alt.value(theme.ink)
        ),
        base.mark_text(align="left", x=alt.expr(f"width + {column + 12:.0f}"), fontSize=12).encode(text="said:N"),
    ]
    for end in ("low", "high"):
        layers.append(
            base.mark_tick(size=8, thickness=1.6, orient="vertical", opacity=1).encode(x=alt.X(f"{end}:Q", scale=x))
        )
    notes = [f"{confidence(comparison.alpha)} intervals, averaged over seeds and all other factors"]
    if any(row["said"].endswith("*") for row in rows):
        notes.append("* depends on another factor: an average over unlike effects")
    title = alt.TitleParams(
        notes, orient="bottom", anchor="start", fontSize=12, fontWeight="normal", color=theme.quiet, offset=10
    )
    return finished(layers, theme, width, 28 * len(rows), title=title)


def heatmap(comparison: Comparison, theme: Theme = FIGURE) -> Any:
    """The metric by two factors, a panel for each level of a third; None where no arm has a figure.

    The three are those whose effects are largest; over further factors the means are averaged. A combination of which
    a figure is missing stays empty.
    """
    report = comparison.factors
    if report is None or not report.means:
        return None
    chosen = _by_effect(report)[:3]
    across, down, *panels = sorted(chosen[:2], key=lambda index: -len(report.factors[index].levels)) + chosen[2:]
    numbers = [report.factors[index] for index in (across, down)]
    rows: Rows = []
    wanted = math.prod(len(factor.levels) for number_, factor in enumerate(report.factors) if number_ not in chosen)
    shown = [range(len(report.factors[index].levels)) for index in (across, down, *panels)]
    for places in product(*shown):
        fixed = dict(zip((across, down, *panels), places, strict=True))
        found = [
            report.means[name][0]
            for name, levels in report.levels.items()
            if name in report.means and all(levels[index] == level for index, level in fixed.items())
        ]
        panel = report.factors[panels[0]] if panels else None
        rows.append({
            "x": numbers[0].levels[places[0]], "y": numbers[1].levels[places[1]],
            "panel": panel.label(panel.levels[places[2]]) if panel else "",
            "mean": sum(found) / len(found) if len(found) == wanted else None,
        })  # fmt: skip
    means = [row["mean"] for row in rows if row["mean"] is not None]
    if not means:
        return None
    spread = max(means) - min(means)
    for row in rows:
        row["text"] = "" if row["mean"] is None else number(row["mean"], decimals_for(spread / 4))
    # A scale of one hue that prints in grey and needs no colour vision; the better end is the darker.
    lower = comparison.direction == "lower"
    scale = alt.Scale(
        domain=[min(means), max(means)], range=["#084a91", "#e4eef8"] if lower else ["#e4eef8", "#084a91"]
    )
    middle = (min(means) + max(means)) / 2
    is_dark = f"datum.mean {'<' if lower else '>'} {middle}"
    width = int(26 + max(56, max(text_width(row["text"], 12) for row in rows)))
    panel_width, panel_height = width * len(numbers[0].levels), 34 * len(numbers[1].levels)
    charts = []
    for name in dict.fromkeys(row["panel"] for row in rows):
        own = [row for row in rows if row["panel"] == name]
        base = chart(own).encode(
            x=alt.X(
                "x:N", sort=list(numbers[0].levels), title=numbers[0].name, axis=alt.Axis(labelAngle=0, labelLimit=0)
            ),
            y=alt.Y("y:N", sort=list(numbers[1].levels), title=numbers[1].name, axis=alt.Axis(labelLimit=0)),
        )
        filled = base.transform_filter("datum.mean !== null")
        layered = alt.layer(
            filled.mark_rect(stroke=theme.paper, strokeWidth=2).encode(
                color=alt.Color("mean:Q", scale=scale, legend=None)
            ),
            filled.transform_filter(is_dark).mark_text(fontSize=12, color="#ffffff").encode(text="text:N"),
            filled.transform_filter(f"!({is_dark})").mark_text(fontSize=12, color="#12161b").encode(text="text:N"),
        )
        charts.append(layered.properties(width=panel_width, height=panel_height, title=_panel_title(name, theme)))
    return styled(_side_by_side(charts, panel_width, f"{heading(comparison.metric)}; darker is better", theme), theme)


def interactions(comparison: Comparison, theme: Theme = FIGURE) -> Any:
    """The metric over the levels of one factor, a line for each level of another; parallel lines do not interact.

    Of all pairs of factors those that interact come first, then by p. None without a pair.
    """
    report = comparison.factors
    if report is None:
        return None
    found = [mean for one in report.interactions for row in one.means for mean in row if mean is not None]
    if not found:
        return None
    # One scale for all panels: a steep line is a large effect in each.
    ends = [mean + sign * (0.0 if math.isnan(half) else half) for mean, half in found for sign in (-1, 1)]
    domain = padded(ends, 0.06)
    ordered = sorted(report.interactions, key=lambda one: (not one.is_present, one.p if one.p is not None else 2.0))
    charts = [_lines(report, one, domain, theme) for one in ordered[:MOST_PANELS]]
    said = f"{heading(comparison.metric)}, {comparison.direction} is better; "
    said += f"bars: {confidence(comparison.alpha)} intervals of the runs, seeds apart"
    return styled(_side_by_side(charts, _PANEL, said, theme), theme)


def curves_by_factor(comparison: Comparison, recorded: Recorded, theme: Theme = FIGURE) -> Any:
    """Learning curves, a panel a factor and a line a level: means over seeds and over all other factors.

    The last four fifths of the budget, in which differences are made. None where no run recorded the metric.
    """
    report = comparison.factors
    figure = recorded.figures[0] if recorded.figures else ""
    if report is None or not figure:
        return None
    curves = {
        arm.name: rows.curves[figure]
        for arm, rows in zip(comparison.arms, recorded.arms, strict=True)
        if arm.runs and arm.name in report.means and figure in rows.curves
    }
    panels: list[tuple[Factor, Rows]] = []
    for index, factor in enumerate(report.factors):
        rows: Rows = []
        for number_, level in enumerate(factor.levels):
            own = [curve for name, curve in curves.items() if report.levels[name][index] == number_]
            rows += [{"x": x, "y": y, "line": level} for x, y in _mean_curve(own)]
        panels.append((factor, rows))
    values = [row["y"] for _, rows in panels for row in rows]
    if not values:
        return None
    y = alt.Y("y:Q", scale=alt.Scale(domain=padded(values, 0.04), nice=False, zero=False), title=None)
    charts = []
    for factor, rows in panels:
        lines = [level for level in factor.levels if any(row["line"] == level for row in rows)]
        base = chart(rows).encode(
            x=alt.X("x:Q", title="training tokens", axis=alt.Axis(format="~s", tickCount=3)),
            y=y,
            **_line_encodings(lines, factor.name, theme),
        )
        title = _panel_title(factor.name, theme)
        charts.append(base.mark_line(strokeWidth=1.8).properties(width=_PANEL, height=140, title=title))
    said = f"{heading(figure)}, means over seeds and all other factors"
    return styled(_side_by_side(charts, _PANEL, said, theme), theme)


def _mean_curve(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """Of arms whose curves have points at other fractions of their budgets: the longest one's."""
    if not curves:
        return []
    grid = np.linspace(0, 1, max(len(curve.mean()) for curve in curves))

    def on_grid(column: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.interp(grid, np.linspace(0, 1, len(column)), column)

    x = np.stack([on_grid(curve.axes["tokens"]) for curve in curves]).mean(axis=0)
    y = np.stack([on_grid(curve.mean()) for curve in curves]).mean(axis=0)
    late = np.isfinite(y) & (x >= 0.2 * x.max())
    return list(zip(x[late].tolist(), y[late].tolist(), strict=True))


def _line_encodings(lines: Sequence[str], name: str, theme: Theme) -> dict[str, Any]:
    """Colour and dash of the levels of a factor, the first in ink, with one legend."""
    hues = [theme.hues[index % len(theme.hues)] for index in range(len(lines))]
    dashes = [DASHES[index % len(DASHES)] for index in range(len(lines))]
    legend = alt.Legend(
        title=name,
        orient="bottom",
        labelLimit=0,
        columns=2,
        symbolDash=[1, 0],
        titleColor=theme.quiet,
        titleFontWeight="normal",
    )
    return {
        "color": alt.Color("line:N", sort=lines, scale=alt.Scale(domain=lines, range=hues), legend=legend),
        "strokeDash": alt.StrokeDash("line:N", sort=lines, scale=alt.Scale(domain=lines, range=dashes), legend=None),
    }


def _lines(report: FactorReport, one: Interaction, domain: Sequence[float], theme: Theme) -> Any:
    first, second = (next(factor for factor in report.factors if factor.name == name) for name in one.factors)
    rows: Rows = []
    for i, own in enumerate(one.means):
        for j, found in enumerate(own):
            if found is not None:
                half = 0.0 if math.isnan(found[1]) else found[1]
                rows.append({
                    "x": one.levels[0][i], "line": one.levels[1][j], "mean": found[0],
                    "low": found[0] - half, "high": found[0] + half,
                })  # fmt: skip
    lines = list(one.levels[1])
    scale = alt.Scale(domain=list(domain), nice=False, zero=False)
    x = alt.X(
        "x:N",
        sort=list(one.levels[0]),
        title=first.name,
        scale=alt.Scale(type="band", paddingInner=0.6, paddingOuter=0.2),
        axis=alt.Axis(labelAngle=0, labelLimit=0),
    )
    # Beside each other, or the bars of one line would hide another's.
    offset = alt.XOffset("line:N", sort=lines, scale=alt.Scale(type="point", padding=0.5))
    encodings = _line_encodings(lines, second.name, theme)
    base = chart(rows).encode(x=x, xOffset=offset, color=encodings["color"])
    layered = alt.layer(
        base.mark_line(strokeWidth=1.6).encode(
            y=alt.Y("mean:Q", scale=scale, title=None, axis=alt.Axis(tickCount=4)),
            strokeDash=encodings["strokeDash"],
        ),
        base.mark_rule(strokeWidth=1.2).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"),
        base.mark_point(filled=True, size=45, opacity=1).encode(
            y=alt.Y("mean:Q", scale=scale), shape=alt.Shape("line:N", sort=lines, legend=None)
        ),
    )
    word = "interact" if one.is_present else "no interaction found" if one.p is not None else "not tested"
    title = _panel_title(f"{first.name} and {second.name}: {word}", theme)
    return layered.properties(width=_PANEL, height=140, title=title)


def _by_effect(report: FactorReport) -> list[int]:
    """The factors, largest effect first."""

    def size(index: int) -> float:
        own = [abs(one.mean) for one in report.effects if one.factor == report.factors[index].name]
        return max((value for value in own if math.isfinite(value)), default=-1.0)

    return sorted(range(len(report.factors)), key=size, reverse=True)


def _panel_title(text: str, theme: Theme) -> alt.TitleParams:
    return alt.TitleParams(text, anchor="start", fontSize=12, fontWeight="normal", color=theme.ink, offset=6)


def _side_by_side(charts: Sequence[Any], panel_width: int, said: str, theme: Theme) -> Any:
    """As many panels in a row as a page's column has room for."""
    columns = max(1, min(len(charts), WIDTH // (panel_width + 60)))
    title = alt.TitleParams(
        said, orient="bottom", anchor="start", fontSize=12, fontWeight="normal", color=theme.quiet, offset=10
    )
    return alt.concat(*charts, columns=columns, spacing=24, title=title).resolve_scale(
        color="independent", shape="independent", strokeDash="independent"
    )
