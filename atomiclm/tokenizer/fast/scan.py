"""The corpus as training sees it: all words one behind the other in one array of positions, and the pairs in it.

    position     0  1  2  3  4  5  6  7  8
    token     .  h  e  l  l  o  .  h  i  .      ( . is EMPTY, between two words)

A token of n bytes has n positions and is written in its first and its last, so both neighbours are one step away and
nothing is ever moved. Two neighbours meet at a border, the position where the right one begins. A position is a row of
two int32:

    rows[2 * position]        the token
    rows[2 * position + 1]    at a border: the number of the pair that meets there, or RARE, or OVERLAPPED

Words stand in order of how often they occur, so words of equal count are a group, which has the count of its positions;
`first_groups` says where to begin looking for the group of a position.

A pair gets a number only if it occurs at least `threshold` times, since most are rarer than anything that will ever be
merged. Should frequent pairs run out, the corpus is scanned again with a lower threshold; the merges are the same.

There is no dictionary of pairs. All that are counted at a time share a token (`scan` takes one left token after the
other, a merge makes one new token), so the other token and its side are the pair's slot in an array:

    slot = 2 * neighbour        the pair (neighbour, token)
    slot = 2 * neighbour + 1    the pair (token, neighbour)
"""

from typing import NamedTuple

from atomiclm.tokenizer.fast.kernel import Int32s, Int64s, Kernel, UInt8s, UInt64s, inline, int64, uint64

GROUP_BITS = 6
"""`first_groups` has an entry for every 2^6 positions."""

NUM_BYTES = 256
BYTE_PAIRS = NUM_BYTES * NUM_BYTES

EMPTY = -1
RARE = -1
OVERLAPPED = -2


class Corpus(NamedTuple):
    """The words and their counts."""

    rows: Int32s
    num_positions: int64
    group_ends: Int64s  # where each group of words of equal count ends, in positions
    group_counts: Int64s  # that count
    first_groups: Int32s  # the group of every 64th position
    lengths: Int64s  # of each token, in bytes; those made later included


class Pairs(NamedTuple):
    """The pairs that have a number."""

    keys: UInt64s  # left token << 32 | right token
    counts: Int64s  # how often the pair occurs, weighted by the counts of the words
    starts: Int64s  # where its borders begin in `occurrences`; ascending, they end where the next pair's begin
    room: int64
    occurrences: Int32s
    occurrences_room: int64


class Tally(NamedTuple):
    """The pairs that are being counted."""

    sums: Int64s  # of each slot: the weight and the number of borders; then the pair's number and where its next border
    touched: Int32s  # the slots that are not zero


@Kernel
def lay_out(data: UInt8s, ends: Int64s, num_words: int64, numbers: UInt8s, rows: Int32s) -> int64:
    """Write words, of which word i ends at `ends[i]` in `data`, into rows; `numbers` has the token of each byte."""
    rows[0], rows[1] = EMPTY, RARE
    position = int64(1)
    byte = int64(0)
    for word in range(num_words):
        while byte < ends[word]:
            rows[2 * position], rows[2 * position + 1] = int64(numbers[data[byte]]), RARE
            position += 1
            byte += 1
        rows[2 * position], rows[2 * position + 1] = EMPTY, RARE
        position += 1
    return position


@inline
def group_at(position: int64, group: int64, corpus: Corpus) -> int64:
    """The group of a position, where `group` is that of an earlier one (0 at first)."""
    if position >= corpus.group_ends[group]:
        group = int64(corpus.first_groups[position >> GROUP_BITS])
        while position >= corpus.group_ends[group]:
            group += 1
    return group


@inline
def count_border(slot: int64, weight: int64, tally: Tally, num_touched: int64) -> int64:
    """Count one border of a pair; returns how many slots are touched."""
    if tally.sums[2 * slot + 1] == 0:
        tally.touched[num_touched] = slot
        num_touched += 1
    tally.sums[2 * slot] += weight
    tally.sums[2 * slot + 1] += 1
    return num_touched


@inline
def number_pair(
    left: int64, right: int64, threshold: int64, slot: int64, tally: Tally, pairs: Pairs, num_pairs: int64
) -> int64:
    """Give a counted pair a number if it is frequent enough; returns how many pairs there are then."""
    if tally.sums[2 * slot] < threshold:
        tally.sums[2 * slot] = RARE
        return num_pairs
    start = pairs.starts[num_pairs]
    pairs.keys[num_pairs] = uint64(left) << uint64(32) | uint64(right)
    pairs.counts[num_pairs] = tally.sums[2 * slot]
    pairs.starts[num_pairs + 1] = start + tally.sums[2 * slot + 1]
    tally.sums[2 * slot] = num_pairs
    tally.sums[2 * slot + 1] = start
    return num_pairs + 1


