"""How the loss falls with the tokens seen: what an average over whole windows hides."""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from atomiclm.data import Batch
from atomiclm.data.shards import Ids
from atomiclm.evaluation.bits_per_byte import Validation
from atomiclm.evaluation.protocol import Conditions, EvaluationProtocol, Measured, Scored, Subject

Sums = npt.NDArray[np.float64]


class ByPosition(EvaluationProtocol):
    """Mean loss at each position of the validation windows (end to end, as in training).

    Position p (from 0) is predicted from p + 1 tokens: a token's position is the number of earlier tokens that it can
    see, in its window or, with documents apart, in its document. The mean over positions, weighted by the targets at
    each, is the loss of `bits_per_byte`.

    The curve `position` has all positions: the position, nats per token, bits per byte, and the tokens behind them.
    The curve `binned` has the same in bins that double (0, 1, 2-3, 4-7, ...), for a terminal and for a logarithmic
    axis. Different positions hold different targets, so a few thousand windows are needed before neighbours are smooth.
    """

    name = "by_position"
    counts_tokens = True

    def measure(self, subject: Subject, conditions: Conditions) -> Measured:
        length = conditions.context_length
        sums = PositionSums(length)
        for part in conditions.parts:
            for scored in subject.validation(conditions, part, length):
                sums.add(scored)
        total = sums.total()
        doubling = [0, *(1 << power for power in range((length - 1).bit_length()))]
        return Measured(
            {"bits_per_byte": total.bits_per_byte, "loss": total.loss},
            {"position": sums.curve(range(length)), "binned": sums.curve(doubling)},
        )


class PositionSums:
    """Nats, tokens and bytes of all targets by position, from 0 to `length` - 1."""

    def __init__(self, length: int) -> None:
        self.nats: Sums = np.zeros(length)
        self.tokens: Sums = np.zeros(length)
        self.bytes: Sums = np.zeros(length)

    def add(self, scored: Scored) -> None:
        """Add the targets that stand for text."""
        lengths = scored.bytes.cpu().numpy()
        is_text = lengths > 0
        at, size = positions_of(scored.batch)[is_text], len(self.nats)
        self.nats += np.bincount(at, scored.nats.cpu().double().numpy()[is_text], size)
        self.tokens += np.bincount(at, minlength=size)
        self.bytes += np.bincount(at, lengths[is_text], size)

    def total(self) -> Validation:
        """The sums over all positions."""
        return Validation(math.fsum(self.nats), int(self.tokens.sum()), int(self.bytes.sum()))

    def curve(self, starts: Iterable[int]) -> dict[str, list[Any]]:
        """Columns for bins of positions: each from its start to the next start; bins without targets are left out."""
        columns: dict[str, list[Any]] = {"position": [], "loss": [], "bits_per_byte": [], "tokens": []}
        for start, end in pairwise([*starts, len(self.nats)]):
            tokens = int(self.tokens[start:end].sum())
            if tokens:
                part = Validation(float(self.nats[start:end].sum()), tokens, int(self.bytes[start:end].sum()))
                for name, value in zip(columns, (start, part.loss, part.bits_per_byte, tokens), strict=True):
                    columns[name].append(value)
        return columns


def positions_of(batch: Batch) -> Ids:
    """(batch, time) how many earlier tokens each input can see: in its row, or in its document of that row."""
    columns = np.broadcast_to(np.arange(batch.inputs.shape[1]), batch.inputs.shape)
    if batch.documents is None:
        return columns
    begins = np.diff(batch.documents, axis=1, prepend=-1) != 0
    found: Ids = columns - np.maximum.accumulate(np.where(begins, columns, 0), axis=1)
    return found
