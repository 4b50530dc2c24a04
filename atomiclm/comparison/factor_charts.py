"""Pictures of a sweep over several factors: effects, two factors at once, curves and costs by factor.

Each is drawn as panels: side by side in a figure, one below the other on a phone.
"""

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import altair as alt

from atomiclm.cli import UserError
from atomiclm.comparison import charts, wording
from atomiclm.comparison.curves import Curve, Recorded, Track, curve, read_recorded
from atomiclm.comparison.export import seed_rows
from atomiclm.comparison.factor_tables import effect_text
from atomiclm.comparison.forest_charts import forest, means
from atomiclm.comparison.line_charts import pareto
from atomiclm.comparison.results import Comparison, FactorReport, FigureKind, Interaction
from atomiclm.sweep.factors import Factor
from atomiclm.tracking.console import printable

_PANEL = 172
_HEIGHT = 140
MOST_PAIRS = 6
"""Pairs of factors whose interaction is drawn."""


@dataclass(frozen=True)
class Picture:
    """What is drawn of a sweep."""

    panels: Sequence[Any]  # each a chart without fonts and colours (`charts.styled`)
    said: str  # what is shown, in sentences
    rows: charts.Rows  # the numbers, for a csv


def draw(
    kind: str, comparison: Comparison, theme: charts.Theme, recorded: Recorded | None = None, room: int = charts.WIDTH
) -> Picture | None:
    """The picture of a kind; None where there is nothing to draw.

    Curves read the runs' records unless they are given. `room`: pixels that words beside each other may take.
    """
    report = comparison.factors
    if report is None:
        return None
    if kind == "curves":
        return curves_by_factor(comparison, report, theme, recorded or read_recorded(comparison))
    if kind == "effects":
        return factor_effects(comparison, report, theme, room)
    kinds = {"heatmap": heatmap, "interactions": interactions, "cost": costs_by_factor}
    return kinds[kind](comparison, report, theme)


