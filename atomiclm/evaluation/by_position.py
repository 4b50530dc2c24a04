"""How the loss falls with the tokens seen, in windows as trained on and longer: what an average over windows hides."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from atomiclm.cli import UserError
from atomiclm.data import Batch, CorpusPart
from atomiclm.data.shards import Flags, Ids
from atomiclm.evaluation.bits_per_byte import Validation
from atomiclm.evaluation.protocol import Conditions, EvaluationProtocol, Measured, Scored, Subject

Sums = npt.NDArray[np.float64]
BINS_PER_CONTEXT = 8  # of the curves of longer windows: fine enough to see where the loss turns up


class ByPosition(EvaluationProtocol):
    """Mean loss at each position of the validation windows (end to end, as in training).

    Position p (from 0) is predicted from p + 1 tokens: a token's position is the number of earlier tokens that it can
    see, in its window or, with documents apart, in its document. The mean over positions, weighted by the targets at
    each, is the loss of `bits_per_byte`.

    The curve `position` has all positions: the position, nats per token, bits per byte, and the tokens behind them;
    `binned` has the same in bins that double (0, 1, 2-3, 4-7, ...), for a terminal and for a logarithmic axis.
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


class LengthExtrapolation(EvaluationProtocol):
    """What becomes of the loss in windows longer than those trained on: the same bytes in windows of several lengths.

    lengths: of the windows, in multiples of the context trained on (T tokens)

    Windows lie end to end from the first token, so every length predicts every byte once:

    bits_per_byte/4x           over all targets, in windows of 4 T
    beyond_bits_per_byte/4x    over those targets that stand at positions of at least T in all windows longer than T:
                               with 1x, 2x, 4x, 8x every second block of T tokens. At 1x it is what windows of T
                               make of the same targets, so the difference to it is what the longer context did

    The curve of each length has the loss by position, in bins of T / 8. With documents apart, positions count within
    documents, and only long ones reach beyond T. A length that the model cannot read (learned positions) is left out
    and noted. Press et al. 2021, arXiv 2108.12409, evaluate in windows end to end as well; the shared targets are ours.
    """

    name = "length_extrapolation"
    counts_tokens = True  # which targets are beyond T depends on the tokenizer
    independent_of = "context_length"  # the model's own: no window is of that

    def __init__(self, lengths: Sequence[int] = (1, 2, 4, 8)) -> None:
        if not lengths or min(lengths) < 1:
            rule = "are not multiples of the context; give some of at least 1, as 1,2,4,8"
            raise ValueError(f"lengths: {[*lengths]} {rule}")
        self.lengths = tuple(sorted(set(lengths)))

    def settings(self, conditions: Conditions) -> dict[str, Any]:
        longest = self.lengths[-1] * conditions.trained_length
        for part in conditions.parts:
            available = part.validation.num_tokens - 1
            if available < longest:
                text = f"the validation text of {part.name}" if part.name else "the validation text"
                raise UserError(
                    f"lengths: {self.lengths[-1]} x {conditions.trained_length} tokens are more than the {available} "
                    f"of {text}; give at most {available // conditions.trained_length}, or hold out more text"
                )
        return {"lengths": list(self.lengths), "trained_length": conditions.trained_length}

    def measure(self, subject: Subject, conditions: Conditions) -> Measured:
        self.settings(conditions)
        figures, curves, notes = dict[str, float](), dict[str, dict[str, list[Any]]](), list[str]()
        trained = conditions.trained_length
        shared = [self._beyond_in_all(part, conditions) for part in conditions.parts]
        if self.lengths[-1] > 1 and not any(beyond.any() for beyond in shared):
            notes.append(f"no document reaches beyond {trained} tokens, so nothing is measured there")
        for multiple in self.lengths:
            if refusal := subject.refusal(multiple * trained):
                notes.append(f"{multiple}x: {refusal}")
                continue
            sums, beyond = PositionSums(multiple * trained), Validation()
            for part, wanted in zip(conditions.parts, shared, strict=True):
                first = 0
                for scored in subject.validation(conditions, part, multiple * trained):
                    sums.add(scored)
                    lengths = scored.bytes.cpu().numpy().ravel()  # 0 in the filling of the last window
                    targets = np.arange(first, first + len(lengths))
                    first += len(lengths)
                    counted = wanted[np.minimum(targets, len(wanted) - 1)] & (lengths > 0)
                    nats = math.fsum(scored.nats.cpu().double().numpy().ravel()[counted])
                    beyond += Validation(nats, int(counted.sum()), int(lengths[counted].sum()))
            total = sums.total()
            figures |= {f"bits_per_byte/{multiple}x": total.bits_per_byte, f"loss/{multiple}x": total.loss}
            if beyond.tokens:
                figures[f"beyond_bits_per_byte/{multiple}x"] = beyond.bits_per_byte
                figures[f"beyond_loss/{multiple}x"] = beyond.loss
            bins = {step * trained // BINS_PER_CONTEXT for step in range(multiple * BINS_PER_CONTEXT)}
            curves[f"{multiple}x"] = sums.curve(sorted(bins))
        return Measured(figures, curves, notes)

    def _beyond_in_all(self, part: CorpusPart, conditions: Conditions) -> Flags:
        """(num_tokens - 1,) bool: targets at positions of at least T in the windows of every length above 1."""
        targets = np.arange(part.validation.num_tokens - 1)
        document = np.zeros_like(targets)  # where the target's document begins, if that bounds what it sees
        if conditions.separate_documents:
            begins = np.asarray(part.validation.tokens[:-1]) == part.validation.separator
            document = np.maximum.accumulate(np.where(begins, targets, 0))
        beyond: Flags = np.full(targets.shape, self.lengths[-1] > 1)
        for multiple in self.lengths:
            if multiple > 1:
                window = targets - targets % (multiple * conditions.trained_length)
                beyond &= targets - np.maximum(window, document) >= conditions.trained_length
        return beyond


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
