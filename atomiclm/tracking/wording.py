"""Figures and texts of others in words, for one line of a terminal."""


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
