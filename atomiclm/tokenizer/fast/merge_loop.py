"""The loop of `train_heap.py`, compiled: take the best pair, join it wherever it stands, move the counts next to it.

A border remembers which pair meets at it (`rows`, see `scan.py`), so an occurrence is one number, and one that is out
of date recognises itself. Pairs rarer than `threshold` have no number, and what comes of them need not be looked at: a
pair is born only where an older one, which is at least as frequent, was. So memory is touched in few positions, and in
ascending order.

The best pair is the most frequent, and of equally frequent ones that with the smallest key. A heap gives it, whose
entries are two int64: the number of a pair, and before it the count that it had when the entry was written, which may
have fallen since, never risen.
"""

from atomiclm.tokenizer.fast.kernel import Int32s, Int64s, Kernel, UInt64s, inline, int64, uint64
from atomiclm.tokenizer.fast.scan import (
    EMPTY,
    NUM_BYTES,
    OVERLAPPED,
    RARE,
    Corpus,
    Pairs,
    Tally,
    clear,
    count_border,
    group_at,
    note_border,
    number_pair,
)

FINISHED, ONLY_RARE_PAIRS, NO_ROOM = range(3)
"""What `merge_loop` returns: all merges are made, none is left but of rare pairs, or the next might need more room."""

LOW_HALF = 0xFFFFFFFF


@inline
def precedes(count: int64, pair: int64, other_count: int64, other_pair: int64, keys: UInt64s) -> int64:
    """Whether the first of two entries of the heap is the better one."""
    return int64(count > other_count or (count == other_count and keys[pair] < keys[other_pair]))


@inline
def sift_down(heap: Int64s, size: int64, index: int64, keys: UInt64s) -> int64:
    """Let the entry at `index` sink to where it belongs; all below it are in order."""
    count, pair = heap[2 * index], heap[2 * index + 1]
    while 2 * index + 1 < size:
        child = 2 * index + 1
        other = child + 1
        if other < size and precedes(heap[2 * other], heap[2 * other + 1], heap[2 * child], heap[2 * child + 1], keys):
            child = other
        if not precedes(heap[2 * child], heap[2 * child + 1], count, pair, keys):
            break
        heap[2 * index], heap[2 * index + 1] = heap[2 * child], heap[2 * child + 1]
        index = child
    heap[2 * index], heap[2 * index + 1] = count, pair
    return index


@inline
def push(heap: Int64s, size: int64, count: int64, pair: int64, keys: UInt64s) -> int64:
    """Add an entry; returns the new size."""
    index = size
    while index > 0:
        parent = (index - 1) >> 1
        if not precedes(count, pair, heap[2 * parent], heap[2 * parent + 1], keys):
            break
        heap[2 * index], heap[2 * index + 1] = heap[2 * parent], heap[2 * parent + 1]
        index = parent
    heap[2 * index], heap[2 * index + 1] = count, pair
    return size + 1


@inline
def pop(heap: Int64s, size: int64, keys: UInt64s) -> int64:
    """Remove the best entry; returns the new size."""
    size -= 1
    heap[0], heap[1] = heap[2 * size], heap[2 * size + 1]
    if size > 0:
        sift_down(heap, size, 0, keys)
    return size


@inline
def leave_right(
    border: int64, neighbour: int64, weight: int64, corpus: Corpus, pairs: Pairs, tally: Tally, num_touched: int64
) -> int64:
    """To the right of a joined pair, at `border`, the old pair dies and (new, neighbour) is born."""
    dying = int64(corpus.rows[2 * border + 1])
    if neighbour == EMPTY or dying == RARE:
        return num_touched
    if dying != OVERLAPPED:
        pairs.counts[dying] -= weight
    return count_border(2 * neighbour + 1, weight, tally, num_touched)


