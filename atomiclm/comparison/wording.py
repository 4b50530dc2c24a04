"""Figures, values and costs of a comparison in words."""

import math
from typing import Any

from atomiclm.comparison.comparison import Contrast, Spread
from atomiclm.config.cost import CACHE_DTYPE
from atomiclm.tracking.wording import short_number

HEADINGS = {
    "validation/bits_per_byte": "bits per byte",
    "validation/loss": "loss",
    "validation/accuracy": "accuracy",
    "parameters": "parameters",
    "parameters_non_embedding": "parameters outside embeddings",
    "flops_per_token": "FLOPs/token",
    "cache_bytes_per_token": f"cache B/token ({CACHE_DTYPE})",
    "tokens_per_second": "tokens/s",
    "decode_tokens_per_second": "decoded tokens/s",
    "flops": "training FLOPs",
}


def format_spread(spread: Spread) -> str:
    """Mean ± half the interval, to two significant digits of that; a mean alone where there is no interval."""
    if math.isnan(spread.mean):
        return "-"
    if spread.half_width is None:
        return f"{spread.mean:.4f}"
    decimals = decimals_for(spread.half_width)
    return f"{spread.mean:.{decimals}f} ± {_plain(spread.half_width, decimals)}"


def format_difference(contrast: Contrast | None) -> str:
    """Difference and its interval: "+0.0120 (+0.0041 .. +0.0199)"; "-" where there is none."""
    if contrast is None or math.isnan(contrast.mean):
        return "-"
    if contrast.low is None or contrast.high is None:
        return f"{contrast.mean:+.4f}"
    decimals = decimals_for((contrast.high - contrast.low) / 2)
    return f"{contrast.mean:+.{decimals}f} ({contrast.low:+.{decimals}f} .. {contrast.high:+.{decimals}f})"


def format_p(p: float | None) -> str:
    """Two digits, and no more zeros than anybody reads."""
    if p is None:
        return "-"
    if p < 1e-4:
        return "<0.0001"
    return f"{p:.2g}" if p < 0.095 else f"{p:.2f}"


def format_cost(name: str, mean: float) -> str:
    """A cost by its size; bytes of cache are small whole numbers that people check by hand."""
    if math.isnan(mean):
        return "-"
    return f"{mean:,.6g}" if name == "cache_bytes_per_token" else short_number(mean)


def format_relative(relative: float) -> str:
    """A relative difference in per cent, signed."""
    return f"{100 * relative:+.1f} %" if abs(relative) >= 0.001 else f"{100 * relative:+.2g} %"


def format_value(value: Any) -> str:
    """A configuration value in a table: a class by its own name, nothing for a key the arm does not have."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return " ".join(map(format_value, value))
    text = str(value)
    return text.rpartition(".")[2] if text.startswith("atomiclm.") else text


def decimals_for(half_width: float) -> int:
    """Decimals that show a half width to two significant digits, at most 6; 4 where it is none."""
    if half_width == 0 or not math.isfinite(half_width):
        return 4
    return min(6, max(0, 1 - math.floor(math.log10(half_width))))


def _plain(half_width: float, decimals: int) -> str:
    return "0" if half_width == 0 else f"{half_width:.{decimals}f}"
