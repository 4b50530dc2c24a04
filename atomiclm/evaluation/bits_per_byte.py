"""The headline metric: how many bits the model needs for a byte of the validation text."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from atomiclm.data import Batch
from atomiclm.evaluation.conditions import Conditions
from atomiclm.evaluation.forward import Forward
from atomiclm.evaluation.measuring import EvaluationProtocol, Subject, score
from atomiclm.evaluation.protocol import Described, end_to_end
from atomiclm.evaluation.results import Measured
from atomiclm.model.mode import evaluating


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

    def describe(self, conditions: Conditions) -> Described:
        """As a run's own validation is described, so that the two are one protocol."""
        text = conditions.text()
        return end_to_end(text["validation_sha256"], text["separate_documents"], conditions.recorded())

    def measure(self, subject: Subject, conditions: Conditions) -> Measured:
        """See EvaluationProtocol."""
        return windows_measured(subject, conditions, stride=None)


def windows_measured(subject: Subject, conditions: Conditions, stride: int | None) -> Measured:
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
