"""The section of curves: a drawing that stands without a script, and the numbers that the script draws anew."""

import math
from collections.abc import Sequence

from atomiclm.comparison.comparison import Comparison
from atomiclm.comparison.curves import Curve
from atomiclm.comparison.page.lines import Line, LineChart
from atomiclm.comparison.page.markup import Markup, element, join, script_json
from atomiclm.comparison.page.palette import Look, shape_path, swatch
from atomiclm.comparison.page.parts import paragraphs, section
from atomiclm.comparison.page.rows import Recorded
from atomiclm.comparison.page.words import name_of

AXES = {"tokens": "training tokens", "flops": "training FLOPs", "seconds": "seconds of training", "step": "steps"}
DIGITS = 6
"""Significant digits of the numbers in the page: a loss to some millionths, more than any seed can tell."""


def curves(comparison: Comparison, recorded: Recorded) -> Markup:
    """The section; nothing where no run has recorded a curve and no record is unreadable."""
    unread = [f"Not read: {fault}" for fault in recorded.faults]
    if not recorded.figures:
        return section("curves", "Curves", paragraphs(*unread)) if unread else join()
    first = recorded.figures[0]
    chart = element("div", _static(comparison, recorded, first), id="curve-chart", aria_describedby="curve-where")
    keys = [element("li", _key(index, arm.name)) for index, arm in enumerate(comparison.arms)]
    legend = element("ul", *keys, id="curve-legend", aria_label="Arms; press to hide or show")
    where = element("p", "", id="curve-where", class_="quiet", aria_live="polite")
    text = (
        "Lines are means over the seeds, bands reach from the least to the greatest seed at the same fraction of the "
        "budget. A training loss is the mean of all steps since the point before. Losses per token compare arms of one "
        "tokenizer only."
    )
    data = element("script", _data(comparison, recorded), type="application/json", id="curve-data")
    return section(
        "curves",
        "Curves",
        _controls(recorded.figures),
        element("div", chart, element("div", where, legend), class_="curves"),
        paragraphs(text, *unread),
        data,
    )


def _static(comparison: Comparison, recorded: Recorded, figure: str) -> Markup | None:
    lines = []
    for index, (arm, rows) in enumerate(zip(comparison.arms, recorded.arms, strict=True)):
        if drawn := rows.curves.get(figure):
            points = list(zip(drawn.axes["tokens"], drawn.mean(), strict=True))
            lines.append(Line(arm.name, Look.of(index), points, drawn.band()))
    rules = comparison.anchors if figure.endswith("bits_per_byte") else {}
    label = f"{name_of(figure)} against training tokens"
    return LineChart(AXES["tokens"], name_of(figure), label, rules=rules).draw(lines)


def _key(index: int, name: str) -> Markup:
    look = Look.of(index)
    value = element("output", "", class_="needs-script")
    return element(
        "button", swatch(look), element("span", name), value, type="button", aria_pressed="true", disabled=True
    )


def _controls(figures: Sequence[str]) -> Markup:
    x = [_radio("x", axis, text, axis == "tokens") for axis, text in AXES.items()]
    y = [_radio("y", figure, name_of(figure), figure == figures[0]) for figure in figures]
    ticks = [_tick("log", "logarithmic x"), _tick("zoom", "the last half"), _tick("seeds", "single seeds")]
    return element(
        "form",
        element("fieldset", element("legend", "x"), *x),
        element("fieldset", element("legend", "y"), *y),
        element("fieldset", element("legend", "show"), *ticks),
        id="curve-controls",
        class_="needs-script",
    )


def _radio(name: str, value: str, text: str, chosen: bool) -> Markup:
    return element("label", element("input", type="radio", name=name, value=value, checked=chosen), f" {text}")


def _tick(name: str, text: str) -> Markup:
    return element("label", element("input", type="checkbox", name=name), f" {text}")


def _data(comparison: Comparison, recorded: Recorded) -> Markup:
    arms = [
        {
            "name": arm.name,
            "hue": Look.of(index).name,
            "dash": Look.of(index).dash,
            "marker": shape_path(Look.of(index).shape, 0, 0, 3.4),
            "filling": Look.of(index).filling,
            "curves": {figure: _curve(drawn) for figure, drawn in rows.curves.items()},
        }
        for index, (arm, rows) in enumerate(zip(comparison.arms, recorded.arms, strict=True))
    ]
    metrics = {figure: name_of(figure) for figure in recorded.figures}
    anchors = {name: value for name, value in comparison.anchors.items() if math.isfinite(value)}
    return script_json({"arms": arms, "axes": AXES, "metrics": metrics, "anchors": anchors})


def _curve(drawn: Curve) -> dict[str, object]:
    return {
        "x": {axis: _numbers(values) for axis, values in drawn.axes.items()},
        "seconds": [_numbers(values) for values in drawn.seconds],
        "values": [_numbers(values) for values in drawn.values],
        "ended": drawn.ended,
    }


def _numbers(values: Sequence[float]) -> list[float | int | None]:
    rounded = [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in values]
    return [int(value) if value is not None and value.is_integer() and value < 1e15 else value for value in rounded]
