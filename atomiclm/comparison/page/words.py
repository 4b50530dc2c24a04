"""How quantities and verdicts are called and written on the page."""

import math
from collections.abc import Mapping

from atomiclm.comparison.comparison import Arm, Comparison, Contrast, Spread
from atomiclm.comparison.page.scale import number
from atomiclm.comparison.wording import decimals_for
from atomiclm.config.cost import CACHE_DTYPE
from atomiclm.tracking.wording import short_number

NAMES: Mapping[str, str] = {
    "validation/bits_per_byte": "validation, bits per byte",
    "validation/loss": "validation loss, nats per token",
    "validation/accuracy": "accuracy of answers",
    "train/loss": "training loss, nats per token",
    "train/bits_per_byte": "training, bits per byte",
    "parameters": "parameters",
    "parameters_non_embedding": "parameters without embeddings",
    "flops_per_token": "training FLOPs per token",
    "flops": "training FLOPs",
    "cache_bytes_per_token": f"cache bytes per token ({CACHE_DTYPE})",
    "tokens_per_second": "training tokens per second",
    "decode_tokens_per_second": "decoded tokens per second",
    "tokens": "training tokens",
    "seconds": "training seconds",
    "step": "steps",
}
SIGNS: Mapping[str, str] = {
    "better": "+",
    "worse": "−",  # noqa: RUF001
    "equivalent": "=",
    "inconclusive": "?",
    "diverged": "×",  # noqa: RUF001
    "reproduced": "✓",
    "contradicted": "✗",
    "unresolved": "?",
}
"""Beside every coloured word, so that the colour is never alone."""


def name_of(quantity: str) -> str:
    """What a figure of summary.json is called; one we have no words for by its own name."""
    return NAMES.get(quantity, quantity)


def short_name_of(metric: str) -> str:
    """The same without where it was measured, for headings of tables."""
    return {"validation/bits_per_byte": "bits per byte", "validation/loss": "loss"}.get(metric, metric)


def format_mean(spread: Spread, half_width: bool = True) -> str:
    """Mean ± half-width of its interval, with as many decimals as the half-width deserves."""
    if math.isnan(spread.mean):
        return "-"
    decimals = decimals_for(spread.half_width or 0.0)
    mean = number(spread.mean, decimals)
    if not half_width or spread.half_width is None:
        return mean
    return f"{mean} ± {number(spread.half_width, decimals)}"


def format_difference(contrast: Contrast) -> tuple[str, str]:
    """The difference with its sign, and its interval; "" for one that is not there."""
    if math.isnan(contrast.mean):
        return "", ""
    if contrast.low is None or contrast.high is None:
        return number(contrast.mean, 4, signed=True), ""
    decimals = decimals_for((contrast.high - contrast.low) / 2)
    low, high = number(contrast.low, decimals, signed=True), number(contrast.high, decimals, signed=True)
    return number(contrast.mean, decimals, signed=True), f"{low} to {high}"


def format_cost(quantity: str, spread: Spread | None) -> str:
    """A cost by its size; bytes of cache in full, since they are small whole numbers that people check by hand."""
    if spread is None or math.isnan(spread.mean):
        return "-"
    return f"{spread.mean:,.0f}" if quantity == "cache_bytes_per_token" else short_number(spread.mean)


def verdict_of(arm: Arm) -> str:
    """The verdict in one word, without the counts; "" for a baseline."""
    return arm.verdict.split(" ")[0]


def confidence(comparison: Comparison) -> str:
    """The share of intervals of means that hold what they are about, in per cent."""
    return f"{100 * (1 - comparison.alpha):g} %"


def confidence_of_differences(comparison: Comparison) -> str:
    """The same of intervals of differences, which a sequential study makes wider: its looks share the error."""
    alphas = [arm.contrast.alpha for arm in comparison.arms if arm.contrast is not None]
    return f"{100 * (1 - min(alphas, default=comparison.alpha)):.4g} %"


def metric_of(comparison: Comparison, arm: Arm) -> Spread:
    """The figure that decides, of one arm; without a number where no run reported it."""
    return arm.figures.get(comparison.metric, Spread.of([]))
