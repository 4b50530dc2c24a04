"""Which tokens step n is trained on: batches, the sampling orders, and the mixing of several sources.

An order is a pure function of (seed, index). Nothing is drawn from a generator with a state, so a resumed run, a run
with another batch size and a run on several machines see the same samples in the same sequence.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atomiclm.cli import UserError
from atomiclm.data.shards import Flags, Ids, PreparedCorpus, Tokens, TokenShard


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of tokens and what should follow each of them.

    inputs: (batch, time) int64
    targets: (batch, time) int64, the token after each input
    mask: (batch, time) bool, True where the target counts; None: all count
    documents: (batch, time) int64, inputs of one row with equal ids may attend to each other, and positions count
        from the first of them; None: each row is one document
    """

    inputs: Ids
    targets: Ids
    mask: Flags | None = None
    documents: Ids | None = None

    def rows(self, index: slice | Ids) -> "Batch":
        """Some of the rows."""
        mask, documents = self.mask, self.documents
        return Batch(
            self.inputs[index],
            self.targets[index],
            None if mask is None else mask[index],
            None if documents is None else documents[index],
        )


class Dataset(ABC):
    """Training samples in a fixed sequence: a pure function of the index, so that resuming needs the step alone.

    context_length: tokens a sample feeds to the model
    """

    context_length: int

    @abstractmethod
    def samples(self, first_index: int, count: int) -> Batch:
        """Samples first_index, first_index + 1, ... (count of them), one a row."""

    def facts(self) -> dict[str, float]:
        """Figures worth reporting of how the corpus was cut into rows; by default none."""
        return {}

    def batch(self, step: int, batch_size: int) -> Batch:
        """Samples step * batch_size and following, steps from 0: step s at 2 B is steps 2 s and 2 s + 1 at B."""
        return self.samples(step * batch_size, batch_size)


@dataclass(eq=False)
class Order(ABC):
    """Base of the sampling orders. seed: which of the equally likely orders."""

    seed: int

    @abstractmethod
    def dataset(self, shard: TokenShard, context_length: int, separate_documents: bool, answers_only: bool) -> Dataset:
        """The samples of `shard` in this order.

        separate_documents: attention and positions stay within documents
        answers_only: only answers count as targets; the shard must know them
        """


def training_batches(
    corpus: PreparedCorpus[Any], context_length: int, order: Order, separate_documents: bool = False
) -> Dataset:
    """Training samples: of one source as `order` says, of several mixed by their weights.

    separate_documents: attention and positions stay within documents (`Batch.documents`)

    Where a source counts answers only, `Batch.mask` says so. Raises ValueError when a source is too short for a row.
    """
    parts = corpus.parts
    datasets = [order.dataset(part.train, context_length, separate_documents, part.answers_only) for part in parts]
    if len(datasets) == 1:
        return datasets[0]
    return MixedDataset(datasets, [part.weight for part in parts], order.seed, [part.name for part in parts])


def stretches(first_index: int, count: int, size: int) -> Iterator[tuple[int, slice, Ids]]:
    """Samples first_index and following, cut at multiples of `size`: (multiple, which of the samples, place in it)."""
    done = 0
    while done < count:
        multiple, skipped = divmod(first_index + done, size)
        taken = min(size - skipped, count - done)
        yield multiple, slice(done, done + taken), np.arange(skipped, skipped + taken)
        done += taken


# ---------------------------------------------------------------------------------------------------------------------
# Windows of the stream, wherever documents begin and end.


class WindowOrder(Order):
    """Base of the orders whose samples are windows of the stream."""

    def dataset(self, shard: TokenShard, context_length: int, separate_documents: bool, answers_only: bool) -> Dataset:
        separator = shard.separator if separate_documents else None
        return TextDataset(shard.tokens, context_length, self, separator, shard.answers if answers_only else None)

    @abstractmethod
    def starts(self, first_index: int, count: int, num_tokens: int, context_length: int) -> Ids:
        """(count,) positions where samples first_index, first_index + 1, ... begin in a stream of num_tokens.

        A sample is context_length inputs and as many targets, one further on: context_length + 1 tokens.
        Raises ValueError when the stream is shorter than that.
        """


