"""Lines and points of arms: the course of training, a figure over any x, quality against cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import numpy as np

from atomiclm.comparison import charts
from atomiclm.comparison.curves import Numbers, Recorded
from atomiclm.comparison.results import Comparison
from atomiclm.comparison.wording import QUANTITIES, format_cost, format_spread, heading, name

AXES = {"tokens": "training tokens", "flops": "training FLOPs", "seconds": "seconds of training", "step": "steps"}
MOST_LEGEND = 270
"""Pixels of a name in a legend: what a phone has room for."""
MOST_MARKERS = 14
"""Points of a line that are marked one by one."""
MOST_INTERVALS = 10
"""Arms whose intervals are all drawn against a cost; of more only those of the arms that none beats."""

_HEIGHT = 320
_BOUNDS = "reach[figure + (half ? '/half' : '')]"


# ------------------------------------------------------------------------------------------- the course of training


def curves(comparison: Comparison, recorded: Recorded, theme: charts.Theme) -> alt.LayerChart | None:
    """Means over the seeds, with bands from the least to the greatest; None where no run has recorded a curve.

    Its controls choose both axes, a logarithmic x, the last half and single seeds; a click in the legend singles out
    an arm.
    """
    if not recorded.figures:
        return None
    names = charts.labels([arm.name for arm in comparison.arms], 11, MOST_LEGEND)
    styles = [charts.ArmStyle.of(index) for index in range(len(names))]
    arm = charts.arm_encodings(names, styles, theme, _legend(names, 44))
    rows, ends = _curve_rows(names, recorded)
    reach = {
        f"{figure}{suffix}": _reach(recorded, figure, begin)
        for figure in recorded.figures
        for suffix, begin in (("", 0.1), ("/half", 0.5))
    }
    picked = alt.selection_point("arms", fields=["arm"], bind="legend")
    visible = alt.when(picked).then(alt.value(1)).otherwise(alt.value(0.1))
    fog = alt.when(picked).then(alt.value(0.16 * min(1, 6 / len(names)))).otherwise(alt.value(0))
    scale = alt.Scale(zero=False, nice=False, domainMin=alt.expr(f"{_BOUNDS}[0]"), domainMax=alt.expr(f"{_BOUNDS}[1]"))
    low = alt.Y("low:Q", scale=scale, axis=alt.Axis(title=None, tickCount=5, grid=True))
    shown = _shown(rows).encode(x=_x(), color=arm["color"])
    most_seeds = max(len(curve.values) for own in recorded.arms for curve in own.curves.values())
    single = shown.transform_fold([f"seed{index}" for index in range(most_seeds)], as_=["seed", "value"])
    single = single.transform_filter(
        "isValid(datum.value) && (seeds || toNumber(substring(datum.seed, 4)) >= datum.ended)"
    )
    marked = shown.transform_filter(f"datum.points <= {MOST_MARKERS}").mark_point(filled=True, clip=True, size=34)
    layers = [
        # Many bands over each other would hide the lines.
        shown.transform_filter("!seeds").mark_area(clip=True, stroke=None).encode(y=low, y2="high:Q", fillOpacity=fog),
        single.mark_line(clip=True, strokeWidth=0.8).encode(y="value:Q", detail=["seed:N"], opacity=visible),
        shown.mark_line(clip=True, strokeWidth=1.8).encode(y="mean:Q", opacity=visible, strokeDash=arm["strokeDash"]),
        marked.encode(y="mean:Q", opacity=visible, shape=arm["shape"]),
        _under_the_pointer(_shown(rows), names, theme),
        *charts.anchor_layers(comparison, theme, _BOUNDS, when="test(/bits_per_byte$/, figure)"),
    ]
    if ends:
        stopped = _shown(ends).mark_text(text="\N{MULTIPLICATION SIGN}", fontSize=15, fontWeight="bold", clip=True)
        layers.append(stopped.encode(x=_x(), y="value:Q", color=arm["color"], opacity=visible))
    under = charts.chart([{}]).mark_text(
        text=alt.expr("axes[axis]"), x=alt.expr("width / 2"), y=_HEIGHT + 34, color=theme.quiet
    )
    title = alt.TitleParams(text=alt.expr("figures[figure]"), frame="group", offset=10)
    params = [*_controls(recorded.figures, reach), picked]
    return charts.finished(
        [layers[0].add_params(*params), *layers[1:], under], theme, "container", _HEIGHT, title=title
    )


def run_chart(rows: Sequence[Mapping[str, Any]]) -> alt.LayerChart:
    """The course of one run: bits per byte of its training batches, and of its validation text.

    Args:
        rows: of its `metrics.jsonl`.
    """
    theme, texts = charts.FIGURE, ["training batches", "validation"]
    points: charts.Rows = [
        {"tokens": row["tokens"], "bits": row[key], "text": text}
        for text, key in zip(texts, ("train/bits_per_byte", "validation/bits_per_byte"), strict=True)
        for row in rows
        if key in row
    ]
    base = charts.chart(points).encode(
        x=alt.X("tokens:Q", title="training tokens", axis=alt.Axis(format="~s", tickCount=6)),
        y=alt.Y(
            "bits:Q", title=None, scale=charts.within(None), axis=alt.Axis(grid=True, gridOpacity=0.4, tickCount=5)
        ),
        color=alt.Color("text:N", scale=alt.Scale(domain=texts, range=[theme.hues[5], theme.hues[2]])),
        tooltip=["text:N", alt.Tooltip("tokens:Q", format=","), alt.Tooltip("bits:Q", format=".4f")],
    )
    marked = base.transform_filter(f"datum.text == '{texts[1]}'").mark_point(filled=True, size=36, opacity=1)
    layers = [base.mark_line(strokeWidth=1.8), marked]
    return charts.finished(layers, theme, charts.WIDTH, _HEIGHT, title="bits per byte, lower is better")


def _legend(names: Sequence[str], offset: int) -> alt.Legend:
    """In as many columns as the names have room for, none cut."""
    widest = 34 + max(charts.text_width(name, 11) for name in names)
    return alt.Legend(offset=offset, labelLimit=0, columns=alt.expr(f"max(1, floor(width / {widest:.0f}))"))


def _controls(figures: Sequence[str], reach: dict[str, list[float]]) -> list[alt.Parameter]:
    """What a reader chooses, and the texts and bounds that follow from it."""
    named = {figure: name(figure) for figure in figures}

    def radio(label: str, options: dict[str, str]) -> alt.BindRadioSelect:
        return alt.binding_radio(options=list(options), labels=list(options.values()), name=label)

    checks = {"log": "logarithmic x ", "half": "the last half ", "seeds": "single seeds "}
    return [
        alt.param("axis", value="tokens", bind=radio("x ", AXES)),
        alt.param("figure", value=figures[0], bind=radio("y ", named)),
        *(alt.param(key, value=False, bind=alt.binding_checkbox(name=text)) for key, text in checks.items()),
        alt.param("figures", value=named),
        alt.param("axes", value=AXES),
        alt.param("reach", value=reach),
    ]


def _shown(rows: charts.Rows) -> alt.Chart:
    """The rows that the controls leave, with x on the axis that they choose."""
    return (
        charts.chart(rows)
        .transform_filter("datum.figure === figure")
        .transform_calculate(x="log ? log(datum[axis]) / LN10 : datum[axis]")
        .transform_joinaggregate(last="max(x)")
        .transform_filter("isFinite(datum.x) && (!half || datum.x >= (log ? datum.last - 0.602 : datum.last / 2))")
    )


def _x() -> alt.X:
    decades = [math.log10(factor * 10.0**power) for power in range(-3, 28) for factor in (1, 2, 5)]
    axis = alt.Axis(
        title=None,
        values=alt.expr(f"log ? {decades} : null"),
        labelExpr="format(log ? pow(10, datum.value) : datum.value, '.3~s')",
        labelOverlap=True,
        tickCount=6,
    )
    return alt.X("x:Q", scale=alt.Scale(nice=False, zero=alt.expr("!log && !half"), padding=5), axis=axis)


def _under_the_pointer(shown: alt.Chart, names: Sequence[str], theme: charts.Theme) -> alt.Chart:
    """A line at the nearest x, with every arm's mean in a tooltip."""
    hover = alt.selection_point("at", fields=["x"], nearest=True, on="pointermove", clear="pointerout", empty=False)
    tips = [alt.Tooltip("where:N", title="at")]
    tips += [alt.Tooltip(f"{index}:Q", title=text, format=".4f") for index, text in enumerate(names)]
    chart: alt.Chart = (
        shown.transform_pivot("index", value="mean", groupby=["x"], op="mean")
        .transform_calculate(where="format(log ? pow(10, datum.x) : datum.x, '.4~s')")
        .mark_rule(stroke=theme.quiet)
        .encode(
            x=_x(),
            color=alt.value(theme.quiet),
            opacity=alt.when(hover).then(alt.value(1)).otherwise(alt.value(0)),
            tooltip=tips,
        )
        .add_params(hover)
    )
    return chart


