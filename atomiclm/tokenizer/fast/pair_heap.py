"""A heap that gives the best pair: the most frequent, and of equally frequent ones the one with the smallest key.

An entry is two int64 in `heap`: a count and the number of a pair. The count is the one that the pair had when the entry
was written; it may have fallen since, never risen.
"""

from atomiclm.tokenizer.fast.kernel import inline
from atomiclm.tokenizer.fast.language import Int64s, UInt64s, int64


@inline
def precedes(count: int64, pair: int64, other_count: int64, other_pair: int64, pair_keys: UInt64s) -> int64:
    """Whether the first of two entries is the better one."""
    if count != other_count:
        return int64(count > other_count)
    return int64(pair_keys[pair] < pair_keys[other_pair])


@inline
def sift_down(heap: Int64s, size: int64, index: int64, pair_keys: UInt64s) -> int64:
    """Let the entry at `index` sink to where it belongs; all below it are in order."""
    count = heap[2 * index]
    pair = heap[2 * index + 1]
    while 2 * index + 1 < size:
        child = 2 * index + 1
        other = child + 1
        if other < size and precedes(
            heap[2 * other], heap[2 * other + 1], heap[2 * child], heap[2 * child + 1], pair_keys
        ):
            child = other
        if not precedes(heap[2 * child], heap[2 * child + 1], count, pair, pair_keys):
            break
        heap[2 * index] = heap[2 * child]
        heap[2 * index + 1] = heap[2 * child + 1]
        index = child
    heap[2 * index] = count
    heap[2 * index + 1] = pair
    return index


@inline
def push(heap: Int64s, size: int64, count: int64, pair: int64, pair_keys: UInt64s) -> int64:
    """Add an entry; returns the new size."""
    index = size
    while index > 0:
        parent = (index - 1) >> 1
        if not precedes(count, pair, heap[2 * parent], heap[2 * parent + 1], pair_keys):
            break
        heap[2 * index] = heap[2 * parent]
        heap[2 * index + 1] = heap[2 * parent + 1]
        index = parent
    heap[2 * index] = count
    heap[2 * index + 1] = pair
    return size + 1


@inline
def pop(heap: Int64s, size: int64, pair_keys: UInt64s) -> int64:
    """Remove the best entry; returns the new size."""
    size -= 1
    heap[0] = heap[2 * size]
    heap[1] = heap[2 * size + 1]
    if size > 0:
        sift_down(heap, size, 0, pair_keys)
    return size


@inline
def build_heap(heap: Int64s, num_pairs: int64, pair_counts: Int64s, pair_keys: UInt64s) -> int64:
    """The heap of all pairs (Floyd, 1964); returns its size."""
    for pair in range(num_pairs):
        heap[2 * pair] = pair_counts[pair]
        heap[2 * pair + 1] = pair
    for index in range((num_pairs >> 1) - 1, -1, -1):
        sift_down(heap, num_pairs, index, pair_keys)
    return num_pairs
