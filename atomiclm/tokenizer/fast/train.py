"""The merges of `train_basic`, at the speed of a compiled language: count a stream, then learn from the counts.

How merges are found is explained in `scan.py` and `merge_loop.py`, in this order. This driver owns the
arrays, chooses the threshold and makes room.
"""

from collections.abc import Iterable

import numpy as np

from atomiclm.cli import UserError
from atomiclm.tokenizer.bpe_ops import Pair
from atomiclm.tokenizer.constants import TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.fast.count import PretokenCounter, Words, count, write_words
from atomiclm.tokenizer.fast.merge_loop import FINISHED, NO_ROOM, merge_loop
from atomiclm.tokenizer.fast.scan import BLOCK_BITS, NUM_FIELDS, NUM_MERGES, lay_out, scan, scan_bytes
from atomiclm.tokenizer.fast.split import split
from atomiclm.tokenizer.pretokenize import Block
from atomiclm.tokenizer.train_basic import TieBreak, byte_order, with_byte_values

KERNELS = (split, count, write_words, lay_out, scan_bytes, merge_loop)
"""What training always calls. Others, which only some texts need, are compiled when the first of those comes."""

MAX_POSITIONS = 2**31 - 1
"""A position is an int32."""

LOWER = 8
"""When frequent pairs run out, the threshold is divided by this."""

BYTE_PAIRS = 1 << 16

OCCURRENCES_PER_POSITION = 3
"""Room for a border at each position, and for the two that a merge can put next to each of them."""

BIRTHS_PER_MERGE = 8
"""Room for so many frequent pairs to be born in a merge, on average. It was two to five in English, code and many
languages; more cost another scan."""

BYTES_PER_MERGE = 256
"""The first threshold is not below the corpus's bytes divided by this and by the number of merges, so that few long
pretokens do not mean few frequent pairs."""


def train_stream(
    blocks: Iterable[Block], num_merges: int, tie_break: TieBreak = "bytes"
) -> tuple[list[Pair], dict[str, int]]:
    """Learn up to `num_merges` merges from a stream.

    Returns:
        The merges, and the bytes, pretokens and distinct pretokens of the stream.

    Raises:
        ValueError: the stream, weights included, counts more than 2^63 - 1 bytes.
    """
    counter = PretokenCounter()
    num_pretokens = 0
    for data, ends, weight, _ in blocks:
        counter.add(data, np.asarray(ends, np.int64), weight)
        num_pretokens += len(ends) * weight
    words = counter.words()
    del counter  # its memory is free for training
    trained_on = {"bytes": words.total_bytes, "pretokens": num_pretokens, "distinct_pretokens": len(words)}
    return train_compiled(words, num_merges, tie_break), trained_on


def train_compiled(
    words: Words,
    num_merges: int,
    tie_break: TieBreak = "bytes",
    thresholds: Iterable[int] | None = None,
) -> list[Pair]:
    """Learn up to `num_merges` merges; arguments, tie rule and result are those of `train_basic`.

    The time is proportional to the bytes of the different pretokens plus the number of positions merged, the memory to
    the former: 20 to 30 bytes for each.

    Args:
        words: the different pretokens and their counts.
        num_merges: how many merges to learn.
        tie_break: see `train_basic.py`.
        thresholds: pairs rarer than the first of them are left out until no other is left, then those rarer than the
            next, and so on; then all are taken. They change the time and never the result; None chooses well.

    Raises:
        ValueError: the pretokens are longer than 31 bits can number, or `tie_break` is no rule.
    """
    order = byte_order(tie_break)
    num_merges = min(num_merges, len(words.data))  # more there cannot be
    if num_merges <= 0:
        return []
    trainer = _Trainer(words, num_merges, order)
    lower = iter(_thresholds(words, num_merges) if thresholds is None else thresholds)
    threshold = next(lower, 1)
    trainer.scan(threshold)
    while (outcome := trainer.merge(threshold)) != FINISHED:
        if outcome == NO_ROOM:
            trainer.room *= 2
        elif threshold == 1:
            break
        else:
            threshold = next(lower, 1)
        trainer.scan(threshold)
    return with_byte_values(trainer.merges(), order)


def _thresholds(words: Words, num_merges: int) -> Iterable[int]:
    """What to try, in turn.

    A frequent word becomes a token, so the last merge is about as frequent as the `num_merges`-th word, or more. That
    was low enough, but not much too low, for English, code and many languages, and for 1,000 to 100,000 merges.
    """
    threshold = words.total_bytes // (BYTES_PER_MERGE * num_merges)
    if num_merges < len(words):
        threshold = max(threshold, int(words.counts[num_merges]))
    while threshold > 1:
        yield threshold
        threshold //= LOWER