def _curve_rows(names: Sequence[str], recorded: Recorded) -> tuple[charts.Rows, charts.Rows]:
    """One row a point of an arm's curve, and one where a diverged seed ends."""
    rows: charts.Rows = []
    ends: charts.Rows = []
    for index, (arm, label) in reversed(list(enumerate(zip(recorded.arms, names, strict=True)))):  # the baseline on top
        for figure, curve in arm.curves.items():
            mean, (low, high), points = curve.mean(), curve.band(), curve.values.shape[1]
            columns = {**curve.axes, "mean": mean, "low": low, "high": high}
            columns |= {f"seed{seed}": values for seed, values in enumerate(curve.values)}
            same = {"arm": label, "index": index, "figure": figure, "ended": curve.ended}
            same |= {"dash": charts.ArmStyle.of(index).dash, "points": points}
            own = [same | {key: _finite(column[at]) for key, column in columns.items()} for at in range(points)]
            rows += own
            for values in curve.values[curve.ended :]:
                if (measured := np.flatnonzero(np.isfinite(values))).size:
                    last = own[measured[-1]] | {"value": float(values[measured[-1]])}
                    ends.append({key: value for key, value in last.items() if not key.startswith("seed")})
    return rows, ends


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _reach(recorded: Recorded, figure: str, begin: float) -> list[float]:
    """From the best value to what the worst arm had after such a share: earlier ones would flatten all."""
    found = [np.array([])]
    for arm in recorded.arms:
        if (curve := arm.curves.get(figure)) is not None:
            steps = curve.axes["step"]
            late = steps >= 0.9999 * begin * steps.max()
            found.append((curve.values[: curve.ended] if curve.ended else curve.values)[:, late].ravel())
    values = np.concatenate(found)
    values = values[np.isfinite(values)]
    return charts.padded(values.tolist() or [0.0, 1.0], 0.05)


