"""Whole documents in rows: as few rows as best-fit packing needs, and no document cut that fits in one."""

from dataclasses import dataclass

import numpy as np

from atomiclm.data.order import NUM_ROUNDS, Batch, Dataset, Order, derived_uint64, permuted, stretches
from atomiclm.data.shards import Flags, Ids, Tokens, TokenShard


def best_fit(lengths: Ids, capacity: int) -> Ids:
    """(len(lengths),) the row of each piece: best-fit decreasing.

    Pieces go in from the longest to the shortest (equally long ones in their order), each into the row with the least
    space left that still holds it, or into a new row. lengths: 1 to capacity each.
    Source: Ding et al. (2024), arXiv 2404.10830, section 3.

    Bits of one integer say which amounts of space some row has left, so that the best fit is its lowest bit at or
    above the length: O(n capacity / 64) with a small constant, in place of a segment tree's O(n log capacity).
    """
    rows = np.empty(len(lengths), dtype=np.int64)
    left: list[list[int]] = [[] for _ in range(capacity + 1)]  # rows by the space they have left
    spaces = 0  # bit s is set when left[s] holds a row
    num_rows = 0
    for piece in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[piece])
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = left[space].pop()
            if not left[space]:
                spaces &= ~(1 << space)
        else:
            space, row = capacity, num_rows
            num_rows += 1
        rows[piece] = row
        space -= length
        if space:
            left[space].append(row)
            spaces |= 1 << space
    return rows


@dataclass(eq=False)
class PackedDataset(Dataset):
    """Training samples that are rows of whole documents, the rows in a new order every epoch.

    tokens: (num_tokens,) ids; every document is one separator followed by its tokens
    context_length: T, tokens of a row
    seed: which of the equally likely orders of rows
    separator: the id that begins each document, and that is the last target of each
    separate_documents: attention and positions stay within documents
    counted: (num_tokens,) bool, which tokens count as targets; None: all. Ends of documents are then no targets

    A document is one input for each of its tokens, its separator among them, and as many targets: the tokens that
    follow, and at the last of them the separator that would begin the next document. One longer than T is cut into
    pieces of T and a rest; a piece's last target is the first token of the next piece. So every token is an input
    exactly once an epoch, and a target exactly once (separators as the ends of documents). Rows are filled by
    `best_fit` whatever the seed and the epoch, pieces in a row are in the order of the stream, and what is left is
    filled up with the separator, where the mask is False.
    """

    tokens: Tokens
    context_length: int
    seed: int
    separator: int
    separate_documents: bool = False
    counted: Flags | None = None

    def __post_init__(self) -> None:
        assert self.tokens[0] == self.separator, "a separator stands before each document"
        starts = np.flatnonzero(self.tokens == self.separator)
        lengths = np.diff(starts, append=len(self.tokens))
        counts = -(-lengths // self.context_length)  # pieces of each document
        cuts = (np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)) * self.context_length
        starts, lengths = np.repeat(starts, counts) + cuts, np.repeat(lengths, counts) - cuts
        lengths = np.minimum(lengths, self.context_length)
        rows = best_fit(lengths, self.context_length)
        by_row = np.lexsort((starts, rows))
        self._starts, self._lengths = starts[by_row], lengths[by_row]
        self._first_piece = np.searchsorted(rows[by_row], np.arange(rows.max() + 2))

    @property
    def rows_per_epoch(self) -> int:
        """Rows that hold the whole corpus once."""
        return len(self._first_piece) - 1

    def facts(self) -> dict[str, float]:
        """`padding_share`: of the positions in an epoch's rows, those that hold no token."""
        padding_share = 1.0 - len(self.tokens) / (self.rows_per_epoch * self.context_length)
        return {"padding_share": padding_share, "rows_per_epoch": self.rows_per_epoch}

    def samples(self, first_index: int, count: int) -> Batch:
        size, rows = self.rows_per_epoch, np.empty(count, dtype=np.int64)
        for epoch, here, numbers in stretches(first_index, count, size):
            rows[here] = permuted(numbers, size, derived_uint64(NUM_ROUNDS, "packed", self.seed, epoch))
        return self.rows(rows)

    def rows(self, rows: Ids) -> Batch:
        """The rows of those numbers (count,), 0 to rows_per_epoch - 1."""
        shape = (len(rows), self.context_length)
        inputs, targets = np.full((2, *shape), self.separator, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.bool_)
        documents = np.full(shape, -1, dtype=np.int64)  # of the filling: a document of its own
        for index, row in enumerate(rows.tolist()):
            column = 0
            for number, piece in enumerate(range(self._first_piece[row], self._first_piece[row + 1])):
                start, length = int(self._starts[piece]), int(self._lengths[piece])
                to, following = slice(column, column + length), slice(start + 1, start + length + 1)
                known = slice(column, column + len(self.tokens[following]))  # one short at the end of the stream
                inputs[index, to] = self.tokens[start : start + length]
                targets[index, known] = self.tokens[following]
                mask[index, to] = self.counted is None
                if self.counted is not None:
                    mask[index, known] = self.counted[following]
                documents[index, to] = number
                column += length
        return Batch(inputs, targets, mask, documents if self.separate_documents else None)


class BestFit(Order):
    """Rows of whole documents, each row once an epoch, in a new order every epoch; see `PackedDataset`.

    Source: Ding et al. (2024), Fewer Truncations Improve Language Modeling, arXiv 2404.10830.
    """

    def dataset(self, shard: TokenShard, context_length: int, separate_documents: bool, answers_only: bool) -> Dataset:
        counted = shard.answers if answers_only else None
        return PackedDataset(shard.tokens, context_length, self.seed, shard.separator, separate_documents, counted)