class ShuffledWindows(WindowOrder):
    """Without replacement: an epoch visits non-overlapping windows, each exactly once, in a new order every epoch.

    With T = context_length and N = num_tokens, an epoch has W = max(1, floor((N - 1) / T) - 1) windows, one fewer than
    would fit, laid end to end from a new offset each epoch from 0 .. N - 1 - W T: their borders move, and of
    the stream's ends less than 2 T tokens are left out, other ones each time.
    """

    def windows_per_epoch(self, num_tokens: int, context_length: int) -> int:
        """W above."""
        check_stream(num_tokens, context_length)
        return max(1, (num_tokens - 1) // context_length - 1)

    def starts(self, first_index: int, count: int, num_tokens: int, context_length: int) -> Ids:
        size = self.windows_per_epoch(num_tokens, context_length)
        starts = np.empty(count, dtype=np.int64)
        for epoch, here, windows in stretches(first_index, count, size):
            draws = derived_uint64(NUM_ROUNDS + 1, "shuffled", self.seed, epoch)
            offset = int(draws[-1] % np.uint64(num_tokens - size * context_length))
            starts[here] = offset + context_length * permuted(windows, size, draws[:-1])
        return starts


class RandomWindows(WindowOrder):
    """With replacement: every sample begins anywhere with equal probability, as in nanoGPT (Karpathy 2022, train.py).

    Sample i takes the i-th 64-bit number of the Philox-4x64 counter generator (Salmon et al., SC 2011) modulo the
    N - T possible starts; the bias of the modulo is below (N - T) / 2^64.
    """

    def starts(self, first_index: int, count: int, num_tokens: int, context_length: int) -> Ids:
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
        if not 1 <= self.num_windows <= 1 << 20:
            raise ValueError(
                f"num_windows: {self.num_windows} is not between 1 and {1 << 20:,}; give fewer, as all are drawn for "
                "every batch, or take trainer/order=random, which repeats none"
            )

    def starts(self, first_index: int, count: int, num_tokens: int, context_length: int) -> Ids:
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
        inputs, targets = np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])
        mask = None if self.counted is None else np.asarray(self.counted[positions[:, 1:]])
        return Batch(inputs, targets, mask, document_ids(inputs, self.separator))


def document_ids(inputs: Ids, separator: int | None) -> Ids | None:
    """(batch, time) which document of its row each input lies in, counted at the separators; None without one."""
    return None if separator is None else np.cumsum(inputs == separator, axis=1, dtype=np.int64)


def check_stream(num_tokens: int, context_length: int) -> None:
    """Raise ValueError when not even one sample fits."""
    if context_length < 1:
        raise ValueError(f"context_length must be at least 1, it is {context_length}; 256 suits most small models")
    if num_tokens < context_length + 1:
        raise UserError(
            f"context_length={context_length} needs {context_length + 1} tokens, the corpus has {num_tokens}; "
            f"set a context_length of at most {max(1, num_tokens - 1)}, or use a larger corpus"
        )


# ---------------------------------------------------------------------------------------------------------------------
# Several sources.

BLOCK_SAMPLES = 4096
"""Samples that `MixedDataset` deals at a time."""