def last_value(values: Numbers) -> float:
    """The last that is a number; NaN without one."""
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if finite.size else math.nan


# --------------------------------------------------------------------------------------------------- lines over any x


@dataclass(frozen=True)
class Line:
    """One line of a chart: y over x, NaN where it breaks."""

    name: str
    style: charts.ArmStyle
    points: Sequence[tuple[float, float]]
    ringed: Sequence[int] = ()  # positions of points that are singled out


def lines(
    given: Sequence[Line],
    x_title: str,
    y_title: str,
    theme: charts.Theme,
    own_ticks: bool = False,
    y_domain: list[float] | None = None,
) -> alt.LayerChart | None:
    """Lines over a logarithmic x: trials of a tuned setting, or an evaluation by position. None without a point.

    With `own_ticks` only the values of x that occur are ticks, as those of a grid that was tried. A point beyond
    `y_domain` is drawn at the edge.
    """
    names = charts.labels([line.name for line in given], 11, MOST_LEGEND)
    drawn = [[(x, y) for x, y in line.points if math.isfinite(y) and 0 < x < math.inf] for line in given]
    if not any(drawn):
        return None
    domain = y_domain or charts.padded([y for points in drawn for _, y in points], 0.04)
    rows: charts.Rows = []
    for line, label, points in reversed(list(zip(given, names, drawn, strict=True))):  # the baseline on top
        ringed = {line.points[at][0] for at in line.ringed}
        same = {"arm": label, "dash": line.style.dash}
        rows += [
            same | {"x": x, "y": min(max(y, domain[0]), domain[1]), "value": y, "ring": x in ringed} for x, y in points
        ]
    occurring = sorted({row["x"] for row in rows})
    ticks = occurring if own_ticks and len(occurring) <= 12 else _log_ticks(occurring[0], occurring[-1])
    x_axis = alt.Axis(
        labelExpr="datum.value < 0.01 ? format(datum.value, '.3~g') : format(datum.value, '.4~r')",
        values=ticks,
        tickCount=6,
        labelOverlap=True,
    )
    x = alt.X("x:Q", title=x_title, scale=charts.within(None, log=True, padding=12), axis=x_axis)
    y = alt.Y("y:Q", title=None, scale=charts.within(domain), axis=alt.Axis(grid=True, tickCount=5))
    arm = charts.arm_encodings(names, [line.style for line in given], theme, _legend(names, 18))
    tip = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("x:Q", title=x_title, format=".4~r"),
        alt.Tooltip("value:Q", title=y_title, format=".4f"),
    ]
    base = charts.chart(rows).encode(x=x, y=y, color=arm["color"], tooltip=tip)
    layers = [base.mark_line(strokeWidth=1.8).encode(strokeDash=arm["strokeDash"])]
    if max(map(len, drawn)) <= MOST_MARKERS:
        layers.append(base.mark_point(filled=True, size=36, opacity=1).encode(shape=arm["shape"]))
    layers.append(base.transform_filter("datum.ring").mark_point(size=190, filled=False, strokeWidth=1.5))
    return charts.finished(layers, theme, "container", 300, title=y_title)


