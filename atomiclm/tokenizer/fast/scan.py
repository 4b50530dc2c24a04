"""The corpus as training sees it: all words one behind the other in one array of positions.

    position     0  1  2  3  4  5  6  7  8
    token     .  h  e  l  l  o  .  h  i  .      ( . is EMPTY, between two words)

A token of n bytes has n positions and is written in its first and its last, so both neighbours of a token are one step
away and nothing is ever moved. Two neighbours meet at a border, which is the position where the right one begins. A
position is a row of two int32:

    rows[2 * position]        the token
    rows[2 * position + 1]    at a border: the number of the pair that meets there, or RARE, or OVERLAPPED

Words stand in order of how often they occur, so that words of equal count are a group, and the count of a position is
that of its group. Short groups are in front, where few positions are; `first_groups` says where to begin looking.

From these rows come the pairs: which there are, how often each occurs, and where.

A pair gets a number only if it occurs at least `threshold` times. Most different pairs are rarer than anything that
will ever be merged, so this saves most of the memory and some of the time. Should frequent pairs run out, the corpus is
scanned again with a lower threshold; the merges are the same for any sequence of thresholds.

    pair_keys[pair]      left token << 32 | right token
    pair_counts[pair]    how often the pair occurs, weighted by the counts of the words
    pair_starts[pair]    where its borders begin in `occurrences`; ascending, they end where the next pair's begin

There are two scans. `scan_bytes` is for the beginning, when all tokens are bytes and a table of all 65,536 pairs is
small. `scan` is for later: it gathers the borders by their left token, and then has one left token at a time, so an
array indexed by the right token is enough.
"""

from atomiclm.tokenizer.fast.kernel import Kernel, inline
from atomiclm.tokenizer.fast.language import Int32s, Int64s, UInt8s, UInt64s, int64, uint64
from atomiclm.tokenizer.fast.pair_heap import build_heap

BLOCK_BITS = 6
"""`first_groups` has an entry for every 2^6 positions."""

EMPTY = -1
RARE = -1
OVERLAPPED = -2

(
    NUM_MERGES,  # merges made so far
    HEAP_SIZE,  # entries in the heap
    NUM_PAIRS,  # pairs that have a number
    JOINED_END,  # where, in the array of occurrences, those joined in this round end
    NUM_FIELDS,
) = range(5)
"""What the kernels of training and their driver agree on: one block of int64."""


@inline
def group_at(position: int64, group: int64, group_ends: Int64s, first_groups: Int32s) -> int64:
    """The group of a position, where `group` is that of an earlier one (0 at first)."""
    if position >= group_ends[group]:
        group = int64(first_groups[position >> BLOCK_BITS])
        while position >= group_ends[group]:
            group += 1
    return group


@Kernel
def lay_out(data: UInt8s, ends: Int64s, num_words: int64, numbers: UInt8s, rows: Int32s) -> int64:
    """Write words into rows.

    Args:
        data: the bytes of all words.
        ends: where in `data` each word ends.
        num_words: how many there are.
        numbers: the token number of each byte.
        rows: room for all bytes, one EMPTY behind each word and one in front.

    Returns:
        How many positions there are.
    """
    rows[0] = EMPTY
    rows[1] = RARE
    position = int64(1)
    byte = int64(0)
    for word in range(num_words):
        while byte < ends[word]:
            rows[2 * position] = int64(numbers[data[byte]])
            rows[2 * position + 1] = RARE
            position += 1
            byte += 1
        rows[2 * position] = EMPTY
        rows[2 * position + 1] = RARE
        position += 1
    return position


@inline
def number_pair(
    left: int64,
    right: int64,
    sums: Int64s,
    slot: int64,
    pair_keys: UInt64s,
    pair_counts: Int64s,
    pair_starts: Int64s,
    fields: Int64s,
) -> int64:
    """Give the next number to a pair of which `sums[2 * slot]` holds the count and the next one the number of borders.

    In their place come the number of the pair and where its first border is to be written.
    """
    pair = fields[NUM_PAIRS]
    pair_keys[pair] = uint64(left) << uint64(32) | uint64(right)
    pair_counts[pair] = sums[2 * slot]
    start = pair_starts[pair]
    pair_starts[pair + 1] = start + sums[2 * slot + 1]
    sums[2 * slot] = pair
    sums[2 * slot + 1] = start
    fields[NUM_PAIRS] = pair + 1
    return pair


@inline
def file_border(border: int64, sums: Int64s, slot: int64, rows: Int32s, occurrences: Int32s) -> int64:
    """Note a border with the pair that now stands in `sums[2 * slot]`."""
    pair = sums[2 * slot]
    rows[2 * border + 1] = pair
    if pair != RARE:
        occurrences[sums[2 * slot + 1]] = border
        sums[2 * slot + 1] += 1
    return pair


