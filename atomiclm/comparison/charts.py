"""What all charts of a comparison share, in Altair (Vega-Lite): themes, how an arm is drawn, fonts and axes, files.

Each chart is one function of what it draws and a `Theme` that ends in `finished`; it returns None where there is
nothing to draw.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import altair as alt
import vl_convert

from atomiclm.atomic_io import write_atomic
from atomiclm.cli import UserError
from atomiclm.comparison.results import Comparison
from atomiclm.tracking.console import printable

Rows = list[dict[str, Any]]
Width = int | Literal["container"]

WIDTH = 700
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class Theme:
    """Colours."""

    ink: str  # of text
    quiet: str  # of axes
    faint: str  # of grids
    paper: str  # what lies behind
    # Of arms. The first, of the baseline, is ink; the others are six hues after Okabe and Ito (2008, "Color Universal
    # Design"), shifted until each has a contrast of 3:1 with its background.
    hues: Sequence[str]
    verdicts: Sequence[str]  # by the words of VERDICTS


VERDICTS = ("better", "worse", "equivalent", "inconclusive", "diverged", "")

LIGHT = Theme(
    "#1c1f24", "#5b626b", "#dfe2e6", "#ffffff",
    ("#1c1f24", "#0072b2", "#d55e00", "#00916a", "#a8408f", "#3d9ad6", "#7d4300"),
    ("#17723a", "#b3390b", "#0b62b0", "#5b626b", "#b0215a", "#1c1f24"),
)  # fmt: skip
DARK = Theme(
    "#e8eaed", "#a2a9b2", "#343a42", "#15181d",
    ("#f0f2f5", "#2f86dd", "#ff7f2a", "#2bbf93", "#e07cc9", "#8fd6ff", "#b39256"),
    ("#57c785", "#ff9466", "#7ab8f5", "#a2a9b2", "#ff85b0", "#e8eaed"),
)  # fmt: skip
PAGE = Theme(
    "var(--ink)", "var(--quiet)", "var(--line)", "var(--paper)",
    tuple(f"var(--hue{index})" for index in range(len(LIGHT.hues))),
    ("var(--good)", "var(--bad)", "var(--same)", "var(--quiet)", "var(--broken)", "var(--ink)"),
)  # fmt: skip
"""Names of the page's colours, which follow its scheme, light or dark, without drawing again."""
FIGURE = Theme(
    "#757c85", "#757c85", "#9aa1a9", "#ffffff",
    LIGHT.hues,
    ("#1a883f", "#d9480f", "#1a7fc4", "#757c85", "#d6336c", "#757c85"),
)  # fmt: skip
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


def save(chart: alt.LayerChart, path: Path) -> None:
    """Write a chart as the ending of `path` says: .svg (also without one), .png (of twice as many pixels) or .pdf."""
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
    return vl_convert.vegalite_to_svg(spec)


# ----------------------------------------------------------------------------------------------- parts of a chart


def chart(rows: Rows) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=rows))


def finished(layers: Sequence[alt.Chart], theme: Theme, width: Width, height: int, **properties: Any) -> alt.LayerChart:
    """The layers as one chart, with fonts, colours and grids that are the same for all charts."""
    chart = alt.layer(*layers).properties(
        width=width, height=height, autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
    )
    drawn: alt.LayerChart = styled(chart.properties(**properties), theme)
    return drawn


