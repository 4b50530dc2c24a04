"""Names beside the points they belong to, none over another. Vega-Lite places no labels; here they get their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A rectangle, in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        apart_x = self.right <= other.left or other.right <= self.left
        return not (apart_x or self.bottom <= other.top or other.bottom <= self.top)

    def within(self, other: "Box") -> bool:
        inside_x = other.left <= self.left and self.right <= other.right
        return inside_x and other.top <= self.top and self.bottom <= other.bottom


def text_width(text: str, size: float) -> float:
    """About how wide a sans-serif text is: 0.6 of its size a character, all of it for those of East Asia.

    There are no fonts here to ask; the estimate is on the generous side, so that labels keep apart in any font.
    """
    return size * sum(1.0 if ord(character) >= 0x1100 else 0.6 for character in text)


def shortened(text: str, size: float, width: float) -> str:
    """`text`, cut in the middle if it is wider than `width`: names of arms differ at either end."""
    kept, cut = len(text), text
    while text_width(cut, size) > width and kept > 2:
        kept -= 1
        head = (kept + 1) // 2
        cut = f"{text[:head]}…{text[len(text) - (kept - head) :]}"
    return cut


def place(
    names: Sequence[str],
    points: Sequence[tuple[float, float]],
    area: Box,
    obstacles: Sequence[tuple[float, float]] = (),
    size: float = 11.0,
    clearance: float = 6.0,
) -> list[tuple[int, Box]]:
    """Find room for each name near its point, the first names first; one for which there is none is left out.

    Greedy: positions around the point, near ones before far ones, and the first that is inside `area` and over no
    label, no point and no obstacle (another point) is taken.

    Returns:
        The index of each name that found room, and its box.
    """
    taken = [Box(x - clearance, y - clearance, x + clearance, y + clearance) for x, y in (*points, *obstacles)]
    placed = []
    for index, (name, (x, y)) in enumerate(zip(names, points, strict=True)):
        for box in _candidates(x, y, text_width(name, size), 1.25 * size, clearance):
            if box.within(area) and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                placed.append((index, box))
                break
    return placed


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions as near to the `wanted` as can be with at least `gap` between neighbours, inside [low, high].

    The order is kept. Where all together have no room, the gap shrinks to what there is.
    """
    if not wanted:
        return []
    gap = min(gap, (high - low) / max(1, len(wanted) - 1)) if len(wanted) > 1 else gap
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    # Blocks of labels that touch move as one, to the mean of what their members want: the least-squares answer.
    blocks: list[tuple[float, int]] = []  # sum of (wanted - rank * gap) over the members, their number
    for rank, index in enumerate(order):
        blocks.append((wanted[index] - rank * gap, 1))
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            (first, few), (second, more) = blocks[-2], blocks.pop()
            blocks[-1] = (first + second, few + more)
    bases = [total / members for total, members in blocks for _ in range(members)]
    found = [0.0] * len(wanted)
    for rank, (index, base) in enumerate(zip(order, bases, strict=True)):
        found[index] = min(max(base, low), high - (len(wanted) - 1) * gap) + rank * gap
    return found


def _candidates(x: float, y: float, width: float, height: float, clearance: float) -> list[Box]:
    boxes = []
    for distance in (clearance + 1, 2.2 * clearance, 4 * clearance, 6.5 * clearance, 9 * clearance):
        half = height / 2
        lefts_and_tops = [
            (x + distance, y - half),
            (x - distance - width, y - half),
            (x - width / 2, y - distance - height),
            (x - width / 2, y + distance),
            (x + 0.7 * distance, y - 0.7 * distance - height),
            (x + 0.7 * distance, y + 0.7 * distance),
            (x - 0.7 * distance - width, y - 0.7 * distance - height),
            (x - 0.7 * distance - width, y + 0.7 * distance),
        ]
        boxes += [Box(left, top, left + width, top + height) for left, top in lefts_and_tops]
    return boxes