def figure(picture: Picture) -> Any:
    """The panels side by side, as many in a row as a page's column has room for, over what they show."""
    widest = max(panel.to_dict().get("width", charts.WIDTH) for panel in picture.panels)
    columns = max(1, min(len(picture.panels), charts.WIDTH // (widest + 60)))
    said = textwrap.wrap(picture.said, 115)
    title = alt.TitleParams(said, orient="bottom", fontSize=12, offset=14)
    drawn = alt.concat(*picture.panels, columns=columns, spacing=24, title=title)
    return charts.styled(
        drawn.resolve_scale(color="independent", shape="independent", strokeDash="independent"), charts.FIGURE
    )


def draw_figure(comparison: Comparison, kind: FigureKind | None = None) -> tuple[Any, Sequence[Mapping[str, Any]]]:
    """The figure of a comparison, and its numbers; None is "effects" of a sweep over several factors, else "arms".

    Raises:
        UserError: there is nothing of that kind to draw.
    """
    kind = kind or ("effects" if comparison.factors else "arms")
    if kind == "arms":
        return means(comparison), seed_rows(comparison)
    picture = draw(kind, comparison, charts.FIGURE)
    if picture is None:
        also = {"cost": ", and arms of unlike cost", "curves": ", and the records of its runs"}.get(kind, "")
        raise UserError(f"--figure-kind: {kind} takes a sweep over at least two factors with figures{also}; give arms")
    return figure(picture), picture.rows


def factor_effects(comparison: Comparison, report: FactorReport, theme: charts.Theme, room: int) -> Picture | None:
    """Every level against the first of its factor, with its interval and verdict.

    An interval that leaves the zero line on one side is a difference. Words stand above it, so that it has the whole
    width; on two lines where they have no room on one.
    """
    effects = [effect for effect in report.effects if math.isfinite(effect.mean)]
    if not effects:
        return None
    rows: charts.Rows = []
    for effect in effects:
        label = f"{effect.factor}: {effect.level} vs {effect.against}"
        star = " *" if effect.note.startswith("depends") else ""
        said = f"{effect_text(effect)}  {wording.SIGNS[effect.verdict]} {effect.verdict}{star}"
        ends = {"low": effect.low, "mean": effect.mean, "high": effect.high}
        rows.append({"arm": label, "full": label, "verdict": effect.verdict, "said": said, "seeds": [], **ends})
    margin = comparison.margin or 0.0
    reach = [row[key] for row in rows for key in ("low", "mean", "high") if row[key] is not None]
    axis = alt.Axis(
        tickCount=5, title=f"effect on {wording.heading(comparison.metric)}, {comparison.direction} is better"
    )
    is_wide = any(charts.text_width(row["arm"] + row["said"], 12) > room - 20 for row in rows)
    domain = charts.padded([0.0, margin, -margin, *reach], 0.06)
    layers, base = forest(rows, 0.0, comparison.margin, domain, theme, axis, None, 22, below=13 if is_wide else 10)
    words = base.mark_text(align="left", x=0, fontSize=12, yOffset=-22 if is_wide else -8)
    if is_wide:
        verdicts = base.mark_text(align="left", x=0, fontSize=12, yOffset=-7)
    else:
        verdicts = base.mark_text(align="right", x=alt.expr("width"), fontSize=12, yOffset=-8)
    layers += [words.encode(text="arm:N", color=alt.value(theme.ink)), verdicts.encode(text="said:N")]
    said = "Squares are mean differences over seeds and all other factors, "
    said += f"lines {wording.confidence(comparison.alpha)} intervals."
    if any(row["said"].endswith("*") for row in rows):
        said += " * depends on another factor: an average over unlike effects."
    if margin:
        said += f" Band: margin of {margin:g}."
    panel = alt.layer(*layers).properties(width=charts.WIDTH, height=(60 if is_wide else 46) * len(rows))
    return Picture([panel], said, [asdict(effect) for effect in effects])


def heatmap(comparison: Comparison, report: FactorReport, theme: charts.Theme) -> Picture | None:
    """The metric by two factors, a panel for each level of a third.

    The three are those whose effects are largest; over further factors the means are averaged. A combination of which
    a figure is missing stays empty.
    """
    if not report.means:
        return None
    chosen = report.by_effect()[:3]
    down, across = sorted(chosen[:2], key=lambda index: -len(report.factors[index].levels))
    shown = [down, across, *chosen[2:]]
    wanted = math.prod(len(factor.levels) for index, factor in enumerate(report.factors) if index not in shown)
    cells: list[tuple[tuple[int, ...], float]] = []
    for places in product(*(range(len(report.factors[index].levels)) for index in shown)):
        found = [
            report.means[arm][0]
            for arm, levels in report.levels.items()
            if arm in report.means and tuple(levels[index] for index in shown) == places
        ]
        if len(found) == wanted:
            cells.append((places, sum(found) / len(found)))
    if not cells:
        return None
    means = [mean for _, mean in cells]
    decimals = wording.decimals_for((max(means) - min(means)) / 4)
    factors = [report.factors[index] for index in shown]
    rows: charts.Rows = [
        {factor.name: factor.levels[place] for factor, place in zip(factors, places, strict=True)}
        | {comparison.metric: mean}
        for places, mean in cells
    ]
    texts = [wording.number(mean, decimals) for mean in means]
    # A scale of one hue that prints in grey and needs no colour vision; the better end is the darker.
    lower = comparison.direction == "lower"
    scale = alt.Scale(
        domain=[min(means), max(means)], range=["#084a91", "#e4eef8"] if lower else ["#e4eef8", "#084a91"]
    )
    is_dark = f"datum.mean {'<' if lower else '>'} {(min(means) + max(means)) / 2}"
    cell = int(12 + max(44.0, *(charts.text_width(text, 12) for text in (*texts, *factors[1].levels))))
    x = alt.X("x:N", sort=factors[1].levels, title=factors[1].name, axis=alt.Axis(labelAngle=0, labelLimit=0))
    y = alt.Y("y:N", sort=factors[0].levels, title=factors[0].name, axis=alt.Axis(labelLimit=0))
    panels = []
    for panel in range(len(factors[2].levels) if len(factors) > 2 else 1):
        own = [
            {"x": factors[1].levels[places[1]], "y": factors[0].levels[places[0]], "mean": mean, "text": text}
            for (places, mean), text in zip(cells, texts, strict=True)
            if places[2:] in ((), (panel,))
        ]
        base = charts.chart(own).encode(x=x, y=y)
        texted = base.mark_text(fontSize=12).encode(text="text:N")
        layered = alt.layer(
            base.mark_rect(stroke=theme.paper, strokeWidth=2).encode(
                color=alt.Color("mean:Q", scale=scale, legend=None)
            ),
            texted.transform_filter(is_dark).encode(color=alt.value("#ffffff")),
            texted.transform_filter(f"!({is_dark})").encode(color=alt.value("#12161b")),
        )
        size = {"width": cell * len(factors[1].levels), "height": 34 * len(factors[0].levels)}
        title = f"{factors[2].name} {factors[2].levels[panel]}" if len(factors) > 2 else ""
        panels.append(layered.properties(**size, title=_title(title, theme)))
    said = f"{wording.heading(comparison.metric)}; darker is better."
    if wanted > 1:
        said += " Means over all other factors."
    return Picture(panels, said, rows)


def interactions(comparison: Comparison, report: FactorReport, theme: charts.Theme) -> Picture | None:
    """The metric over the levels of one factor, a line for each level of another; parallel lines do not interact.

    Of all pairs of factors those that interact come first, then by p.
    """
    found = [mean for one in report.interactions for row in one.means for mean in row if mean is not None]
    if not found:
        return None
    # One scale for all panels: a steep line is a large effect in each.
    ends = [mean + sign * (0.0 if math.isnan(half) else half) for mean, half in found for sign in (-1, 1)]
    scale = charts.within(charts.padded(ends, 0.06))
    ordered = sorted(report.interactions, key=lambda one: (not one.is_present, one.p if one.p is not None else 2.0))
    drawn = [_lines(report, one, scale, theme) for one in ordered[:MOST_PAIRS]]
    said = (
        f"{wording.heading(comparison.metric)}, {comparison.direction} is better. "
        f"Bars: {wording.confidence(comparison.alpha)} intervals of the runs, seeds apart. Parallel lines do not "
        "interact."
    )
    return Picture([panel for panel, _ in drawn], said, [row for _, rows in drawn for row in rows])


def _lines(report: FactorReport, one: Interaction, scale: alt.Scale, theme: charts.Theme) -> tuple[Any, charts.Rows]:
    """The factor with more levels runs along x, so that there are few lines."""
    first, second = (next(factor for factor in report.factors if factor.name == own) for own in one.factors)
    means, levels = one.means, one.levels
    if len(levels[1]) > len(levels[0]):
        first, second, levels, means = second, first, (levels[1], levels[0]), list(zip(*means, strict=True))
    data: charts.Rows = []
    rows: charts.Rows = []
    for i, own in enumerate(means):
        for j, found in enumerate(own):
            if found is None:
                continue
            half = 0.0 if math.isnan(found[1]) else found[1]
            ends = {"mean": found[0], "low": found[0] - half, "high": found[0] + half}
            # Beside each other, or the bars of one line would hide another's.
            data.append({"x": i + 0.09 * (j - (len(levels[1]) - 1) / 2), "line": levels[1][j], **ends})
            rows.append({
                "factor": first.name, "level": levels[0][i], "by": second.name, "at": levels[1][j], **ends
            })  # fmt: skip
    count = len(levels[0])
    texts = json.dumps([printable(level) for level in levels[0]])
    axis = alt.Axis(values=list(range(count)), labelExpr=f"{texts}[datum.value]", labelLimit=0, grid=False)
    x = alt.X("x:Q", title=first.name, axis=axis, scale=charts.within([-0.5, count - 0.5]))
    width = max(_PANEL, round(count * (10 + max(charts.text_width(level, 11) for level in levels[0]))))
    encodings = _level_encodings(second, levels[1], width, theme)
    base = charts.chart(data).encode(x=x, color=encodings["color"])
    y = alt.Y("mean:Q", scale=scale, title=None, axis=alt.Axis(tickCount=4))
    layered = alt.layer(
        base.mark_line(strokeWidth=1.6).encode(y=y, strokeDash=encodings["strokeDash"]),
        base.mark_rule(strokeWidth=1.2).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"),
        base.mark_point(filled=True, size=45, opacity=1).encode(y=y, shape=encodings["shape"]),
    )
    word = "interact" if one.is_present else "no interaction found" if one.p is not None else "not tested"
    title = _title([f"{first.name} and {second.name}:", word], theme)
    return layered.properties(width=width, height=_HEIGHT, title=title), rows


def curves_by_factor(
    comparison: Comparison, report: FactorReport, theme: charts.Theme, recorded: Recorded
) -> Picture | None:
    """Learning curves, a panel a factor and a line a level: means over seeds and over all other factors.

    The last four fifths of the budget, in which differences are made. None where no run recorded the metric.
    """
    if not recorded.figures:
        return None
    metric = recorded.figures[0]
    curves = {
        arm.name: rows.curves[metric]
        for arm, rows in zip(comparison.arms, recorded.arms, strict=True)
        if arm.runs and arm.name in report.means and metric in rows.curves
    }
    rows: charts.Rows = []
    for index, factor in enumerate(report.factors):
        for place, level in enumerate(factor.levels):
            own = [one for arm, one in curves.items() if report.levels[arm][index] == place]
            rows += [{"factor": factor.name, "level": level, "tokens": x, metric: y} for x, y in _mean_curve(own)]
    if not rows:
        return None
    scale = charts.within(charts.padded([row[metric] for row in rows], 0.04))
    x = alt.X("x:Q", title="training tokens", axis=alt.Axis(format="~s", tickCount=3, labelFlush=False))
    panels = []
    for factor in report.factors:
        of = [row for row in rows if row["factor"] == factor.name]
        data = [{"x": row["tokens"], "y": row[metric], "line": row["level"]} for row in of]
        levels = list(dict.fromkeys(row["level"] for row in of))
        encodings = _level_encodings(factor, levels, _PANEL, theme, symbolStrokeWidth=2)
        y = alt.Y("y:Q", scale=scale, title=None, axis=alt.Axis(tickCount=4))
        base = charts.chart(data).encode(x=x, y=y, color=encodings["color"], strokeDash=encodings["strokeDash"])
        panels.append(base.mark_line(strokeWidth=1.8).properties(width=_PANEL, height=_HEIGHT))
    return Picture(panels, f"{wording.heading(metric)}: means over seeds and all other factors.", rows)


def _mean_curve(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """Of arms at common fractions of their budgets."""
    tracks = [Track(one.axes["step"] / one.axes["step"].max(), one.axes, one.mean()) for one in curves]
    if (together := curve(tracks)) is None:
        return []
    x, y = together.axes["tokens"].tolist(), together.mean().tolist()
    return [
        (tokens, value) for tokens, value in zip(x, y, strict=True) if math.isfinite(value) and tokens >= 0.2 * x[-1]
    ]


def costs_by_factor(comparison: Comparison, report: FactorReport, theme: charts.Theme) -> Picture | None:
    """Quality against each cost that differs, coloured by the factor that matters most, marked by the next."""
    first, second = report.by_effect()[:2]
    colours, marks = report.factors[first], report.factors[second]
    grey = {"orient": "top", "symbolFillColor": theme.quiet}
    encodings = {
        "color": _level_encodings(colours, colours.levels, 230, theme, f"factor{first}")["color"],
        "shape": _level_encodings(marks, marks.levels, 230, theme, f"factor{second}", **grey)["shape"],
    }
    traded = [cost for cost, quantity in wording.QUANTITIES.items() if quantity.is_traded]
    panels = [pareto(comparison, cost, theme, encodings) for cost in traded]
    drawn = [panel for panel in panels if panel is not None]
    if not drawn:
        return None
    rows: charts.Rows = [
        {"arm": arm.name}
        | report.levels_of(arm.name)
        | {cost: arm.figures[cost].mean for cost in (comparison.metric, *traded) if cost in arm.figures}
        for arm in comparison.arms
        if arm.runs
    ]
    said = (
        f"{wording.heading(comparison.metric)}, {comparison.direction} is better, with "
        f"{wording.confidence(comparison.alpha)} intervals. The dashed line joins the arms that no other beats in both."
    )
    return Picture(drawn, said, rows)


def _level_encodings(
    factor: Factor, levels: Sequence[str], width: float, theme: charts.Theme, field: str = "line", **legend: Any
) -> dict[str, Any]:
    """Colour, dash and marker of levels of a factor, the first in ink, in one legend."""
    columns = max(1, int(width // (34 + max(charts.text_width(level, 11) for level in levels))))
    shown = alt.Legend(
        **{
            "title": factor.name, "orient": "bottom", "labelLimit": 0, "columns": columns, "titleColor": theme.quiet,
            "titleFontWeight": "normal", "symbolOpacity": 1, "symbolStrokeWidth": 0, **legend,
        }
    )  # fmt: skip

    def scale(of: Sequence[Any]) -> alt.Scale:
        return alt.Scale(domain=list(levels), range=[of[index % len(of)] for index in range(len(levels))])

    kind, order = f"{field}:N", list(levels)
    return {
        "color": alt.Color(kind, sort=order, scale=scale(theme.hues), legend=shown),
        "strokeDash": alt.StrokeDash(kind, sort=order, scale=scale(charts.DASHES), legend=shown),
        "shape": alt.Shape(kind, sort=order, scale=scale(list(charts.SHAPES.values())), legend=shown),
    }


def _title(text: str | list[str], theme: charts.Theme) -> alt.TitleParams:
    return alt.TitleParams(text, anchor="start", fontSize=12, fontWeight="normal", color=theme.ink, offset=6)
