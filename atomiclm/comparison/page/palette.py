"""How an arm looks: a colour, a dash and a marker, so that neither colour nor one way of seeing it is needed.

The baseline is drawn in ink. The others take six hues after Okabe and Ito (2008, "Color Universal Design"), shifted
until each has a contrast of 3:1 with its background, then the same hues again with another dash and another marker.
"""

import math
from dataclasses import dataclass
from typing import Literal

from atomiclm.comparison.page.markup import Markup, element, join

LIGHT_BACKGROUND, DARK_BACKGROUND = "#ffffff", "#15181d"
LIGHT_HUES = ("#1c1f24", "#0072b2", "#d55e00", "#00916a", "#a8408f", "#3d9ad6", "#7d4300")
DARK_HUES = ("#f0f2f5", "#2f86dd", "#ff7f2a", "#2bbf93", "#e07cc9", "#8fd6ff", "#b39256")
"""The first is ink."""
HUES = len(LIGHT_HUES) - 1
DASHES = (None, "7 3", "2 2.5", "9 3 2 3")
"""Lengths in pixels of line and gap, by turns; None is a line without gaps."""
SHAPES = ("square", "triangle", "diamond", "wedge", "star", "bar")
Filling = Literal["full", "hollow", "pale"]
FILLINGS: tuple[Filling, ...] = ("full", "hollow", "pale")


@dataclass(frozen=True)
class Look:
    """Hue (0 is ink), dash and marker of one arm."""

    hue: int
    dash: str | None
    shape: str
    filling: Filling

    @classmethod
    def of(cls, position: int) -> "Look":
        """The look of the arm at `position`, of which 0 is the baseline; the first 25 all differ.

        They differ in hue and dash, which lines have, and in hue, shape and filling, which markers have.
        """
        if position == 0:
            return cls(0, None, "circle", "full")
        turn, hue = divmod(position - 1, HUES)
        shape = SHAPES[(hue + turn // len(FILLINGS)) % len(SHAPES)]
        return cls(hue + 1, DASHES[turn % len(DASHES)], shape, FILLINGS[turn % len(FILLINGS)])

    @property
    def name(self) -> str:
        """CSS class that sets `--arm`, the colour in the scheme that is on."""
        return f"hue{self.hue}"


def marker(look: Look, x: float, y: float, radius: float = 4.0) -> Markup:
    """The arm's marker about (x, y); all shapes have about the same area."""
    return element("path", d=shape_path(look.shape, x, y, radius), class_=f"marker {look.filling}")


def shape_path(shape: str, x: float, y: float, radius: float) -> str:
    """Outline of a shape about (x, y)."""
    if shape == "circle":
        half = f"a{radius:.1f} {radius:.1f} 0 1 0"
        return f"M{x - radius:.1f} {y:.1f}{half} {2 * radius:.1f} 0{half} {-2 * radius:.1f} 0Z"
    side, tall = 0.886 * radius, 1.25 * radius
    width = tall * math.sqrt(3) / 2
    waist, long, flat = 0.45 * radius, 1.5 * radius, 0.5 * radius
    points = {
        "square": [(-side, -side), (side, -side), (side, side), (-side, side)],
        "triangle": [(0, -tall), (width, tall / 2), (-width, tall / 2)],
        "diamond": [(0, -tall), (tall, 0), (0, tall), (-tall, 0)],
        "wedge": [(0, tall), (width, -tall / 2), (-width, -tall / 2)],
        "bar": [(-long, -flat), (long, -flat), (long, flat), (-long, flat)],
        "star": [
            (0, -long), (waist, -waist), (long, 0), (waist, waist),
            (0, long), (-waist, waist), (-long, 0), (-waist, -waist),
        ],
    }[shape]  # fmt: skip
    return "M" + "L".join(f"{x + dx:.1f} {y + dy:.1f}" for dx, dy in points) + "Z"


def swatch(look: Look) -> Markup:
    """A short line with the arm's marker, for legends and tables."""
    line = element("path", d="M1 7H29", stroke="var(--arm)", stroke_width=2, stroke_dasharray=look.dash, fill="none")
    return element(
        "svg",
        join(line, marker(look, 15, 7, 3.4)),
        class_=f"swatch {look.name}",
        width=30,
        height=14,
        viewBox="0 0 30 14",
        aria_hidden="true",
    )


def hue_css() -> str:
    """Rules that give every hue its colour in light and dark."""
    pairs = zip(LIGHT_HUES, DARK_HUES, strict=True)
    return "".join(
        f".hue{index} {{ --arm: light-dark({light}, {dark}); }}\n" for index, (light, dark) in enumerate(pairs)
    )
