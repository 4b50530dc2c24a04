"""What figures are called and how they are written: one table for the terminal, Markdown, the page and the charts."""

import math
import re
from dataclasses import dataclass
from typing import Any

from atomiclm.comparison.results import Arm, Comparison, Contrast, Spread
from atomiclm.config import CACHE_DTYPE
from atomiclm.tracking.console import short_number

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Quantity:
    """One figure of summary.json."""

    heading: str  # in tables of a terminal
    name: str = ""  # where there is room for its unit
    in_table: bool = False  # whether it is a cost that every table of arms shows
    on_page: bool = False  # whether the page's table of costs has it
    is_counted: bool = False  # whether arms can be matched in it, so that a difference to the baseline is worth a line
    is_traded: bool = False  # whether quality is drawn against it
    larger_is_better: bool = False  # of accuracies and speeds


QUANTITIES = {
    "validation/bits_per_byte": Quantity("bits per byte", "validation, bits per byte"),
    "validation/loss": Quantity("loss", "validation loss, nats per token"),
    "validation/accuracy": Quantity("accuracy", "accuracy of answers", larger_is_better=True),
    "train/loss": Quantity("train/loss", "training loss, nats per token"),
    "train/bits_per_byte": Quantity("train/bits_per_byte", "training, bits per byte"),
    "parameters": Quantity("parameters", in_table=True, on_page=True, is_counted=True, is_traded=True),
    "parameters_non_embedding": Quantity("parameters outside embeddings", is_counted=True),
    "flops_per_token": Quantity(
        "FLOPs/token", "training FLOPs per token", in_table=True, on_page=True, is_counted=True
    ),
    "cache_bytes_per_token": Quantity(
        f"cache B/token ({CACHE_DTYPE})", f"cache bytes per token ({CACHE_DTYPE})",
        in_table=True, on_page=True, is_counted=True, is_traded=True,
    ),
    "tokens": Quantity("tokens", "training tokens", on_page=True, is_counted=True),
    "flops": Quantity("training FLOPs", on_page=True, is_counted=True, is_traded=True),
    "seconds": Quantity("seconds", "training seconds", on_page=True, is_counted=True),
    "tokens_per_second": Quantity(
        "tokens/s", "training tokens per second", in_table=True, on_page=True, is_traded=True, larger_is_better=True
    ),
    "decode_tokens_per_second": Quantity(
        "decoded tokens/s", "decoded tokens per second", is_traded=True, larger_is_better=True
    ),
    "peak_memory_bytes": Quantity("peak bytes", "peak memory of training, bytes", on_page=True, is_traded=True),
    "decode/ms_per_token": Quantity("ms/token", "decoding, ms per token of one text", is_traded=True),
}  # fmt: skip
"""In the order of the columns."""

COSTS = [key for key, quantity in QUANTITIES.items() if quantity.in_table]
COUNTED = [key for key, quantity in QUANTITIES.items() if quantity.is_counted]

SIGNS = {
    "better": "+",
    "worse": MINUS,
    "equivalent": "=",
    "inconclusive": "?",
    "diverged": "\N{MULTIPLICATION SIGN}",
    "reproduced": "✓",
    "contradicted": "✗",
    "unresolved": "?",
}
"""Beside every coloured word, so that the colour is never alone."""


def heading(quantity: str) -> str:
    """Of a column; a figure that has no words is called by its own name."""
    return QUANTITIES[quantity].heading if quantity in QUANTITIES else quantity


def name(quantity: str) -> str:
    """The same with its unit and where it was measured."""
    return (QUANTITIES[quantity].name if quantity in QUANTITIES else "") or heading(quantity)


def larger_is_better(metric: str) -> bool:
    """By its name, of a metric that no study declares; also of one source of a mixture ("validation/accuracy/code")."""
    return any(word in metric for word in ("accuracy", "per_second", "utilization"))


def number(value: float, decimals: int, signed: bool = False) -> str:
    """A number for people, with a true minus sign and thousands apart; "-" where there is none."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else ("∞" if value > 0 else f"{MINUS}∞")
    text = f"{abs(value):,.{decimals}f}"
    negative = value < 0 and any(digit in "123456789" for digit in text)
    return (MINUS if negative else "+" if signed else "") + text


def format_spread(spread: Spread) -> str:
    """Mean ± half the interval, to two significant digits of that; a mean alone where there is no interval."""
    if math.isnan(spread.mean):
        return "-"
    if spread.half_width is None:
        return f"{spread.mean:.4f}"
    decimals = decimals_for(spread.half_width)
    half_width = "0" if spread.half_width == 0 else f"{spread.half_width:.{decimals}f}"
    return f"{spread.mean:.{decimals}f} ± {half_width}"


def difference_parts(contrast: Contrast | None) -> tuple[str, str, str]:
    """The difference with its sign and the ends of its interval; "" for what there is not."""
    if contrast is None or math.isnan(contrast.mean):
        return "", "", ""
    if contrast.low is None or contrast.high is None:
        return f"{contrast.mean:+.4f}", "", ""
    decimals = decimals_for((contrast.high - contrast.low) / 2)
    return f"{contrast.mean:+.{decimals}f}", f"{contrast.low:+.{decimals}f}", f"{contrast.high:+.{decimals}f}"


def format_difference(contrast: Contrast | None) -> str:
    """Difference and its interval: "+0.0120 (+0.0041 .. +0.0199)"; "-" where there is none."""
    mean, low, high = difference_parts(contrast)
    return f"{mean} ({low} .. {high})" if low else mean or "-"


def format_p(p: float | None) -> str:
    """Two digits, and no more zeros than anybody reads."""
    if p is None:
        return "-"
    if p < 1e-4:
        return "<0.0001"
    return f"{p:.2g}" if p < 0.095 else f"{p:.2f}"


def format_cost(quantity: str, spread: Spread | None) -> str:
    """A cost by its size; bytes of cache are small whole numbers that people check by hand."""
    if spread is None or math.isnan(spread.mean):
        return "-"
    return f"{spread.mean:,.6g}" if quantity == "cache_bytes_per_token" else short_number(spread.mean)


def format_relative(relative: float) -> str:
    """A relative difference in per cent, signed."""
    return f"{100 * relative:+.1f} %" if abs(relative) >= 0.001 else f"{100 * relative:+.2g} %"


def format_value(value: Any) -> str:
    """A configuration value in a table: a class by its own name, a sha256 by its beginning, a missing key by a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return " ".join(map(format_value, value))
    text = str(value)
    if re.fullmatch("[0-9a-f]{64}", text):
        return text[:12]
    return text.rpartition(".")[2] if text.startswith("atomiclm.") else text


def decimals_for(half_width: float) -> int:
    """Decimals that show a half width to two significant digits, at most 6; 4 where it is none."""
    if half_width == 0 or not math.isfinite(half_width):
        return 4
    return min(6, max(0, 1 - math.floor(math.log10(half_width))))


def verdict_word(arm: Arm) -> str:
    """The verdict without counts ("diverged"); "" for a baseline."""
    return arm.verdict.split(" ")[0]


def confidence(alpha: float) -> str:
    """The share of intervals that hold what they are about."""
    return f"{100 * (1 - alpha):.4g} %"


def confidence_of_differences(comparison: Comparison) -> str:
    """Of intervals of differences, which a sequential study makes wider: its looks share the chance of error."""
    return confidence(min((arm.contrast.alpha for arm in comparison.arms if arm.contrast), default=comparison.alpha))
