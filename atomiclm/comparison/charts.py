"""The charts of a comparison in Altair (Vega-Lite): for the page, for figures (svg, png, pdf) and for notebooks.

Each function takes what it draws and a `Theme`, and returns a chart, or None where there is nothing to draw. A new
chart is one more function that ends in `finished`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from atomiclm.atomic_io import write_atomic
from atomiclm.cli import UserError
from atomiclm.comparison.results import Comparison
from atomiclm.tracking.console import printable

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
"""Names of the page's colours, which follow its scheme, light or dark, without drawing again."""
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


# ----------------------------------------------------------------------------------------- what all charts share

FIT = alt.AutoSizeParams(type="fit-x", contains="padding")


def data(rows: Rows) -> alt.InlineData:
    return alt.InlineData(values=rows)


def finished(chart: Any, theme: Theme) -> alt.LayerChart:
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


def arm_encodings(
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


def title_above(text: str, theme: Theme) -> alt.TitleParams:
    """Above the axis, where it needs no width."""
    return alt.TitleParams(text=text, anchor="start", fontSize=11, fontWeight="normal", color=theme.quiet, offset=8)


def anchor_layers(comparison: Comparison, scale: alt.Scale, theme: Theme, when: str, bounds: str) -> list[alt.Chart]:
    """A dashed line at each anchor that the axis reaches; `when` and `bounds` are expressions."""
    rows = [{"anchor": text, "bits": value} for text, value in comparison.anchors.items() if math.isfinite(value)]
    if not rows:
        return []
    base = (
        alt.Chart(data(rows))
        .transform_filter(f"({when}) && datum.bits > {bounds}[0] && datum.bits < {bounds}[1]")
        .encode(y=alt.Y("bits:Q", scale=scale))
    )
    return [
        base.mark_rule(stroke=theme.quiet, strokeDash=[2, 3]),
        base.mark_text(align="right", x=alt.expr("width - 2"), dy=-6, fontSize=11, color=theme.quiet).encode(
            text="anchor:N"
        ),
    ]


def padded(values: Iterable[float], pad: float, log: bool = False) -> tuple[float, float]:
    """Ends of an axis about `values`, with some room; of equal values, an axis about them."""
    found = list(values)
    low, high = min(found), max(found)
    if log:
        low, high = math.log(low), math.log(high)
    room = pad * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - room, high + room
    return (math.exp(low), math.exp(high)) if log else (low, high)


def finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def distinct(names: Sequence[str]) -> list[str]:
    """Shortened names that tell no two arms apart get numbers."""
    return [f"{text} ({index + 1})" if names.count(text) > 1 else text for index, text in enumerate(names)]
