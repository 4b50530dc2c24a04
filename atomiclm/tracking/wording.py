"""Figures and generated texts in words, for one line of a terminal."""

from collections.abc import Mapping
from typing import Any

SAMPLE_LINES = 12
SAMPLE_CHARACTERS = 600
"""A sample is shown up to the first of these two; all of it is in the record."""


def format_sample(prompt: str, text: str) -> str:
    """A generated text for people: indented, its prompt marked, bounded, and unable to steer the terminal."""
    shown = printable(text[:SAMPLE_CHARACTERS])
    lines = shown.split("\n")
    cut = len(text) > SAMPLE_CHARACTERS or len(lines) > SAMPLE_LINES
    body = "\n".join(f"    {line}" for line in lines[:SAMPLE_LINES])
    head = f"  sample after {printable(prompt)!r}:" if prompt else "  sample:"
    return f"{head}\n{body}{' ...' if cut else ''}"


def printable(text: str) -> str:
    """`text` with control characters escaped, newlines and tabs excepted: models do write escape sequences."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else character.encode("unicode_escape").decode()
        for character in text
    )


def short_number(value: float) -> str:
    """Three digits and a unit: 950, 12.3k, 4.50M."""
    for divisor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * divisor:
            return f"{value / divisor:#.3g}".rstrip(".") + unit
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds as 42s, 3:07 or 2:05:09."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minute:02d}:{second:02d}"
    return f"{minutes}:{second:02d}" if minutes else f"{second}s"


def measures(row: Mapping[str, Any], prefix: str) -> list[str]:
    """Loss and bits per byte under a prefix, as far as the row has them."""
    shown = []
    if f"{prefix}/loss" in row:
        shown.append(f"loss {row[f'{prefix}/loss']:.3f}")
    if f"{prefix}/bits_per_byte" in row:
        shown.append(f"{row[f'{prefix}/bits_per_byte']:.3f} bits/byte")
    return shown


def position(row: Mapping[str, Any], budget: Mapping[str, float] | None = None) -> str:
    """How far the run is, against the budget in the budget's own unit."""
    budget = budget or {}
    total = f"/{int(budget['step'])}" if "step" in budget else ""
    shown = f"step {row['step']}{total}"
    if "step" not in budget and "tokens" in budget and "tokens" in row:
        shown += f"  {short_number(row['tokens'])}/{short_number(budget['tokens'])} tokens"
    if "seconds" in budget and "seconds" in row:
        shown += f"  {duration(row['seconds'])}/{duration(budget['seconds'])}"
    return shown
