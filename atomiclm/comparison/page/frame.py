"""The frame of a chart: axes with ticks, a light grid, what they mean, and rules across at values worth knowing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atomiclm.comparison.page.labels import Box, spread_out, text_width
from atomiclm.comparison.page.markup import Markup, element, join
from atomiclm.comparison.page.scale import Scale, tick_labels

TICK_SIZE = 11
PHONE_WIDTH = 336
"""Pixels between the margins of a small phone; what is wider is scrolled there."""


@dataclass(frozen=True)
class Frame:
    """Where a chart's data are drawn.

    Attributes:
        x, y: the scales; pixels of y run downwards, so `y.start` is below `y.end`.
        x_label, y_label: what they are, with the unit.
        x_ticks: where only these values of x occur; None for round ones.
    """

    x: Scale
    y: Scale
    x_label: str
    y_label: str
    x_ticks: Sequence[float] | None = None

    @property
    def area(self) -> Box:
        """The rectangle of the data."""
        return Box(self.x.start, self.y.end, self.x.end, self.y.start)

    def draw(self) -> Markup:
        """Grid, axis lines, ticks with their labels, and what the axes are."""
        area, parts = self.area, []
        x_ticks, y_ticks = self.x_ticks or self.x.ticks(round((area.right - area.left) / 75)), self.y.ticks()
        x_labels = [f"{tick:.3g}" for tick in x_ticks] if self.x_ticks else tick_labels(x_ticks)
        for tick, label in zip(y_ticks, tick_labels(y_ticks), strict=True):
            at = self.y(tick)
            parts.append(element("path", d=f"M{area.left:.1f} {at:.1f}H{area.right:.1f}", class_="grid"))
            parts.append(element("text", label, x=area.left - 6, y=at + 4, text_anchor="end", class_="tick"))
        written = -math.inf
        for tick, label in zip(x_ticks, x_labels, strict=True):
            at = self.x(tick)
            parts.append(element("path", d=f"M{at:.1f} {area.bottom:.1f}v4", class_="axis"))
            half = text_width(label, TICK_SIZE) / 2
            # A label that would touch the one before it, or be cut by the edge, is left to the reader.
            if at - half > written and at + half < area.right + 8:
                written = at + half
                parts.append(element("text", label, x=at, y=area.bottom + 16, text_anchor="middle", class_="tick"))
        parts.append(element("path", d=f"M{area.left:.1f} {area.bottom:.1f}H{area.right:.1f}", class_="axis"))
        middle = (area.left + area.right) / 2
        below, above = area.bottom + 33, area.top - 10
        parts.append(element("text", self.x_label, x=middle, y=below, text_anchor="middle", class_="axis-name"))
        parts.append(element("text", self.y_label, x=4, y=above, class_="axis-name"))
        return join(*parts)

    def rules(self, values: Mapping[str, float]) -> Markup:
        """A dashed line across at each value inside the frame, with its name at the right end above it."""
        area = self.area
        inside = {name: value for name, value in values.items() if self.y.low < value < self.y.high}
        wanted = [self.y(value) - 4 for value in inside.values()]
        parts = []
        for (name, value), at in zip(
            inside.items(), spread_out(wanted, 12, area.top + 8, area.bottom - 2), strict=True
        ):
            parts.append(element("path", d=f"M{area.left:.1f} {self.y(value):.1f}H{area.right:.1f}", class_="rule"))
            parts.append(element("text", name, x=area.right - 2, y=at, text_anchor="end", class_="rule-name"))
        return join(*parts)


def chart(drawn: Markup, width: float, height: float, label: str) -> Markup:
    """An SVG at its own size, so that its letters are as large as drawn; a wide one is scrolled on a narrow screen.

    Args:
        label: what the chart shows, for those who do not see it.
    """
    box = f"0 0 {width:.0f} {height:.0f}"
    svg = element("svg", drawn, viewBox=box, width=width, height=height, role="img", aria_label=label)
    if width <= PHONE_WIDTH:
        return element("div", svg, class_="chart")
    return element("div", svg, class_="chart scrolls", tabindex=0, role="group", aria_label=label)
