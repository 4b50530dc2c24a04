"""Sampling order: what part of the token stream is the i-th training sample.

An order is a pure function of (seed, index). Nothing is drawn from a generator with a state, so a resumed run, a run
with another batch size and a run on several machines see the same samples in the same sequence.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atomiclm.cli import UserError
from atomiclm.data.batches import Batch, Dataset, Flags, Tokens, document_ids
from atomiclm.data.permutation import NUM_ROUNDS, derived_uint64, permuted
from atomiclm.data.shards import TokenShard

_MOST_REPEATED = 2**20


@dataclass(eq=False)
class Order(ABC):
    """Base of the sampling orders. seed: which of the equally likely orders."""

    seed: int

    @abstractmethod
    def dataset(
        self, shard: TokenShard, context_length: int, *, separate_documents: bool, answers_only: bool
    ) -> Dataset:
        """The samples of `shard` in this order.

        separate_documents: attention and positions stay within documents
        answers_only: only answers count as targets; the shard must know them
        """


class WindowOrder(Order):
    """Base of the orders whose samples are windows of the stream, wherever documents begin and end."""

    def dataset(
        self, shard: TokenShard, context_length: int, *, separate_documents: bool, answers_only: bool
    ) -> Dataset:
        return TextDataset(
            shard.tokens,
            context_length,
            self,
            separator=shard.separator if separate_documents else None,
            counted=shard.answers if answers_only else None,
        )

    @abstractmethod
    def starts(self, first_index: int, count: int, num_tokens: int, context_length: int) -> npt.NDArray[np.int64]:
        """(count,) positions where samples first_index, first_index + 1, ... begin in a stream of num_tokens.

        A sample is context_length inputs and as many targets, one further on: context_length + 1 tokens.
        Raises ValueError when the stream is shorter than that.
        """


class ShuffledWindows(WindowOrder):
    """Without replacement: an epoch visits non-overlapping windows, each exactly once, in a new order every epoch.

    With T = context_length and N = num_tokens, an epoch has W = max(1, floor((N - 1) / T) - 1) windows, one fewer than
    would fit, laid end to end from an offset drawn anew each epoch from 0 .. N - 1 - W T. So the borders of the windows
    move from epoch to epoch, and less than 2 T tokens of the stream's ends are left out, other ones each time.
    Memory is O(1) in N: see `permutation.py`.
    """

    def windows_per_epoch(self, num_tokens: int, context_length: int) -> int:
        """W above."""
        check_stream(num_tokens, context_length)
        return max(1, (num_tokens - 1) // context_length - 1)

    def starts(self, first_index: int, count: int, num_tokens: int, context_length: int) -> npt.NDArray[np.int64]:
        size = self.windows_per_epoch(num_tokens, context_length)
        num_offsets = num_tokens - size * context_length
        indices = np.arange(first_index, first_index + count, dtype=np.int64)
        starts = np.empty(count, dtype=np.int64)
        for epoch in range(first_index // size, (first_index + count - 1) // size + 1):
            here = indices // size == epoch
            draws = derived_uint64(NUM_ROUNDS + 1, "shuffled", self.seed, epoch)
            offset = int(draws[-1] % np.uint64(num_offsets))
            starts[here] = offset + context_length * permuted(indices[here] - epoch * size, size, draws[:-1])
        return starts


class RandomWindows(WindowOrder):
    """With replacement: every sample begins anywhere with equal probability, as in nanoGPT (Karpathy 2022, train.py).

    Sample i takes the i-th 64-bit number of the Philox-4x64 counter generator (Salmon et al., SC 2011) modulo the
    N - T possible starts; the bias of the modulo is below (N - T) / 2^64.
    """

    def starts(self, first_index: int, count: int, num_tokens: int, context_length: int) -> npt.NDArray[np.int64]:
        check_stream(num_tokens, context_length)
        block, skipped = divmod(first_index, 4)  # the counter advances once in four numbers
        generator = np.random.Philox(key=derived_uint64(2, "random", self.seed), counter=[block, 0, 0, 0])
        draws = generator.random_raw(skipped + count)[skipped:]
        return (draws % np.uint64(num_tokens - context_length)).astype(np.int64)


@dataclass(eq=False)
class RepeatedWindows(WindowOrder):
    """The same `num_windows` windows again and again: a model that cannot learn them by heart has a fault.

    Sample i is window i modulo `num_windows`; the windows are the first ones that `RandomWindows` would draw.
    """

    num_windows: int = 4

    def __post_init__(self) -> None:
        if self.num_windows < 1:
            raise ValueError(f"num_windows: {self.num_windows} is not positive; give at least 1")
        if self.num_windows > _MOST_REPEATED:
            raise ValueError(
                f"num_windows: {self.num_windows} is more than {_MOST_REPEATED:,}, which are all drawn for every "
                "batch; give less, or use trainer/order=random"
            )

    def starts(self, first_index: int, count: int, num_tokens: int, context_length: int) -> npt.NDArray[np.int64]:
        windows = RandomWindows(self.seed).starts(0, self.num_windows, num_tokens, context_length)
        return windows[(first_index + np.arange(count)) % self.num_windows]


@dataclass(eq=False)
class TextDataset(Dataset):
    """Training windows of a token stream, in the sequence an order gives.

    tokens: (num_tokens,) ids, memory-mapped or not
    context_length: tokens a sample feeds to the model
    order: which window is the i-th sample
    separator: the token that begins each document, to keep documents apart (`Batch.documents`); None: a window is one
    counted: (num_tokens,) bool, which tokens count as targets (`Batch.mask`); None: all
    """

    tokens: Tokens
    context_length: int
    order: WindowOrder
    separator: int | None = None
    counted: Flags | None = None

    def __post_init__(self) -> None:
        check_stream(len(self.tokens), self.context_length)

    def samples(self, first_index: int, count: int) -> Batch:
        starts = self.order.starts(first_index, count, len(self.tokens), self.context_length)
        positions = starts[:, None] + np.arange(self.context_length + 1)
        windows = self.tokens[positions].astype(np.int64)
        inputs = np.ascontiguousarray(windows[:, :-1])
        return Batch(
            inputs=inputs,
            targets=np.ascontiguousarray(windows[:, 1:]),
            mask=None if self.counted is None else np.asarray(self.counted[positions[:, 1:]]),
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