def _log_ticks(low: float, high: float) -> Any:
    """Powers of ten in [low, high] and as many multiples as it takes to have three; Undefined where there are fewer."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        inside = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 8)]  # no more than eight
    return alt.Undefined


# ---------------------------------------------------------------------------------------------- quality against cost


def pareto(comparison: Comparison, cost: str, theme: charts.Theme, encodings: Mapping[str, Any] | None = None) -> Any:
    """Quality against one cost, the arms that no other beats in both joined; None where the cost does not differ.

    A panel without fonts and colours of the whole (`charts.styled`). Of a sweep over several factors means and
    intervals are those of all its runs; `encodings` are then colour and shape by the fields factor0, factor1, ...
    """
    rows: charts.Rows = []
    for arm in comparison.arms:
        spread, quality = arm.figures.get(cost), arm.figures[comparison.metric]
        if spread is not None and math.isfinite(spread.mean) and math.isfinite(quality.mean):
            row = {"arm": arm.name, "cost": spread.mean, "takes": format_cost(cost, spread)}
            if report := comparison.factors:
                row |= {f"factor{index}": level for index, level in enumerate(report.levels_of(arm.name).values())}
                mean, half = report.means.get(arm.name, (quality.mean, math.nan))
                quality = replace(quality, mean=mean, half_width=None if math.isnan(half) else half)
            half = quality.half_width or 0.0
            row |= {"mean": quality.mean, "low": quality.mean - half, "high": quality.mean + half}
            rows.append(row | {"quality": format_spread(quality)})
    costs, qualities = [row["cost"] for row in rows], [row["mean"] for row in rows]
    if len(rows) < 2 or max(costs) <= min(costs) * 1.001:
        return None
    best = frontier(costs, qualities, not QUANTITIES[cost].larger_is_better, comparison.direction == "lower")
    is_crowd = len(rows) > MOST_INTERVALS
    rows = [row | {"best": at in best, "interval": not is_crowd or at in best} for at, row in enumerate(rows)]
    ys = charts.padded(qualities if is_crowd else [row[end] for row in rows for end in ("low", "high")], 0.12)
    log = min(costs) > 0 and max(costs) > 3 * min(costs)
    xs = charts.padded(costs, 0.1, log)
    ticks = _log_ticks(xs[0], xs[1]) if log else alt.Undefined
    x_axis = alt.Axis(format=".3~s", values=ticks, tickCount=3, labelOverlap=True)
    y_axis = alt.Axis(tickCount=5, grid=True, gridOpacity=0.4)
    every = [arm.name for arm in comparison.arms]
    drawn_as = encodings or charts.arm_encodings(every, list(map(charts.ArmStyle.of, range(len(every)))), theme)
    tip = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("quality:N", title=heading(comparison.metric)),
        alt.Tooltip("takes:N", title=heading(cost)),
    ]
    x = alt.X("cost:Q", title=name(cost), scale=charts.within(xs, log), axis=x_axis)
    y = alt.Y("mean:Q", title=None, scale=charts.within(ys), axis=y_axis)
    base = charts.chart(rows).encode(x=x, y=y, color=drawn_as["color"], tooltip=tip)
    joined = base.transform_filter("datum.best").mark_line(strokeDash=[4, 3], strokeWidth=1)
    layers = [
        *(charts.anchor_layers(comparison, theme, str(ys)) if comparison.metric.endswith("bits_per_byte") else ()),
        joined.encode(color=alt.value(theme.quiet)),
        base.transform_filter("datum.interval").mark_rule(opacity=0.5, clip=True).encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=55, opacity=1).encode(shape=drawn_as["shape"]),
    ]
    return alt.layer(*layers).properties(width=250, height=220, title=heading(comparison.metric))


def frontier(costs: Sequence[float], qualities: Sequence[float], less_cost: bool, less_is_better: bool) -> list[int]:
    """Positions of those that none beats: none is at least as good in both and better in one."""
    points = np.array([costs, qualities]).T * [1 if less_cost else -1, 1 if less_is_better else -1]
    beaten = [((points <= point).all(axis=1) & (points < point).any(axis=1)).any() for point in points]
    return np.flatnonzero(~np.array(beaten)).tolist()
