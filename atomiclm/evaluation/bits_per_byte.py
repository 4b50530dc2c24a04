"""The headline metric: bits that the model needs for a byte of validation text, in windows end to end or sliding."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from atomiclm.cli import UserError
from atomiclm.evaluation.protocol import Conditions, EvaluationProtocol, Measured, Scored, Subject


@dataclass(frozen=True)
class Validation:
    """One full pass over a validation split. The passes over several add up.

    nats: summed negative log-likelihood of all target tokens that stand for text
    tokens, bytes: how many those are, and how many bytes they stand for
    """

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0

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


def validate(batches: Iterable[Scored]) -> Validation:
    """The sums over all targets that count. Special tokens stand for no bytes, and predicting them is not charged."""
    nats, tokens, num_bytes = 0.0, 0, 0
    for scored in batches:
        is_text = scored.bytes > 0
        # Summed in float64 on the CPU: some devices have none, and the sum is over millions of terms.
        nats += float(scored.nats[is_text].cpu().double().sum())
        tokens += int(is_text.sum())
        num_bytes += int(scored.bytes.sum())
    return Validation(nats, tokens, num_bytes)


class BitsPerByte(EvaluationProtocol):
    """The headline: windows end to end over the whole split, every byte predicted once (`data.ValidationWindows`).

    Of a mixture also the figure of each source, its name behind a slash.
    """

    name = "bits_per_byte"

    def measure(self, subject: Subject, conditions: Conditions) -> Measured:
        stride = self.settings(conditions).get("stride")  # of sliding windows alone
        whole, figures = Validation(), dict[str, float]()
        for part in conditions.parts:
            result = validate(subject.validation(conditions, part, conditions.context_length, stride))
            whole += result
            if part.name:
                figures[f"bits_per_byte/{part.name}"] = result.bits_per_byte
        assert whole.bytes == conditions.validation_bytes, "every byte of the validation split is predicted once"
        return Measured({"loss": whole.loss, "bits_per_byte": whole.bits_per_byte, **figures})


class Sliding(BitsPerByte):
    """Windows that overlap: each begins `stride` tokens after the one before, and what is new in it counts.

    stride: tokens, 1 to the context. Past the first window every token is predicted from at least
        context_length - stride + 1 tokens, where end to end one in context_length is predicted from a single one

    The same bytes are predicted, each once, but the figure is lower than that of `bits_per_byte`, and never to be
    compared with it. It costs context_length / stride passes. Used for perplexities in papers on long contexts: stride
    256 in Peng et al. 2023, arXiv 2309.00071.
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
