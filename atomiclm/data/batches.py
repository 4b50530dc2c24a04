"""Batches: for training a pure function of (seed, step), for validation a full pass in order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atomiclm.data.corpus import PreparedCorpus
from atomiclm.data.order import WindowOrder, check_stream

Tokens = npt.NDArray[np.unsignedinteger[Any]]
Ids = npt.NDArray[np.int64]
Batch = tuple[Ids, Ids]
ValidationBatch = tuple[Ids, Ids, npt.NDArray[np.bool_]]


class TextDataset:
    """Training windows of a token stream, in the sequence an order gives.

    tokens: (num_tokens,) ids, memory-mapped or not
    context_length: tokens a sample feeds to the model
    order: which window is the i-th sample
    """

    def __init__(self, tokens: Tokens, context_length: int, order: WindowOrder) -> None:
        check_stream(len(tokens), context_length)
        self.tokens = tokens
        self.context_length = context_length
        self.order = order

    def batch(self, step: int, batch_size: int) -> Batch:
        """(inputs, targets), each (batch_size, context_length) int64: samples step * batch_size and following.

        Steps count from 0. The samples of step s at batch size 2 B are those of steps 2 s and 2 s + 1 at B.
        """
        starts = self.order.starts(step * batch_size, batch_size, len(self.tokens), self.context_length)
        windows = self.tokens[starts[:, None] + np.arange(self.context_length + 1)].astype(np.int64)
        return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])

    def batches(self, batch_size: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of first_step, first_step + 1, ... without end."""
        step = first_step
        while True:
            yield self.batch(step, batch_size)
            step += 1


def validation_windows(tokens: Tokens, context_length: int, batch_size: int) -> Iterator[ValidationBatch]:
    """A full pass in which every token but the first is a target exactly once.

    Yields (inputs, targets, mask), each (rows, context_length), rows <= batch_size; ids int64, mask bool. Windows lie
    end to end from position 0: token j is predicted from the (j - 1) % context_length + 1 tokens before it. The last
    window is filled up with id 0 where mask is False; a causal model's other predictions do not see the filling.
    """
    num_targets = len(tokens) - 1
    if num_targets < 1:
        raise ValueError(f"the validation split has {len(tokens)} tokens, at least 2 are needed; hold out more text")
    if context_length < 1 or batch_size < 1:
        raise ValueError(f"context_length and batch_size must be at least 1, they are {context_length}, {batch_size}")
    stride = batch_size * context_length
    for first in range(0, num_targets, stride):
        count = min(stride, num_targets - first)
        rows = -(-count // context_length)
        inputs = np.zeros(rows * context_length, dtype=np.int64)
        targets = np.zeros_like(inputs)
        inputs[:count] = tokens[first : first + count]
        targets[:count] = tokens[first + 1 : first + 1 + count]
        mask = np.arange(len(inputs)) < count
        shape = (rows, context_length)
        yield inputs.reshape(shape), targets.reshape(shape), mask.reshape(shape)


@dataclass(frozen=True, eq=False)
class ValidationWindows:
    """`validation_windows` that can be gone through again and knows how many batches it has."""

    tokens: Tokens
    context_length: int
    batch_size: int

    def __iter__(self) -> Iterator[ValidationBatch]:
        return validation_windows(self.tokens, self.context_length, self.batch_size)

    def __len__(self) -> int:
        return -(-(len(self.tokens) - 1) // (self.context_length * self.batch_size))


def create_dataloaders(
    corpus: PreparedCorpus[Any],
    context_length: int,
    batch_size: int,
    order: WindowOrder,
    *,
    validation_batch_size: int | None = None,
    first_step: int = 0,
) -> tuple[Iterator[Batch], ValidationWindows]:
    """(endless training batches from first_step on, one validation pass that can be repeated) of a prepared corpus."""
    train = TextDataset(corpus.train.tokens, context_length, order)
    validation = ValidationWindows(corpus.validation.tokens, context_length, validation_batch_size or batch_size)
    return train.batches(batch_size, first_step), validation
