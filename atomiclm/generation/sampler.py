"""Choosing the next token from its scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atomiclm.cli import UserError


@dataclass(frozen=True)
class Sampler:
    """Draws one token a row from ``softmax(filters(logits / temperature))``.

    temperature   0 takes the highest score (the lowest id among equals) and draws nothing; 1 leaves scores as they are
    top_k         number of tokens to keep, None keeps all
    top_p         probability to keep, in (0, 1], None keeps all
    min_p         least probability relative to the likeliest token, in [0, 1], None keeps all

    Filters are applied in this order, each to what the one before left, as in Hugging Face transformers. Rows are drawn
    in float64 where the scores are (on the CPU for MPS, which has no float64), each by one uniform number of its own
    generator: the global random state is not touched, and device and batch decide nothing but the rounding of the
    scores.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature={self.temperature} must be 0 (greedy) or a positive number")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} must be at least 1 token; None keeps all")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} must be above 0 and at most 1; 1 or None keeps all")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p={self.min_p} must be between 0 and 1; 0 or None keeps all")

    def __call__(self, logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Scores (batch, vocab_size) and a CPU generator for each row: token ids (batch,) int64.

        Raises UserError when the highest score of a row is not finite: NaN, or infinite.
        """
        highest, likeliest = logits.max(-1)
        if not highest.isfinite().all():
            raise UserError(
                "the model's scores are not finite (NaN or infinite): it has diverged, or its weights are damaged"
            )
        if self.temperature == 0:
            return likeliest
        device = "cpu" if logits.device.type == "mps" else logits.device
        cumulative = self.probabilities(logits.detach().to(device, torch.float64)).cumsum(-1)
        uniform = torch.stack([torch.rand(1, dtype=torch.float64, generator=generator) for generator in generators])
        # right=True finds the first id whose cumulative probability exceeds the number: an id of probability 0 never.
        return torch.searchsorted(cumulative, uniform.to(device) * cumulative[:, -1:], right=True).squeeze(-1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """The probability (batch, vocab_size) with which each token is drawn from scores (batch, vocab_size)."""
        if self.temperature == 0:
            return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
        return self.filter(logits).softmax(-1)

    def filter(self, logits: Tensor) -> Tensor:
        """Scores (batch, vocab_size) divided by a positive temperature, with -inf at the tokens that are not kept."""
        # Less the highest of their row, which changes no probability, no temperature is too small to divide by.
        logits = (logits - logits.amax(-1, keepdim=True)) / self.temperature
        if self.top_k is not None:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = keep_top_p(logits, self.top_p)
        if self.min_p is not None:
            logits = keep_min_p(logits, self.min_p)
        return logits


# ---------------------------------------------------------------------------------------------------------------------
# Filters: logits (batch, vocab_size) in, the same with unlikely tokens at -inf out.


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Keep the ``top_k`` highest scores of each row, and any that tie with the last of them.

    Source: Fan, Lewis, Dauphin 2018, arXiv 1805.04833, section 5.4.
    """
    lowest_kept = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < lowest_kept, -torch.inf)


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of most likely tokens whose probabilities reach ``top_p`` together.

    The token that crosses the line is kept, so there is always one; among equals the lower id comes first.
    Source: Holtzman et al. 2019, arXiv 1904.09751, section 3.1 (nucleus sampling).
    """
    ordered, ids = logits.sort(dim=-1, descending=True, stable=True)
    # Summed from the least likely, as a sum from the likeliest rounds to 1 long before the end, and top_p=1 keeps all.
    rest = ordered.softmax(-1).flip(-1).cumsum(-1).flip(-1)
    beyond = rest <= 1 - top_p
    beyond[..., 0] = False
    dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, ids, beyond)
    return logits.masked_fill(dropped, -torch.inf)


def keep_min_p(logits: Tensor, min_p: float) -> Tensor:
    """Keep tokens at least ``min_p`` times as likely as the likeliest one.

    Source: Nguyen et al. 2024, arXiv 2407.01082, section 3.
    """
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < min_p * probabilities.amax(-1, keepdim=True), -torch.inf)
