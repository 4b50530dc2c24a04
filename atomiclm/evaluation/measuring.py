"""What every protocol is, and what it works on."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from atomiclm.data import Batch
from atomiclm.evaluation.conditions import Conditions
from atomiclm.evaluation.forward import Forward, logits_of
from atomiclm.evaluation.protocol import Described
from atomiclm.evaluation.results import Measured
from atomiclm.model import Decoder, cross_entropy


@dataclass(frozen=True, eq=False)
class Subject:
    """A model to measure. Nothing in here decides a figure but its weights and `Conditions`.

    forward: the model, or what stands for it (compiled, in another precision)
    tokens_per_batch: inputs of one forward pass; windows of any length are put together to about so many, so that long
        ones need no more memory for logits than short ones
    """

    model: Decoder
    forward: Forward
    device: torch.device
    tokens_per_batch: int

    def rows(self, length: int) -> int:
        """Windows of that length in one forward pass."""
        return max(1, self.tokens_per_batch // length)

    def refusal(self, length: int) -> str | None:
        """Why the model cannot read so many tokens; None if it can."""
        limit = self.model.position.max_length
        if limit is None or length <= limit:
            return None
        return f"{type(self.model.position).__name__} has {limit} positions, and {length} tokens are asked for"


class EvaluationProtocol(ABC):
    """One way of looking at a model. Its constructor's arguments are its settings.

    name: in files and on the command line
    revision: of what is measured; to be raised when equal settings come to mean something else
    """

    name: ClassVar[str]
    revision: ClassVar[int] = 1

    def settings(self, conditions: Conditions) -> dict[str, Any]:
        """What is set, with defaults that depend on the conditions worked out (JSON values).

        Raises:
            ValueError: a setting does not fit the conditions.
        """
        return {}

    def describe(self, conditions: Conditions) -> Described:
        """How the figures come about. Protocols that count in tokens add what tokens are."""
        compared = {"revision": self.revision, **self.settings(conditions), **conditions.text()}
        return Described(self.name, compared, conditions.recorded())

    @abstractmethod
    def measure(self, subject: Subject, conditions: Conditions) -> Measured:
        """Look. Dropout is off, the model's mode is restored, and no random number of torch or NumPy is drawn.

        Raises:
            ValueError: the text does not allow it; what the model does not allow is a note in the result.
        """


def with_tokenizer(described: Described) -> Described:
    """The same for figures that count in tokens: they meet only under one tokenizer."""
    recorded = dict(described.recorded)
    return Described(
        described.name, {**described.compared, "tokenizer_sha256": recorded.pop("tokenizer_sha256")}, recorded
    )


@dataclass(frozen=True, eq=False)
class Scored:
    """What each target of a batch cost.

    nats: (batch, time) float32, -log p of the target
    bytes: (batch, time) int64, what the target stands for; 0 where it does not count: special tokens are not text
    """

    nats: Tensor
    bytes: Tensor


def score(forward: Forward, batch: Batch, token_bytes: Tensor, device: torch.device) -> Scored:
    """One forward pass. token_bytes: (vocab_size,) int64 on `device`."""
    targets = torch.from_numpy(batch.targets).to(device)
    target_bytes = token_bytes[targets]
    if batch.mask is not None:
        target_bytes = target_bytes * torch.from_numpy(batch.mask).to(device)
    return Scored(cross_entropy(logits_of(forward, batch, device), targets, reduction="none"), target_bytes)
