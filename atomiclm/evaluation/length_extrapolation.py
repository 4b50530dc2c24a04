"""What becomes of the loss in windows longer than those trained on."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from atomiclm.cli import UserError
from atomiclm.data import CorpusPart
from atomiclm.data.shards import Flags
from atomiclm.evaluation.bits_per_byte import Validation
from atomiclm.evaluation.by_position import PositionSums
from atomiclm.evaluation.protocol import Conditions, EvaluationProtocol, Measured, Subject

BINS_PER_CONTEXT = 8  # of the curves: fine enough to see where the loss turns up, few enough to be smooth


class LengthExtrapolation(EvaluationProtocol):
    """The same validation bytes in windows of several lengths, each end to end from the first token.

    lengths: of the windows, in multiples of the context trained on (T tokens)

    Every length predicts every byte once, so lengths are compared on the same targets:

    bits_per_byte/4x           over all targets, in windows of 4 T
    beyond_bits_per_byte/4x    over those targets that stand at positions of at least T in all windows longer than T:
                               with 1x, 2x, 4x, 8x every second block of T tokens. At 1x it is what windows of T
                               make of the same targets, so the difference to it is what the longer context did

    The mean over a long window hides a loss that turns up behind T; the curve of each length has it by position, in
    bins of T / 8. With documents apart, positions count within documents, and only long ones reach beyond T.

    A length that the model cannot read (learned positions) is left out and noted. Press et al. 2021, arXiv 2108.12409,
    evaluate in windows end to end ("nonoverlapping") as well; the shared targets are our own.
    """

    name = "length_extrapolation"
    counts_tokens = True  # which targets are beyond T depends on the tokenizer
    independent_of = "context_length"  # the model's own: no window is of that

    def __init__(self, lengths: Sequence[int] = (1, 2, 4, 8)) -> None:
        if not lengths or min(lengths) < 1:
            raise ValueError(
                f"lengths: {[*lengths]} are not multiples of the context; give some of at least 1, as 1,2,4,8"
            )
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
