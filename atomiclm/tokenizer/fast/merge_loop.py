"""The loop of `train_heap.py`, compiled: take the best pair, join it wherever it stands, move the counts next to it.

What is different, and why it is fast:

1. A border remembers which pair meets at it (`rows`, see `scan.py`). So an occurrence is one number, and one that is
   out of date recognises itself: another pair stands there now.
2. There is no dictionary. A pair that contains the token `new` is born in the round that makes `new`. In that round one
   of its two tokens is known, so the pair is found in an array indexed by the other one and its side:

        slot = 2 * neighbour        the pair (neighbour, new)
        slot = 2 * neighbour + 1    the pair (new, neighbour)

   `sums` has two numbers for each slot. While counting these are the weight and the number of borders; once the pair
   has a number, that number and where its next border. After the round all are zero again.
3. Pairs rarer than `threshold` have no number, and where such a pair meets, nothing that comes of it needs to be looked
   at: a born pair occurs only where an older one, which is at least as frequent, did.

So memory is touched in few positions, and in ascending order.
"""

from atomiclm.tokenizer.fast.kernel import Kernel, inline
from atomiclm.tokenizer.fast.language import Int32s, Int64s, UInt64s, int64, uint64
from atomiclm.tokenizer.fast.pair_heap import pop, push, sift_down
from atomiclm.tokenizer.fast.scan import (
    EMPTY,
    HEAP_SIZE,
    JOINED_END,
    NUM_MERGES,
    NUM_PAIRS,
    OVERLAPPED,
    RARE,
    file_border,
    group_at,
    number_pair,
)

(
    FINISHED,  # all merges asked for are made
    ONLY_RARE_PAIRS,  # no pair is left that is frequent enough to have a number
    NO_ROOM,  # the next merge might need more room than there is
) = range(3)
"""What `merge_loop` returns."""

NUM_BYTES = 256
LOW_HALF = 0xFFFFFFFF


@inline
def add_neighbour(slot: int64, weight: int64, sums: Int64s, touched: Int32s, num_touched: int64) -> int64:
    """Count one occurrence of a pair that is being born; returns how many of them there are."""
    if sums[2 * slot + 1] == 0:
        touched[num_touched] = slot
        num_touched += 1
    sums[2 * slot] += weight
    sums[2 * slot + 1] += 1
    return num_touched


@inline
def leave_right(
    border: int64,
    neighbour: int64,
    weight: int64,
    rows: Int32s,
    pair_counts: Int64s,
    sums: Int64s,
    touched: Int32s,
    num_touched: int64,
) -> int64:
    """To the right of a joined pair, at `border`, the old pair dies and (new, neighbour) is born."""
    dying = int64(rows[2 * border + 1])
    if neighbour == EMPTY or dying == RARE:
        return num_touched
    if dying != OVERLAPPED:
        pair_counts[dying] -= weight
    return add_neighbour(2 * neighbour + 1, weight, sums, touched, num_touched)


@inline
def join(
    pair: int64,
    new: int64,
    left_length: int64,
    right_length: int64,
    rows: Int32s,
    group_ends: Int64s,
    group_counts: Int64s,
    first_groups: Int32s,
    pair_counts: Int64s,
    pair_starts: Int64s,
    occurrences: Int32s,
    sums: Int64s,
    touched: Int32s,
    fields: Int64s,
) -> int64:
    """Write `new` wherever `pair` stands and count the pairs that die and are born beside it.

    From left to right, so that overlaps fall as in `bpe_ops.merge`. What is to the right of a joined pair is known only
    when the next one is: in `abab` it is not `a` but `new`. So that side is done one step late, and `new new` is
    counted once, by its left half.

    Returns:
        How many slots were touched. The borders joined come to stand in front among the pair's occurrences, up to
        `fields[JOINED_END]`.
    """
    num_touched = int64(0)
    joined = pair_starts[pair]
    right_border = int64(-1)  # of the pair joined last
    weight = int64(0)
    group = int64(0)
    for index in range(pair_starts[pair], pair_starts[pair + 1]):
        border = int64(occurrences[index])
        if rows[2 * border + 1] != pair:
            continue
        left_border = border - left_length
        if right_border >= 0:
            neighbour = new if left_border == right_border else int64(rows[2 * right_border])
            num_touched = leave_right(right_border, neighbour, weight, rows, pair_counts, sums, touched, num_touched)
        occurrences[joined] = border
        joined += 1
        group = group_at(border, group, group_ends, first_groups)
        weight = group_counts[group]
        right_border = border + right_length
        if rows[2 * right_border + 1] == pair:  # a a a: the second pair can no longer be joined
            rows[2 * right_border + 1] = OVERLAPPED
        neighbour = int64(rows[2 * left_border - 2])
        rows[2 * left_border] = new
        rows[2 * right_border - 2] = new
        dying = int64(rows[2 * left_border + 1])
        if neighbour != EMPTY and neighbour != new and dying != RARE:
            pair_counts[dying] -= weight
            num_touched = add_neighbour(2 * neighbour, weight, sums, touched, num_touched)
    if right_border >= 0:
        neighbour = int64(rows[2 * right_border])
        num_touched = leave_right(right_border, neighbour, weight, rows, pair_counts, sums, touched, num_touched)
    fields[JOINED_END] = joined
    return num_touched