def styled(chart: Any, theme: Theme) -> Any:
    """A chart, or several side by side, with the fonts, colours and grids of all."""
    return (
        chart.configure(background="transparent", aria=False, font=FONT, padding=4)
        .configure_view(stroke=None)
        .configure_axis(
            grid=False,
            labelColor=theme.quiet,
            labelFontSize=11,
            titleColor=theme.quiet,
            titleFontSize=11,
            titleFontWeight="normal",
            domainColor=theme.quiet,
            tickColor=theme.quiet,
            gridColor=theme.faint,
        )
        .configure_axisY(labelColor=theme.ink, domain=False, ticks=False, labelPadding=6)
        .configure_title(anchor="start", fontSize=11, fontWeight="normal", color=theme.quiet, offset=8)
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


def arm_encodings(
    names: Sequence[str], styles: Sequence[ArmStyle], theme: Theme, legend: alt.Legend | None = None
) -> dict[str, Any]:
    """Colour, dash and marker of arms, one legend for the three."""
    hues = alt.Scale(domain=names, range=[theme.hues[style.hue] for style in styles])
    dashes = alt.Scale(domain=list(range(len(DASHES))), range=list(DASHES))
    shapes = alt.Scale(domain=names, range=[SHAPES[style.shape] for style in styles])
    return {
        "color": alt.Color("arm:N", scale=hues, legend=legend),
        "strokeDash": alt.StrokeDash("dash:N", scale=dashes, legend=None),
        "shape": alt.Shape("arm:N", scale=shapes, legend=legend),
    }


def anchor_layers(comparison: Comparison, theme: Theme, bounds: str, when: str = "true") -> list[alt.Chart]:
    """A dashed line at each anchor that the axis reaches; `bounds` (of y) and `when` are expressions."""
    rows = [{"anchor": text, "bits": value} for text, value in comparison.anchors.items() if math.isfinite(value)]
    if not rows:
        return []
    inside = f"({when}) && datum.bits > {bounds}[0] && datum.bits < {bounds}[1]"
    base = chart(rows).transform_filter(inside).encode(y="bits:Q")
    name = base.mark_text(align="right", x=alt.expr("width - 2"), dy=-6, color=theme.quiet).encode(text="anchor:N")
    return [base.mark_rule(stroke=theme.quiet, strokeDash=[2, 3]), name]


def within(domain: Sequence[float] | None, log: bool = False, padding: float = 0) -> alt.Scale:
    """An axis from end to end of `domain`, without the zero and the round numbers that Vega-Lite would add.

    domain: None takes all values, with `padding` pixels about them.
    """
    ends = alt.Undefined if domain is None else domain
    if log:  # which has no zero, and Vega-Lite warns of one that is left out
        return alt.Scale(domain=ends, type="log", nice=False, padding=padding)
    return alt.Scale(domain=ends, zero=False, nice=False, padding=padding)


def padded(values: Iterable[float], pad: float, log: bool = False) -> list[float]:
    """Ends of an axis about `values`, with some room; of equal values, an axis about them."""
    found = list(values)
    low, high = min(found), max(found)
    if log:
        low, high = math.log(low), math.log(high)
    room = pad * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - room, high + room
    return [math.exp(low), math.exp(high)] if log else [low, high]


# ---------------------------------------------------------------------------------------------- texts in a chart


def text_width(text: str, size: float) -> float:
    """About how wide a sans-serif text is, generously: 0.6 of its size a character, all of it for East Asia's."""
    return size * sum(1.0 if ord(character) >= 0x1100 else 0.6 for character in text)


def labels(names: Sequence[str], size: float, width: float) -> list[str]:
    """Names of arms, cut in the middle where they are wider; those that tell no two arms apart get numbers."""
    # Vega-Lite puts a title into an expression, and quotes it without its backslashes.
    safe = [name.replace("\\", "\N{REVERSE SOLIDUS OPERATOR}") for name in names]
    short = [shortened(name, size, width) for name in safe]
    return [f"{text} ({index + 1})" if short.count(text) > 1 else text for index, text in enumerate(short)]


def shortened(text: str, size: float, width: float) -> str:
    """`text`, cut in the middle if it is wider than `width`: names of arms differ at either end."""
    left, cut = len(text), text
    while text_width(cut, size) > width and left > 2:
        left -= 1
        head = (left + 1) // 2
        cut = f"{text[:head]}…{text[len(text) - (left - head) :]}"
    return cut
