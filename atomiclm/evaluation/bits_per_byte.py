"""The headline metric: bits that the model needs for a byte of validation text, in windows end to end or sliding."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from atomiclm.cli import UserError
from atomiclm.data import Batch
from atomiclm.evaluation.protocol import Conditions, EvaluationProtocol, Forward, Measured, Subject, score
from atomiclm.model.components import evaluating


@dataclass(frozen=True)
class Validation:
    """One full pass over a validation split. The passes over several add up.

    Attributes:
        nats: summed negative log-likelihood of all target tokens that stand for text.
        tokens: how many those are.
        bytes: how many bytes they stand for.
    """

    nats: float
    tokens: int
    bytes: int

    def __add__(self, other: Self) -> "Validation":
        return Validation(self.nats + other.nats, self.tokens + other.tokens, self.bytes + other.bytes)

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte: nats / (ln 2 * bytes). Comparable across tokenizers, unlike the loss."""
        return self.nats / (math.log(2) * self.bytes)


def validate(
    model: nn.Module, forward: Forward, windows: Iterable[Batch], token_bytes: Sequence[int], device: torch.device
) -> Validation:
    """Return the sums over all targets of `windows` that count (`Batch.mask`).

    Special tokens are not text: they stand for no bytes, and predicting them is not charged. Dropout is off during the
    pass, the model's mode is restored after it, and no random number is drawn.
    """
    lengths = torch.tensor(list(token_bytes), device=device)
    nats, tokens, num_bytes = 0.0, 0, 0
    with evaluating(model):
        for batch in windows:
            scored = score(forward, batch, lengths, device)
            is_text = scored.bytes > 0
            # Summed in float64 on the CPU: some devices have none, and the sum is over millions of terms.
            nats += float(scored.nats[is_text].cpu().double().sum())
            tokens += int(is_text.sum())
            num_bytes += int(scored.bytes.sum())
    return Validation(nats, tokens, num_bytes)


class BitsPerByte(EvaluationProtocol):
    """The headline: windows end to end over the whole split, every byte predicted once (`data.validation`).

    Of a mixture also the figure of each source, its name behind a slash.
    """

    name = "bits_per_byte"

    def measure(self, subject: Subject, conditions: Conditions) -> Measured:
        return _windows_measured(subject, conditions, stride=None)


class Sliding(EvaluationProtocol):
    """Windows that overlap: each begins `stride` tokens after the one before, and what is new in it counts.

    stride: tokens, 1 to the context. Past the first window every token is predicted from at least
        context_length - stride + 1 tokens, where end to end one in context_length is predicted from a single one

    The same bytes are predicted, each once, so it is bits per byte; but a lower figure than that of `bits_per_byte`,
    and never to be compared with it. It costs context_length / stride passes. A stride of context_length is end to end.

    The custom of perplexities in papers on long contexts: stride 256 in Peng et al. 2023, arXiv 2309.00071.
    """

    name = "sliding"

    def __init__(self, stride: int = 64) -> None:
        if stride < 1:
            raise ValueError(f"stride: {stride} is not positive; give at least 1 token")
        self.stride = stride

    def settings(self, conditions: Conditions) -> dict[str, Any]:
        if self.stride > conditions.context_length:
            raise UserError(
                f"stride: {self.stride} is more than the context of {conditions.context_length} tokens, so tokens "
                f"would be left out; give at most {conditions.context_length}"
            )
        return {"stride": self.stride}

    def measure(self, subject: Subject, conditions: Conditions) -> Measured:
        return _windows_measured(subject, conditions, self.settings(conditions)["stride"])


def _windows_measured(subject: Subject, conditions: Conditions, stride: int | None) -> Measured:
    """`loss` and `bits_per_byte` of a full pass with windows that far apart (None: end to end)."""
    whole, figures = Validation(0.0, 0, 0), dict[str, float]()
    length, token_bytes = conditions.context_length, conditions.corpus.tokenizer.token_bytes()
    for part in conditions.parts:
        windows = conditions.windows(part, length, subject.rows(length), stride)
        result = validate(subject.model, subject.forward, windows, token_bytes, subject.device)
        whole += result
        if part.name:
            figures[f"bits_per_byte/{part.name}"] = result.bits_per_byte
    assert whole.bytes == conditions.validation_bytes, "every byte of the validation split is predicted once"
    return Measured({"loss": whole.loss, "bits_per_byte": whole.bits_per_byte, **figures})
