"""Samples that are windows of the token stream, wherever documents begin and end ("concatenated" packing)."""

from typing import TYPE_CHECKING

import numpy as np

from atomiclm.data.batches import Batch, Dataset, Flags, Tokens, document_ids
from atomiclm.user_error import UserError

if TYPE_CHECKING:
    from atomiclm.data.order import WindowOrder


class TextDataset(Dataset):
    """Training windows of a token stream, in the sequence an order gives.

    tokens: (num_tokens,) ids, memory-mapped or not
    context_length: tokens a sample feeds to the model
    order: which window is the i-th sample
    separator: the token that begins each document, to keep documents apart (`Batch.documents`); None: a window is one
    counted: (num_tokens,) bool, which tokens count as targets (`Batch.mask`); None: all
    """

    def __init__(
        self,
        tokens: Tokens,
        context_length: int,
        order: "WindowOrder",
        separator: int | None = None,
        counted: Flags | None = None,
    ) -> None:
        check_stream(len(tokens), context_length)
        self.tokens = tokens
        self.context_length = context_length
        self.order = order
        self.separator = separator
        self.counted = counted

    def samples(self, first_index: int, count: int) -> Batch:
        """See Dataset."""
        starts = self.order.starts(first_index, count, len(self.tokens), self.context_length)
        places = starts[:, None] + np.arange(self.context_length + 1)
        windows = self.tokens[places].astype(np.int64)
        inputs = np.ascontiguousarray(windows[:, :-1])
        return Batch(
            inputs=inputs,
            targets=np.ascontiguousarray(windows[:, 1:]),
            mask=None if self.counted is None else np.asarray(self.counted[places[:, 1:]]),
            documents=None if self.separator is None else document_ids(inputs, self.separator),
        )


def check_stream(num_tokens: int, context_length: int) -> None:
    """Raise ValueError when not even one sample fits."""
    if context_length < 1:
        raise ValueError(f"context_length must be at least 1, it is {context_length}")
    if num_tokens < context_length + 1:
        raise UserError(
            f"context_length={context_length} needs {context_length + 1} tokens, the corpus has {num_tokens}; "
            f"set a context_length of at most {max(1, num_tokens - 1)}, or use a larger corpus"
        )