@inline
def name_born(
    new: int64,
    num_touched: int64,
    threshold: int64,
    touched: Int32s,
    sums: Int64s,
    pair_keys: UInt64s,
    pair_counts: Int64s,
    pair_starts: Int64s,
    heap: Int64s,
    fields: Int64s,
) -> int64:
    """Give numbers to the pairs born in this round that are frequent enough; returns how many pairs there are now."""
    for index in range(num_touched):
        slot = int64(touched[index])
        count = sums[2 * slot]
        if count < threshold:
            sums[2 * slot] = RARE
            continue
        neighbour = slot >> 1
        left, right = (new, neighbour) if slot & 1 else (neighbour, new)
        pair = number_pair(left, right, sums, slot, pair_keys, pair_counts, pair_starts, fields)
        fields[HEAP_SIZE] = push(heap, fields[HEAP_SIZE], count, pair, pair_keys)
    return fields[NUM_PAIRS]


@inline
def file_born(
    begin: int64,
    end: int64,
    new: int64,
    left_length: int64,
    right_length: int64,
    rows: Int32s,
    occurrences: Int32s,
    sums: Int64s,
) -> int64:
    """Go over the borders joined in this round again and note at their neighbours which pairs stand there now."""
    for index in range(begin, end):
        border = int64(occurrences[index])
        left_border = border - left_length
        neighbour = int64(rows[2 * left_border - 2])
        if neighbour != EMPTY and neighbour != new and rows[2 * left_border + 1] != RARE:
            file_border(left_border, sums, 2 * neighbour, rows, occurrences)
        right_border = border + right_length
        neighbour = int64(rows[2 * right_border])
        if neighbour != EMPTY and rows[2 * right_border + 1] != RARE:
            file_border(right_border, sums, 2 * neighbour + 1, rows, occurrences)
    return end - begin


@Kernel
def merge_loop(
    rows: Int32s,
    group_ends: Int64s,
    group_counts: Int64s,
    first_groups: Int32s,
    threshold: int64,
    lengths: Int64s,
    sums: Int64s,
    touched: Int32s,
    pair_keys: UInt64s,
    pair_counts: Int64s,
    pair_starts: Int64s,
    pairs_room: int64,
    occurrences: Int32s,
    occurrences_room: int64,
    heap: Int64s,
    merges: Int32s,
    num_merges: int64,
    fields: Int64s,
) -> int64:
    """Merge until `num_merges` merges are made, or no frequent pair is left, or room runs out.

    Args:
        rows: the corpus (`scan.py`).
        group_ends: where each group of words of equal count ends, in positions.
        group_counts: that count.
        first_groups: the group of every 64th position.
        threshold: how often a pair must occur to have a number (`scan.py`).
        lengths: of each token, in bytes; room for 256 + `num_merges`.
        sums: four zeros for each token; they are zeros again afterwards.
        touched: two entries for each token.
        pair_keys: the pairs (`scan.py`), and so are the next arrays.
        pair_counts: see there.
        pair_starts: see there; one entry more than the others.
        pairs_room: how many pairs there is room for.
        occurrences: the borders of each pair.
        occurrences_room: how many there is room for.
        heap: two entries for each pair (`pair_heap.py`).
        merges: two entries for each merge: its left and its right token.
        num_merges: how many are wanted.
        fields: see `scan.py`.

    Returns:
        FINISHED, ONLY_RARE_PAIRS or NO_ROOM.
    """
    while fields[NUM_MERGES] < num_merges:
        size = fields[HEAP_SIZE]
        if size == 0:
            return ONLY_RARE_PAIRS
        pair = heap[1]
        count = pair_counts[pair]
        if count != heap[0]:  # the entry is out of date: put it back with the true count, or drop it
            if count < threshold:
                fields[HEAP_SIZE] = pop(heap, size, pair_keys)
            else:
                heap[0] = count
                sift_down(heap, size, 0, pair_keys)
            continue

        merge = fields[NUM_MERGES]
        new = NUM_BYTES + merge
        num_pairs = fields[NUM_PAIRS]
        begin = pair_starts[pair]
        most_born = 2 * (pair_starts[pair + 1] - begin)
        if (
            pair_starts[num_pairs] + most_born > occurrences_room
            or num_pairs + min(most_born, 2 * (new + 1)) > pairs_room
        ):
            return NO_ROOM

        fields[HEAP_SIZE] = pop(heap, size, pair_keys)
        left = int64(pair_keys[pair] >> uint64(32))
        right = int64(pair_keys[pair] & uint64(LOW_HALF))
        left_length = lengths[left]
        right_length = lengths[right]
        lengths[new] = left_length + right_length
        merges[2 * merge] = left
        merges[2 * merge + 1] = right
        fields[NUM_MERGES] = merge + 1
        num_touched = join(
            pair, new, left_length, right_length, rows, group_ends, group_counts, first_groups, pair_counts,
            pair_starts, occurrences, sums, touched, fields,
        )  # fmt: skip
        name_born(new, num_touched, threshold, touched, sums, pair_keys, pair_counts, pair_starts, heap, fields)
        file_born(begin, fields[JOINED_END], new, left_length, right_length, rows, occurrences, sums)
        for index in range(num_touched):
            slot = int64(touched[index])
            sums[2 * slot] = 0
            sums[2 * slot + 1] = 0
    return FINISHED
