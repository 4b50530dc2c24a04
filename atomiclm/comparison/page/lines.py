"""A chart of several lines without a script: curves before the script draws them, tuning, loss by position."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atomiclm.comparison.page.frame import Frame, chart
from atomiclm.comparison.page.labels import shortened, spread_out, text_width
from atomiclm.comparison.page.markup import Markup, element, join
from atomiclm.comparison.page.palette import Look, marker
from atomiclm.comparison.page.scale import Scale, domain

LABEL_SIZE = 11.0
MOST_LABELS = 12
"""Names at the ends of lines; with more they would be a list beside the chart, and the page has that list."""
MOST_OWN_TICKS = 12
MOST_MARKERS = 14
"""Points of a line that are marked one by one."""


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        name: at its end.
        look: of its arm.
        points: x and y; NaN breaks the line.
        band: least and largest y at each point; empty for none.
        ringed: positions of points that are singled out.
    """

    name: str
    look: Look
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float]] = ()
    ringed: Sequence[int] = ()


@dataclass(frozen=True)
class LineChart:
    """What the axes are and how far they go.

    Attributes:
        x_label, y_label, label: what the axes and the chart show.
        x_log: whether x is logarithmic.
        x_own: whether only the values of x that occur are ticks, as those of a grid that was tried.
        y_range: ends of y; None takes all values.
        rules: values of y worth a line, by name; drawn where the chart reaches them.
    """

    x_label: str
    y_label: str
    label: str
    x_log: bool = False
    x_own: bool = False
    y_range: tuple[float, float] | None = None
    rules: Mapping[str, float] | None = None
    width: float = 700.0
    height: float = 380.0

    def draw(self, lines: Sequence[Line]) -> Markup | None:
        """Draw the lines; None where there is not one point."""
        points = [point for line in lines for point in line.points if self._is_drawn(point)]
        if not points:
            return None
        names = [shortened(line.name, LABEL_SIZE, 110) for line in lines]
        named = len(lines) <= MOST_LABELS
        room = 12 + max(text_width(name, LABEL_SIZE) for name in names) if named else 12
        x = Scale(*domain((at for at, _ in points), 0.02, self.x_log), 56, self.width - room, self.x_log)
        y = Scale(*(self.y_range or domain(value for _, value in points)), self.height - 42, 26)
        occurring = sorted({at for at, _ in points})
        own = occurring if self.x_own and len(occurring) <= MOST_OWN_TICKS else None
        frame = Frame(x, y, self.x_label, self.y_label, own)
        opacity = 0.14 * min(1.0, 6 / len(lines))  # many bands over each other would be a fog
        drawn = [self._line(line, x, y, opacity) for line in reversed(lines)]  # the baseline, first, lies on top
        parts = [frame.draw(), frame.rules(self.rules or {}), *drawn]
        if named:
            parts.append(self._names(lines, names, x, y))
        return chart(join(*parts), self.width, self.height, self.label)

    def _line(self, line: Line, x: Scale, y: Scale, opacity: float) -> Markup:
        pixels = [self._pixel(point, x, y) for point in line.points]
        parts = [element("title", line.name)]
        if line.band:
            ends = [
                (x(at), y(_within(low, y)), y(_within(high, y)))
                for (at, _), (low, high) in zip(line.points, line.band, strict=True)
                if math.isfinite(low) and self._is_drawn((at, low))
            ]
            outline = [(at, low) for at, low, _ in ends] + [(at, high) for at, _, high in reversed(ends)]
            if outline:
                path = "M" + "L".join(f"{at:.1f} {up:.1f}" for at, up in outline) + "Z"
                parts.append(element("path", d=path, class_="band", fill_opacity=opacity))
        parts.append(element("path", d=path_of(pixels), class_="curve", stroke_dasharray=line.look.dash))
        if len(pixels) <= MOST_MARKERS:
            parts += [marker(line.look, *pixel, radius=3.2) for pixel in pixels if pixel is not None]
        for position in line.ringed:
            if (pixel := pixels[position]) is not None:
                parts.append(element("circle", cx=pixel[0], cy=pixel[1], r=7, class_="ring"))
        return element("g", *parts, class_=line.look.name)

    def _names(self, lines: Sequence[Line], names: Sequence[str], x: Scale, y: Scale) -> Markup:
        """Each name at the right of the chart, as near to its line's end as the others let it."""
        ends = []
        for line, name in zip(lines, names, strict=True):
            pixels = [pixel for point in line.points if (pixel := self._pixel(point, x, y)) is not None]
            if pixels:
                ends.append((name, line.look, pixels[-1][1]))
        heights = spread_out([up for _, _, up in ends], 13, y.end, y.start)
        return join(
            *(
                element("text", name, x=x.end + 8, y=at + 4, class_=f"end-name {look.name}")
                for (name, look, _), at in zip(ends, heights, strict=True)
            )
        )

    def _pixel(self, point: tuple[float, float], x: Scale, y: Scale) -> tuple[float, float] | None:
        return (x(point[0]), y(_within(point[1], y))) if self._is_drawn(point) else None

    def _is_drawn(self, point: tuple[float, float]) -> bool:
        return all(map(math.isfinite, point)) and not (self.x_log and point[0] <= 0)


def path_of(pixels: Sequence[tuple[float, float] | None]) -> str:
    """A line through the points, broken where there is none."""
    path, pen_is_down = [], False
    for pixel in pixels:
        if pixel is not None:
            path.append(f"{'L' if pen_is_down else 'M'}{pixel[0]:.1f} {pixel[1]:.1f}")
        pen_is_down = pixel is not None
    return "".join(path)


def _within(value: float, y: Scale) -> float:
    """A value beyond the chart is drawn at its edge: the script's chart, which can be zoomed, shows all of it."""
    return min(max(value, y.low), y.high)