class MixedDataset(Dataset):
    """Samples of several datasets, interleaved at random in the proportion of their weights.

    datasets: one a source; each is walked through in its own sequence, epoch after epoch, whatever the others do
    weights: shares of the samples, positive; only their ratios count
    seed: which of the equally likely interleavings
    names: of the sources, for `facts`

    Samples are dealt in blocks of B = 4096. With W_s the sum of the weights before source s (of a total of 1), source s
    gets n_s(b) = (floor((b + 1) B W_{s+1}) - floor(b B W_{s+1})) - (floor((b + 1) B W_s) - floor(b B W_s)) samples of
    block b, in an order drawn from (seed, b). So after any number of blocks its count is within 1 of its share, and
    finding sample i costs one block, however large i is.
    """

    def __init__(
        self, datasets: Sequence[Dataset], weights: Sequence[float], seed: int, names: Sequence[str] = ()
    ) -> None:
        shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
        self.datasets = datasets
        self.names = names
        self.seed = seed
        self.context_length = datasets[0].context_length
        self._borders = np.concatenate([[0.0], np.cumsum(shares)[:-1], [1.0]])

    def facts(self) -> dict[str, float]:
        named = zip(self.names, self.datasets, strict=True)
        return {f"{key}/{name}": value for name, dataset in named for key, value in dataset.facts().items()}

    def samples(self, first_index: int, count: int) -> Batch:
        sources, ranks = self.dealt(first_index, count)
        parts = []
        for source, dataset in enumerate(self.datasets):
            rows = np.flatnonzero(sources == source)
            if len(rows):
                parts.append((rows, dataset.samples(int(ranks[rows[0]]), len(rows))))

        def joined(name: str, absent: int | bool) -> Any:
            if all(getattr(batch, name) is None for _, batch in parts):
                return None
            whole = np.full((count, self.context_length), absent)
            for rows, batch in parts:
                if (part := getattr(batch, name)) is not None:
                    whole[rows] = part
            return whole

        # No mask beside a mask means that all targets count.
        return Batch(joined("inputs", 0), joined("targets", 0), joined("mask", True), joined("documents", 0))

    def dealt(self, first_index: int, count: int) -> tuple[Ids, Ids]:
        """(source, rank among that source's samples) of samples first_index and following, (count,) each."""
        sources, ranks = np.empty((2, count), dtype=np.int64)
        for block, here, places in stretches(first_index, count, BLOCK_SAMPLES):
            before, after = (np.floor(edge * BLOCK_SAMPLES * self._borders) for edge in (block, block + 1))
            ends = (after - before).astype(np.int64)  # where in the block, before shuffling, each source ends
            keys = derived_uint64(NUM_ROUNDS, "mixture", self.seed, block)
            dealt = np.searchsorted(ends[1:], permuted(np.arange(BLOCK_SAMPLES), BLOCK_SAMPLES, keys), side="right")
            rank = np.empty(BLOCK_SAMPLES, dtype=np.int64)
            for source in range(len(self.datasets)):
                own = dealt == source
                rank[own] = int(before[source + 1] - before[source]) + np.arange(own.sum())
            sources[here], ranks[here] = dealt[places], rank[places]
        return sources, ranks


# ---------------------------------------------------------------------------------------------------------------------
# A pseudo-random permutation of range(size) that is computed, not stored. A Feistel network permutes the numbers of 2h
# bits; those that fall outside range(size) are sent through again until they fall inside ("cycle walking": Black and
# Rogaway, Ciphers with arbitrary finite domains, CT-RSA 2002), on average less than four times. (Its permutations are
# even, so not each is equally likely; where each number lands is uniform, which is what a sampling order needs.)

NUM_ROUNDS = 8  # 4 are enough in theory (Luby and Rackoff 1988); small domains want more


def derived_uint64(count: int, *parts: int | str) -> npt.NDArray[np.uint64]:
    """(count,) numbers of 64 bits that depend on `parts` alone, whatever the machine and the NumPy version."""
    raw = hashlib.shake_256(repr(parts).encode()).digest(8 * count)
    return np.frombuffer(raw, dtype="<u8").astype(np.uint64)


def permuted(indices: Ids, size: int, keys: npt.NDArray[np.uint64]) -> Ids:
    """The images (count,) of `indices` (count,) under the permutation of range(size) that `keys` (rounds,) pick."""
    assert len(indices) == 0 or (indices.min() >= 0 and indices.max() < size)
    half_bits = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half_bits) - np.uint64(1)

    def feistel(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        left, right = values >> half_bits, values & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right ^ key) & mask)
        return (left << half_bits) | right

    values = feistel(indices.astype(np.uint64))
    outside = np.flatnonzero(values >= size)
    while len(outside):
        values[outside] = feistel(values[outside])
        outside = outside[values[outside] >= size]
    return values.astype(np.int64)


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scatter 64 bits: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, Stafford's variant 13)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