@inline
def join(
    pair: int64, new: int64, left_length: int64, right_length: int64, corpus: Corpus, pairs: Pairs, tally: Tally
) -> tuple[int64, int64]:
    """Write `new` wherever `pair` stands and count the pairs that die and are born beside it.

    From left to right, so that overlaps fall as in `train_basic.merge`. What is to the right of a joined pair is known
    only when the next one is: in `abab` it is not `a` but `new`. So that side is done one step late, and `new new` is
    counted once, by its left half. The borders joined come to stand in front among the pair's occurrences. Returns
    where they end, and how many slots of the tally are touched.
    """
    rows = corpus.rows
    num_touched = int64(0)
    joined = pairs.starts[pair]
    right_border = int64(-1)  # of the pair joined last
    weight = int64(0)
    group = int64(0)
    live = joined
    for index in range(joined, pairs.starts[pair + 1]):  # without a branch, for half of them are out of date
        border = int64(pairs.occurrences[index])
        pairs.occurrences[live] = border
        live += int64(rows[2 * border + 1] == pair)
    for index in range(joined, live):
        border = int64(pairs.occurrences[index])
        if rows[2 * border + 1] != pair:
            continue
        left_border = border - left_length
        if right_border >= 0:
            neighbour = new if left_border == right_border else int64(rows[2 * right_border])
            num_touched = leave_right(right_border, neighbour, weight, corpus, pairs, tally, num_touched)
        pairs.occurrences[joined] = border
        joined += 1
        group = group_at(border, group, corpus)
        weight = corpus.group_counts[group]
        right_border = border + right_length
        if rows[2 * right_border + 1] == pair:  # a a a: the second pair can no longer be joined
            rows[2 * right_border + 1] = OVERLAPPED
        neighbour = int64(rows[2 * left_border - 2])
        rows[2 * left_border] = new
        rows[2 * right_border - 2] = new
        dying = int64(rows[2 * left_border + 1])
        if neighbour != EMPTY and neighbour != new and dying != RARE:
            pairs.counts[dying] -= weight
            num_touched = count_border(2 * neighbour, weight, tally, num_touched)
    if right_border >= 0:
        neighbour = int64(rows[2 * right_border])
        num_touched = leave_right(right_border, neighbour, weight, corpus, pairs, tally, num_touched)
    return joined, num_touched


@Kernel
def merge_loop(
    corpus: Corpus, threshold: int64, tally: Tally, pairs: Pairs, num_pairs: int64, heap: Int64s, merges: Int32s,
    num_merges: int64, made: Int64s,
) -> int64:  # fmt: skip
    """Merge until `made[0]` is `num_merges`, or no frequent pair is left, or room runs out.

    `corpus`, `threshold` and `tally` are as for `scan`, which has found `num_pairs` pairs. `heap` has room for two
    entries for each pair; `merges` has two for each merge, its left and its right token.
    """
    keys, rows = pairs.keys, corpus.rows
    size = num_pairs
    for pair in range(size):
        heap[2 * pair], heap[2 * pair + 1] = pairs.counts[pair], pair
    for index in range((size >> 1) - 1, -1, -1):  # Floyd, 1964
        sift_down(heap, size, index, keys)
    while made[0] < num_merges:
        if size == 0:
            return ONLY_RARE_PAIRS
        pair = heap[1]
        count = pairs.counts[pair]
        if count != heap[0]:  # the entry is out of date: put it back with the true count, or drop it
            if count < threshold:
                size = pop(heap, size, keys)
            else:
                heap[0] = count
                sift_down(heap, size, 0, keys)
            continue

        merge = made[0]
        new = NUM_BYTES + merge
        begin = pairs.starts[pair]
        most_born = 2 * (pairs.starts[pair + 1] - begin)
        if pairs.starts[num_pairs] + most_born > pairs.occurrences_room:
            return NO_ROOM
        if num_pairs + min(most_born, 2 * (new + 1)) > pairs.room:
            return NO_ROOM

        size = pop(heap, size, keys)
        left, right = int64(keys[pair] >> uint64(32)), int64(keys[pair] & uint64(LOW_HALF))
        left_length, right_length = corpus.lengths[left], corpus.lengths[right]
        corpus.lengths[new] = left_length + right_length
        merges[2 * merge], merges[2 * merge + 1] = left, right
        made[0] = merge + 1
        joined, num_touched = join(pair, new, left_length, right_length, corpus, pairs, tally)
        for index in range(num_touched):
            slot = int64(tally.touched[index])
            left, right = (new, slot >> 1) if slot & 1 else (slot >> 1, new)
            known = num_pairs
            num_pairs = number_pair(left, right, threshold, slot, tally, pairs, num_pairs)
            if num_pairs > known:
                size = push(heap, size, pairs.counts[known], known, keys)
        for index in range(begin, joined):  # once more, to note which pairs stand beside the borders joined now
            left_border = int64(pairs.occurrences[index]) - left_length
            neighbour = int64(rows[2 * left_border - 2])
            if neighbour != EMPTY and neighbour != new and rows[2 * left_border + 1] != RARE:
                note_border(left_border, 2 * neighbour, tally, rows, pairs.occurrences)
            right_border = int64(pairs.occurrences[index]) + right_length
            neighbour = int64(rows[2 * right_border])
            if neighbour != EMPTY and rows[2 * right_border + 1] != RARE:
                note_border(right_border, 2 * neighbour + 1, tally, rows, pairs.occurrences)
        clear(tally, num_touched)
    return FINISHED
