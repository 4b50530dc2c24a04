"""From numbers to pixels: linear and logarithmic scales, round ticks, and how ticks are written."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from atomiclm.tracking.wording import short_number

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Scale:
    """A straight map of [low, high] to pixels [start, end], of the logarithms if `log`.

    Raises:
        ValueError: an empty domain, or one that a logarithm does not have.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a scale from {self.low} to {self.high} is empty")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale cannot begin at {self.low}")

    def __call__(self, value: float) -> float:
        """Pixel of `value`."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values inside the domain, about `count` of them."""
        return log_ticks(self.low, self.high, count) if self.log else linear_ticks(self.low, self.high, count)


def domain(values: Iterable[float], pad: float = 0.06, log: bool = False) -> tuple[float, float]:
    """The least interval that holds all finite `values`, widened by the fraction `pad` on both sides.

    One single value gets a little room; no value at all, [0, 1] ([1, 10] if `log`).
    """
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    if not finite:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = min(finite), max(finite)
    if log:
        room = max(pad * math.log(high / low), 0.05)
        return low * math.exp(-room), high * math.exp(room)
    # A spread below what floats resolve would leave no room for ticks.
    room = max(pad * (high - low), 1e-6 * max(abs(low), abs(high))) if high > low else 0.05 * abs(low) or 1.0
    return low - room, high + room


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Multiples in [low, high] of 1, 2 or 5 times a power of ten: of the step that makes nearest to `count` of them."""
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda size: abs(math.log(size / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Powers of ten in [low, high], and as many of their multiples as it takes to have three ticks."""
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5), tuple(range(1, 10))):
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [factor * 10.0**exponent for exponent in exponents for factor in factors]
        inside = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / (count + 1))]
    return linear_ticks(low, high, count)  # less than a factor of about 2: as good as straight


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """The ticks in words, all with the decimals that tell neighbours apart; thousands and up with a unit."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    if largest >= 10_000 or (ticks and largest < 1e-3):
        brief = [_short(tick) for tick in ticks]
        if len(set(brief)) == len(brief):  # three digits do not tell 50,850 from 50,855
            return brief
    steps = [abs(later - earlier) for earlier, later in pairwise(ticks)]
    decimals = max((decimals_of(step) for step in steps), default=decimals_of(largest))
    return [number(tick, decimals) for tick in ticks]


def decimals_of(step: float) -> int:
    """Decimals that write `step` exactly enough: 0 for 20, 1 for 0.5, 2 for 0.02."""
    for decimals in range(9):
        if step and abs(round(step, decimals) - step) < 1e-6 * abs(step):
            return decimals
    return 0 if not step else 9


def number(value: float, decimals: int, signed: bool = False) -> str:
    """A number for people, with a true minus sign and thousands apart; "-" where there is none."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else ("∞" if value > 0 else f"{MINUS}∞")
    text = f"{abs(value):,.{decimals}f}"
    negative = value < 0 and any(digit in "123456789" for digit in text)
    return (MINUS if negative else "+" if signed else "") + text


def _short(value: float) -> str:
    if value and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", MINUS)
    text = short_number(value)
    head, unit = (text[:-1], text[-1]) if text[-1].isalpha() else (text, "")
    head = head.rstrip("0").rstrip(".") if "." in head else head
    return (head + unit).replace("-", MINUS)