class _Pairs:
    """What a scan finds, and the pairs born since; see `scan.py`."""

    def __init__(self, room: int, occurrences_room: int) -> None:
        self.keys = np.empty(room, np.uint64)
        self.counts = np.empty(room, np.int64)
        self.starts = np.empty(room + 1, np.int64)
        self.heap = np.empty(2 * room, np.int64)
        self.occurrences = np.empty(occurrences_room, np.int32)


class _Trainer:
    """The arrays between two calls of a kernel."""

    def __init__(self, words: Words, num_merges: int, order: bytes) -> None:
        self._num_merges = num_merges
        self._total_bytes = words.total_bytes
        self._num_positions = len(words.data) + len(words) + 1
        if self._num_positions > MAX_POSITIONS:
            raise UserError(
                f"pretokens: the different pretokens have {len(words.data)} bytes, more than 2^31 positions; "
                f"train on less text, or with a pattern that cuts it shorter"
            )
        self._rows = np.empty(2 * self._num_positions, np.int32)
        lay_out(words.data, words.ends, len(words), order, self._rows)
        last_of_group = np.flatnonzero(np.diff(words.counts, append=0))
        self._group_ends = words.ends[last_of_group] + last_of_group + 2  # one in front, one behind each word
        self._group_counts = words.counts[last_of_group]
        blocks = np.arange(0, self._num_positions, 1 << BLOCK_BITS)
        self._first_groups = np.searchsorted(self._group_ends, blocks, side="right").astype(np.int32)

        num_tokens = TOKENIZER_BASE_LENGTH + num_merges
        self._lengths = np.ones(num_tokens, np.int64)
        self._sums = np.zeros(4 * num_tokens, np.int64)
        self._touched = np.empty(2 * num_tokens, np.int32)
        self._merges = np.empty(2 * num_merges, np.int32)
        self._fields = np.zeros(NUM_FIELDS, np.int64)
        self._pairs: _Pairs | None = None
        self._pairs_room = 0
        self.room = 1  # times the usual room for pairs and occurrences

    def scan(self, threshold: int) -> None:
        """Find the pairs that occur at least `threshold` times."""
        assert threshold >= 1, "a threshold of nothing would merge pairs that no longer occur"
        num_merges = int(self._fields[NUM_MERGES])
        num_tokens = TOKENIZER_BASE_LENGTH + num_merges
        # Room for what a scan can find, for the births of one merge at least, and for those of many. Memory that is not
        # used is not taken: the system gives pages out when they are first written.
        most = min(self._num_positions, BYTE_PAIRS if not num_merges else self._total_bytes // threshold)
        self._pairs_room = most + 2 * len(self._lengths) + self.room * BIRTHS_PER_MERGE * self._num_merges
        self._pairs = None  # the old arrays go before the new ones come
        self._pairs = pairs = _Pairs(self._pairs_room, self.room * OCCURRENCES_PER_POSITION * self._num_positions)
        corpus = [
            self._rows, self._num_positions, self._group_ends, self._group_counts, self._first_groups, threshold,
        ]  # fmt: skip
        found = [pairs.keys, pairs.counts, pairs.starts, pairs.occurrences, pairs.heap, self._fields]
        if not num_merges:
            sums = np.zeros(2 * BYTE_PAIRS, np.int64)
            scan_bytes(*corpus, sums, *found)
            return
        starts = np.empty(num_tokens + 1, np.int64)
        borders = np.empty(self._num_positions, np.int32)
        scan(*corpus, self._sums, *found, self._lengths, num_tokens, starts, borders, self._touched)

    def merge(self, threshold: int) -> int:
        """Merge as far as it goes; returns what `merge_loop` does."""
        pairs = self._pairs
        assert pairs is not None
        return merge_loop(
            self._rows, self._group_ends, self._group_counts, self._first_groups, threshold, self._lengths, self._sums,
            self._touched, pairs.keys, pairs.counts, pairs.starts, self._pairs_room, pairs.occurrences,
            len(pairs.occurrences), pairs.heap, self._merges, self._num_merges, self._fields,
        )  # fmt: skip

    def merges(self) -> list[Pair]:
        """The merges so far, with bytes numbered as in the rows."""
        tokens = self._merges[: 2 * int(self._fields[NUM_MERGES])].tolist()
        return list(zip(tokens[::2], tokens[1::2], strict=True))
