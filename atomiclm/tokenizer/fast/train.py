"""The merges of `train_basic`, compiled: count a stream, then learn from the counts (`scan.py`, `merge_loop.py`)."""

from collections.abc import Iterable
from itertools import batched

import numpy as np

from atomiclm.cli import UserError
from atomiclm.tokenizer.constants import TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.fast.count import PretokenCounter, Words, count, write_words
from atomiclm.tokenizer.fast.merge_loop import FINISHED, NO_ROOM, merge_loop
from atomiclm.tokenizer.fast.scan import BYTE_PAIRS, GROUP_BITS, Corpus, Pairs, Tally, lay_out, scan
from atomiclm.tokenizer.fast.split import CompiledSplitter, split_texts
from atomiclm.tokenizer.pretokenize import Segment, split_stream
from atomiclm.tokenizer.train_basic import Pair, TieBreak, byte_order, with_byte_values

KERNELS = (split_texts, count, write_words, lay_out, scan, merge_loop)
"""What training always calls."""

MAX_POSITIONS = 2**31 - 1  # a position is an int32
LOWER = 8  # when frequent pairs run out, the threshold is divided by this

OCCURRENCES_PER_POSITION = 3
"""Room for a border at each position, and for the two that a merge can put next to each of them."""

BIRTHS_PER_MERGE = 8
"""Room for so many frequent pairs to be born in a merge, on average (it was two to five); more cost another scan."""

BYTES_PER_MERGE = 256
"""The first threshold is not below the corpus's bytes divided by this and by the number of merges."""


def count_stream(parts: Iterable[tuple[int, Iterable[Segment]]], splitter: CompiledSplitter) -> Words:
    """The pretokens of `weighted_segments`."""
    counter = PretokenCounter()
    for weight, some in parts:
        for data, ends, _ in split_stream(some, splitter, together=True):
            counter.add(data, np.asarray(ends, np.int64), weight)
    return counter.words()


def train_compiled(
    words: Words, num_merges: int, tie_break: TieBreak = "bytes", thresholds: Iterable[int] | None = None
) -> list[Pair]:
    """Learn up to `num_merges` merges; arguments, tie rule and result are those of `train_basic`.

    The time is proportional to the bytes of the different pretokens plus the number of positions merged, the memory to
    the former: 20 to 30 bytes for each. Pairs rarer than the first of `thresholds` are left out until no other is left,
    then those rarer than the next, and so on; they change the time and never the result.
    """
    order = byte_order(tie_break)
    num_merges = min(num_merges, len(words.data))  # more there cannot be
    if num_merges <= 0:
        return []
    num_tokens = TOKENIZER_BASE_LENGTH + num_merges
    corpus = _lay_out(words, order, num_tokens)
    tally = Tally(np.zeros(max(4 * num_tokens, 2 * BYTE_PAIRS), np.int64), np.empty(2 * num_tokens, np.int32))
    merges, made = np.empty(2 * num_merges, np.int32), np.zeros(1, np.int64)
    lower = iter(_thresholds(words, num_merges) if thresholds is None else thresholds)
    threshold = next(lower, 1)
    room = 1  # times the usual one
    while True:
        known_tokens = TOKENIZER_BASE_LENGTH + int(made[0])
        # Room for what a scan can find, for the births of one merge at least, and for those of many. Memory that is not
        # used is not taken: the system gives pages out when they are first written.
        most = min(corpus.num_positions, words.total_bytes // threshold if made[0] else BYTE_PAIRS)
        pairs_room = most + 2 * num_tokens + room * BIRTHS_PER_MERGE * num_merges
        occurrences_room = room * OCCURRENCES_PER_POSITION * corpus.num_positions
        pairs = Pairs(
            keys=np.empty(pairs_room, np.uint64),
            counts=np.empty(pairs_room, np.int64),
            starts=np.empty(pairs_room + 1, np.int64),
            room=pairs_room,
            occurrences=np.empty(occurrences_room, np.int32),
            occurrences_room=occurrences_room,
        )
        ends, borders = np.empty(known_tokens + 1, np.int64), np.empty(corpus.num_positions, np.int32)
        num_pairs = scan(corpus, threshold, known_tokens, tally, pairs, ends, borders)
        del borders
        heap = np.empty(2 * pairs_room, np.int64)
        outcome = merge_loop(corpus, threshold, tally, pairs, num_pairs, heap, merges, num_merges, made)
        del pairs, heap  # the old arrays go before the new ones come
        if outcome == FINISHED or (outcome != NO_ROOM and threshold == 1):
            break
        if outcome == NO_ROOM:
            room *= 2
        else:
            threshold = next(lower, 1)
    return with_byte_values(list(batched(merges[: 2 * int(made[0])].tolist(), 2)), order)


def _lay_out(words: Words, order: bytes, num_tokens: int) -> Corpus:
    """The words in rows, with bytes numbered by `order`."""
    num_positions = len(words.data) + len(words) + 1
    if num_positions > MAX_POSITIONS:
        raise UserError(
            f"pretokens: the different pretokens have {len(words.data)} bytes, more than 2^31 positions; "
            f"train on less text, or with a pattern that cuts it shorter"
        )
    rows = np.empty(2 * num_positions, np.int32)
    lay_out(words.data, words.ends, len(words), order, rows)
    last_of_group = np.flatnonzero(np.diff(words.counts, append=0))
    group_ends = words.ends[last_of_group] + last_of_group + 2  # one in front, one behind each word
    first_groups = np.searchsorted(group_ends, np.arange(0, num_positions, 1 << GROUP_BITS), side="right")
    return Corpus(
        rows=rows,
        num_positions=num_positions,
        group_ends=group_ends,
        group_counts=words.counts[last_of_group],
        first_groups=first_groups.astype(np.int32),
        lengths=np.ones(num_tokens, np.int64),
    )


def _thresholds(words: Words, num_merges: int) -> Iterable[int]:
    """What to try, in turn: frequent words become tokens, so the last merge is about as frequent as that many words."""
    threshold = words.total_bytes // (BYTES_PER_MERGE * num_merges)
    if num_merges < len(words):
        threshold = max(threshold, int(words.counts[num_merges]))
    while threshold > 1:
        yield threshold
        threshold //= LOWER