@Kernel
def scan_bytes(
    rows: Int32s,
    num_positions: int64,
    group_ends: Int64s,
    group_counts: Int64s,
    first_groups: Int32s,
    threshold: int64,
    sums: Int64s,
    pair_keys: UInt64s,
    pair_counts: Int64s,
    pair_starts: Int64s,
    occurrences: Int32s,
    heap: Int64s,
    fields: Int64s,
) -> int64:
    """Find the pairs of bytes. `sums` is 2 * 65,536 zeros; the arrays of pairs have room for 65,536."""
    group = int64(0)
    for position in range(2, num_positions):
        left = int64(rows[2 * position - 2])
        right = int64(rows[2 * position])
        if left >= 0 and right >= 0:
            group = group_at(position, group, group_ends, first_groups)
            slot = left << 8 | right
            sums[2 * slot] += group_counts[group]
            sums[2 * slot + 1] += 1
    pair_starts[0] = 0
    fields[NUM_PAIRS] = 0
    for slot in range(65536):
        if sums[2 * slot] >= threshold:
            number_pair(slot >> 8, slot & 255, sums, slot, pair_keys, pair_counts, pair_starts, fields)
        else:
            sums[2 * slot] = RARE
    for position in range(2, num_positions):
        left = int64(rows[2 * position - 2])
        right = int64(rows[2 * position])
        if left >= 0 and right >= 0:
            file_border(position, sums, left << 8 | right, rows, occurrences)
    fields[HEAP_SIZE] = build_heap(heap, fields[NUM_PAIRS], pair_counts, pair_keys)
    return fields[NUM_PAIRS]


@inline
def gather_borders(
    rows: Int32s, num_positions: int64, lengths: Int64s, num_tokens: int64, starts: Int64s, borders: Int32s
) -> int64:
    """Sort the borders by their left token: those of token t end in `borders` at `starts[t]`, where t + 1's begin."""
    for token in range(num_tokens + 1):
        starts[token] = 0
    for writing in range(2):  # first count, then write
        left = int64(-1)
        position = int64(1)
        while position < num_positions:
            token = int64(rows[2 * position])
            if token >= 0 and left >= 0:
                if writing:
                    borders[starts[left]] = position
                    starts[left] += 1
                else:
                    starts[left + 1] += 1
            left = token
            position += lengths[token] if token >= 0 else 1
        if not writing:
            for token in range(num_tokens):
                starts[token + 1] += starts[token]
    return starts[num_tokens]


@Kernel
def scan(
    rows: Int32s,
    num_positions: int64,
    group_ends: Int64s,
    group_counts: Int64s,
    first_groups: Int32s,
    threshold: int64,
    sums: Int64s,
    pair_keys: UInt64s,
    pair_counts: Int64s,
    pair_starts: Int64s,
    occurrences: Int32s,
    heap: Int64s,
    fields: Int64s,
    lengths: Int64s,
    num_tokens: int64,
    starts: Int64s,
    borders: Int32s,
    touched: Int32s,
) -> int64:
    """Find the pairs of any tokens.

    Args:
        rows: the corpus; the same as in `merge_loop`, and so are all arguments not named here.
        num_positions: how many rows there are.
        sums: two zeros for each token; they are zeros again afterwards.
        lengths: of each token, in bytes.
        num_tokens: how many tokens there are.
        starts: room for `num_tokens` + 1.
        borders: room for as many borders as there are.
        touched: room for `num_tokens`.

    Returns:
        The number of pairs.
    """
    gather_borders(rows, num_positions, lengths, num_tokens, starts, borders)
    pair_starts[0] = 0
    fields[NUM_PAIRS] = 0
    begin = int64(0)
    for left in range(num_tokens):
        end = starts[left]
        num_touched = int64(0)
        group = int64(0)
        for index in range(begin, end):
            border = int64(borders[index])
            right = int64(rows[2 * border])
            group = group_at(border, group, group_ends, first_groups)
            if sums[2 * right + 1] == 0:
                touched[num_touched] = right
                num_touched += 1
            sums[2 * right] += group_counts[group]
            sums[2 * right + 1] += 1
        for index in range(num_touched):
            right = int64(touched[index])
            if sums[2 * right] >= threshold:
                number_pair(left, right, sums, right, pair_keys, pair_counts, pair_starts, fields)
            else:
                sums[2 * right] = RARE
        for index in range(begin, end):
            border = int64(borders[index])
            file_border(border, sums, int64(rows[2 * border]), rows, occurrences)
        for index in range(num_touched):
            right = int64(touched[index])
            sums[2 * right] = 0
            sums[2 * right + 1] = 0
        begin = end
    fields[HEAP_SIZE] = build_heap(heap, fields[NUM_PAIRS], pair_counts, pair_keys)
    return fields[NUM_PAIRS]
