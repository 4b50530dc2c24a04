"""Validation: one full pass in order, in which every token but the first is a target exactly once.

Windows of context_length lie end to end from the first token of each source, so token j is predicted from the
(j - 1) % context_length + 1 tokens before it; with documents kept apart (`separator`), from those of them that belong
to its own document. The targets are the same either way, so bits per byte stays exact; but the two figures answer
different questions, and are not to be mixed in one comparison.

With a `stride` below context_length the windows overlap: each begins `stride` tokens after the one before, and only the
targets that the one before did not have count. So past the first window every token is predicted from at least
context_length - stride + 1 tokens. That is a protocol of its own, whose figures are lower.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from atomiclm.cli import UserError
from atomiclm.data.order import Batch, document_ids
from atomiclm.data.packing import PackedDataset
from atomiclm.data.shards import CorpusPart, Tokens


@dataclass(frozen=True, eq=False)
class ValidationWindows:
    """A full pass over a stream under the protocol of this module, as often as it is iterated over.

    tokens: (num_tokens,) ids
    context_length: tokens a window feeds to the model
    batch_size: windows of a batch; the last one may have fewer
    separator: the token that begins each document, to keep documents apart; None: a window is one document
    stride: tokens from the start of one window to that of the next, 1 to context_length; None: context_length

    Each batch has a mask: the last window is filled up with id 0, where it is False; a causal model's other predictions
    do not see the filling.
    """

    tokens: Tokens
    context_length: int
    batch_size: int
    separator: int | None = None
    stride: int | None = None

    def __iter__(self) -> Iterator[Batch]:
        tokens, context_length = self.tokens, self.context_length
        stride = context_length if self.stride is None else self.stride
        num_targets = len(tokens) - 1
        if num_targets < 1:
            raise UserError(f"the validation split has {len(tokens)} tokens, at least 2 are needed; hold out more text")
        assert 1 <= stride <= context_length, "with a longer stride tokens would be left out"
        columns = np.arange(context_length)
        num_windows = 1 + -(-max(0, num_targets - context_length) // stride)  # until the last token has been a target
        for first in range(0, num_windows, self.batch_size):
            windows = np.arange(first, min(first + self.batch_size, num_windows))[:, None]
            positions = windows * stride + columns
            in_text = positions < num_targets
            # All of the first window is new; of the others what lies beyond the window before.
            mask = in_text & ((windows == 0) | (columns >= context_length - stride))
            positions = np.minimum(positions, num_targets)
            inputs = np.where(in_text, tokens[positions], 0).astype(np.int64)
            targets = np.where(in_text, tokens[np.minimum(positions + 1, num_targets)], 0).astype(np.int64)
            yield Batch(inputs, targets, mask, document_ids(inputs, self.separator))


def answer_batches(
    part: CorpusPart, context_length: int, batch_size: int, separate_documents: bool = False
) -> Iterator[Batch]:
    """A full pass over the validation documents of a source that knows its answers; the mask marks these.

    Rows are packed with whole documents (`PackedDataset`, in row order): windows end to end would cut documents, and
    ask for answers whose questions they do not show. Only a document longer than a row is cut.
    """
    shard = part.validation
    assert shard.answers is not None, f"{part.name or 'the corpus'} knows no answers"
    packed = PackedDataset(shard.tokens, context_length, 0, shard.separator, separate_documents, shard.answers)
    for first in range(0, packed.rows_per_epoch, batch_size):
        yield packed.rows(np.arange(first, min(first + batch_size, packed.rows_per_epoch)))