@inline
def note_border(border: int64, slot: int64, tally: Tally, rows: Int32s, occurrences: Int32s) -> int64:
    """Note a border with the pair in `slot`, which has its number by now."""
    pair = tally.sums[2 * slot]
    rows[2 * border + 1] = pair
    if pair != RARE:
        occurrences[tally.sums[2 * slot + 1]] = border
        tally.sums[2 * slot + 1] += 1
    return pair


@inline
def clear(tally: Tally, num_touched: int64) -> int64:
    for index in range(num_touched):
        slot = int64(tally.touched[index])
        tally.sums[2 * slot], tally.sums[2 * slot + 1] = 0, 0
    return num_touched


@inline
def scan_bytes(corpus: Corpus, threshold: int64, tally: Tally, pairs: Pairs) -> int64:
    """`scan` where all tokens are bytes: every pair has a slot, so they are counted all at a time."""
    rows, sums = corpus.rows, tally.sums
    group = int64(0)
    for position in range(2, corpus.num_positions):
        left, right = int64(rows[2 * position - 2]), int64(rows[2 * position])
        if left >= 0 and right >= 0:
            group = group_at(position, group, corpus)
            sums[2 * (left << 8 | right)] += corpus.group_counts[group]
            sums[2 * (left << 8 | right) + 1] += 1
    num_pairs = int64(0)
    for slot in range(BYTE_PAIRS):
        num_pairs = number_pair(slot >> 8, slot & 255, threshold, slot, tally, pairs, num_pairs)
    for position in range(2, corpus.num_positions):
        left, right = int64(rows[2 * position - 2]), int64(rows[2 * position])
        if left >= 0 and right >= 0:
            note_border(position, left << 8 | right, tally, rows, pairs.occurrences)
    for index in range(2 * BYTE_PAIRS):
        sums[index] = 0
    return num_pairs


@inline
def gather_borders(corpus: Corpus, num_tokens: int64, ends: Int64s, borders: Int32s) -> int64:
    """Sort the borders by their left token: those of token t end in `borders` at `ends[t]`, where t + 1's begin."""
    for token in range(num_tokens + 1):
        ends[token] = 0
    for writing in range(2):  # first count, then write
        left = int64(-1)
        position = int64(1)
        while position < corpus.num_positions:
            token = int64(corpus.rows[2 * position])
            if token >= 0 and left >= 0:
                if writing:
                    borders[ends[left]] = position
                    ends[left] += 1
                else:
                    ends[left + 1] += 1
            left = token
            position += corpus.lengths[token] if token >= 0 else 1
        if not writing:
            for token in range(num_tokens):
                ends[token + 1] += ends[token]
    return ends[num_tokens]


@Kernel
def scan(
    corpus: Corpus, threshold: int64, num_tokens: int64, tally: Tally, pairs: Pairs, ends: Int64s, borders: Int32s
) -> int64:
    """Find the pairs that occur at least `threshold` times, write them to `pairs`, and return how many there are.

    `tally` has four zeros for each token, and two for each pair of bytes, which are zeros again afterwards, and room
    for two slots for each token; `ends` has room for `num_tokens` + 1, `borders` for all borders.
    """
    pairs.starts[0] = 0
    if num_tokens == NUM_BYTES:
        return scan_bytes(corpus, threshold, tally, pairs)
    gather_borders(corpus, num_tokens, ends, borders)
    num_pairs = int64(0)
    begin = int64(0)
    for left in range(num_tokens):
        num_touched = int64(0)
        group = int64(0)
        for index in range(begin, ends[left]):
            border = int64(borders[index])
            group = group_at(border, group, corpus)
            slot = 2 * int64(corpus.rows[2 * border]) + 1
            num_touched = count_border(slot, corpus.group_counts[group], tally, num_touched)
        for index in range(num_touched):
            slot = int64(tally.touched[index])
            num_pairs = number_pair(left, slot >> 1, threshold, slot, tally, pairs, num_pairs)
        for index in range(begin, ends[left]):
            border = int64(borders[index])
            slot = 2 * int64(corpus.rows[2 * border]) + 1
            note_border(border, slot, tally, corpus.rows, pairs.occurrences)
        clear(tally, num_touched)
        begin = ends[left]
    return num_pairs
