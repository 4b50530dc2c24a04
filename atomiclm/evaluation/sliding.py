"""Bits per byte with nearly a full context for every token."""

from typing import Any

from atomiclm.evaluation.bits_per_byte import windows_measured
from atomiclm.evaluation.conditions import Conditions
from atomiclm.evaluation.measuring import EvaluationProtocol, Subject
from atomiclm.evaluation.results import Measured
from atomiclm.user_error import UserError


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
        """See EvaluationProtocol."""
        if self.stride > conditions.context_length:
            raise UserError(
                f"stride: {self.stride} is more than the context of {conditions.context_length} tokens, so tokens "
                f"would be left out; give at most {conditions.context_length}"
            )
        return {"stride": self.stride}

    def measure(self, subject: Subject, conditions: Conditions) -> Measured:
        """See EvaluationProtocol."""
        return windows_measured(subject, conditions, self.settings(conditions)["stride"])
