"""What was measured over the course of training."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import altair as alt

from atomiclm.comparison.charts import (
    AXES,
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
    finite,
    padded,
)
from atomiclm.comparison.curves import Recorded
from atomiclm.comparison.labels import shortened, spread_out
from atomiclm.comparison.results import Comparison
from atomiclm.comparison.wording import (
    name,
)


def curves(
    comparison: Comparison, recorded: Recorded, theme: Theme = LIGHT, width: int | Literal["container"] = WIDTH
) -> Any:
    """Means over the seeds, with bands from the least to the greatest; None where no run has recorded a curve.

    Its controls choose both axes, a logarithmic x, the last half and single seeds; a click in the legend singles out
    an arm.
    """
    if not recorded.figures:
        return None
    names = distinct([shortened(arm.name, 11, 160) for arm in comparison.arms])
    arm = arm_encodings(names, [ArmStyle.of(index) for index in range(len(names))], theme, legend=True, offset=44)
    rows, ends = _curve_rows(names, recorded)
    reach = {key: _reach(recorded, figure, half) for figure in recorded.figures for key, half in _reach_keys(figure)}
    y = alt.Scale(zero=False, nice=False, domainMin=alt.expr(f"{_BOUNDS}[0]"), domainMax=alt.expr(f"{_BOUNDS}[1]"))
    picked = alt.selection_point("arms", fields=["arm"], bind="legend")
    visible = alt.when(picked).then(alt.value(1)).otherwise(alt.value(0.1))
    most = max((len(curve.values) for arm in recorded.arms for curve in arm.curves.values()), default=0)
    layers = [
        *_lines(_shown(rows).encode(x=_x(), color=arm["color"]), y, arm, picked, len(names), most),
        _under_the_pointer(_shown(rows).encode(color=arm["color"]), names, theme),
    ]
    if ends:
        stopped = _shown(ends).mark_text(text="\N{MULTIPLICATION SIGN}", fontSize=15, fontWeight="bold", clip=True)
        stopped = stopped.encode(x=_x(), y=alt.Y("value:Q", scale=y), color=arm["color"], opacity=visible)
        layers.append(stopped)
    layers += anchor_layers(comparison, y, theme, "test(/bits_per_byte$/, figure)", _BOUNDS)
    if len(names) <= MOST_NAMES:
        labels = data(_end_names(names, recorded, reach, _HEIGHT))
        right = alt.Chart(labels).transform_filter("datum.figure === figure && datum.half === half")
        right = right.mark_text(align="left", x=alt.expr("width + 8"), fontSize=11)
        at = alt.Y("pixel:Q", scale=None)
        layers.append(right.encode(y=at, text="text:N", color=arm["color"], opacity=visible))
    under = alt.Chart(data([{}])).mark_text(
        text=alt.expr("axes[axis]"), x=alt.expr("width / 2"), y=_HEIGHT + 34, fontSize=11, color=theme.quiet
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
    chart = alt.layer(*layers, under).add_params(*_controls(recorded.figures, reach), picked)
    return finished(chart.properties(width=width, height=_HEIGHT, title=title, autosize=FIT), theme)


_HEIGHT = 320
_BOUNDS = "reach[figure + (half ? '/half' : '')]"


def _controls(figures: Sequence[str], reach: dict[str, tuple[float, float]]) -> list[Any]:
    """What a reader chooses, and the texts and bounds that follow from it."""
    named = {figure: name(figure) for figure in figures}

    def radio(label: str, options: dict[str, str]) -> alt.BindRadioSelect:
        return alt.binding_radio(options=list(options), labels=list(options.values()), name=label)

    return [
        alt.param("axis", value="tokens", bind=radio("x ", AXES)),
        alt.param("figure", value=figures[0], bind=radio("y ", named)),
        alt.param("log", value=False, bind=alt.binding_checkbox(name="logarithmic x ")),
        alt.param("half", value=False, bind=alt.binding_checkbox(name="the last half ")),
        alt.param("seeds", value=False, bind=alt.binding_checkbox(name="single seeds ")),
        alt.param("figures", value=named),
        alt.param("axes", value=AXES),
        alt.param("reach", value=reach),
    ]


def _shown(rows: Rows) -> alt.Chart:
    """The rows that the controls leave, with x on the axis that they choose."""
    return (
        alt.Chart(data(rows))
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


def _lines(
    shown: alt.Chart, y: alt.Scale, arm: dict[str, Any], picked: alt.Parameter, arms: int, most_seeds: int
) -> list[alt.Chart]:
    """Bands, single seeds, means and their markers."""
    visible = alt.when(picked).then(alt.value(1)).otherwise(alt.value(0.1))
    fog = 0.16 * min(1, 6 / arms)  # many bands over each other would hide the lines
    band = alt.when(picked).then(alt.value(fog)).otherwise(alt.value(0))
    single = shown.transform_fold([f"seed{index}" for index in range(most_seeds)], as_=["seed", "value"])
    single = single.transform_filter(
        "isValid(datum.value) && (seeds || toNumber(substring(datum.seed, 4)) >= datum.ended)"
    )
    low = alt.Y("low:Q", scale=y, axis=alt.Axis(title=None, tickCount=5, grid=True))
    mean = alt.Y("mean:Q", scale=y)
    return [
        shown.mark_area(clip=True, stroke=None).transform_filter("!seeds").encode(y=low, y2="high:Q", fillOpacity=band),
        single.mark_line(clip=True, strokeWidth=0.8).encode(
            y=alt.Y("value:Q", scale=y), detail=["seed:N"], opacity=visible
        ),
        shown.mark_line(clip=True, strokeWidth=1.8).encode(y=mean, opacity=visible, strokeDash=arm["strokeDash"]),
        shown.mark_point(filled=True, clip=True, size=34)
        .transform_filter(f"datum.points <= {MOST_MARKERS}")
        .encode(y=mean, opacity=visible, shape=arm["shape"]),
    ]


def _under_the_pointer(shown: alt.Chart, names: Sequence[str], theme: Theme) -> alt.Chart:
    """A line at the nearest x, with every arm's mean in a tooltip."""
    hover = alt.selection_point("at", fields=["x"], nearest=True, on="pointermove", clear="pointerout", empty=False)
    tips = [alt.Tooltip("where:N", title="at")]
    tips += [alt.Tooltip(f"{index}:Q", title=text, format=".4f") for index, text in enumerate(names)]
    return (
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
                row |= {axis: finite(values[at]) for axis, values in curve.axes.items()} | {"points": len(means)}
                row |= {"mean": finite(means[at]), "low": finite(band[at][0]), "high": finite(band[at][1])}
                own.append(row | {f"seed{seed}": finite(values[at]) for seed, values in enumerate(curve.values)})
            rows += own
            for seed, values in list(enumerate(curve.values))[curve.ended :]:
                counted = [at for at, value in enumerate(values) if math.isfinite(value)]
                if counted:
                    ends.append({**own[counted[-1]], "value": values[counted[-1]]} | {f"seed{seed}": None})
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
    return padded(found or [0.0, 1.0], 0.05)


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
