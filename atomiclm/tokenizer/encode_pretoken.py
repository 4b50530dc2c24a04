"""From the bytes of one pretoken to ids: apply the merges in the order in which they were learned.

Twice the same function: `encode_basic` as one would say it, `encode_heap` as one would run it. `PretokenCache` then
sees to it that neither is called for a pretoken that has just been seen, which in real text is nearly always.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from atomiclm.tokenizer.bpe_ops import Pair, merge
from atomiclm.tokenizer.constants import CACHE_ENTRIES, CACHE_PRETOKEN_BYTES, TOKENIZER_BASE_LENGTH


def encode_basic(pretoken: bytes, ranks: Mapping[Pair, int]) -> list[int]:
    """Merge the pair of the lowest rank until no pair has a rank: O(bytes x merges applied)."""
    ids = list(pretoken)
    while True:
        known = [pair for pair in pairwise(ids) if pair in ranks]
        if not known:
            return ids
        best = min(known, key=ranks.__getitem__)
        ids = merge(ids, best, TOKENIZER_BASE_LENGTH + ranks[best])


def encode_heap(pretoken: bytes, ranks: Mapping[Pair, int]) -> list[int]:
    """The same ids in O(bytes x log bytes): a heap of (rank, place) over a doubly linked list.

    Entries are never removed when a merge outdates them; they are recognised when they come up. It is right to merge
    place by place, since a pair that contains a merge has a higher rank than the merge itself (`file_format.py`
    refuses others).
    """
    ids = list(pretoken)
    size = len(ids)
    before = list(range(-1, size - 1))
    after = list(range(1, size + 1))
    heap = [(ranks[pair], place) for place, pair in enumerate(pairwise(ids)) if pair in ranks]
    heapq.heapify(heap)
    while heap:
        rank, place = heapq.heappop(heap)
        right = after[place]
        if right == size or ranks.get((ids[place], ids[right])) != rank:
            continue
        new = ids[place] = TOKENIZER_BASE_LENGTH + rank
        ids[right] = -1  # no longer a token, so no pair
        beyond = after[place] = after[right]
        if beyond < size:
            before[beyond] = place
            if (new, ids[beyond]) in ranks:
                heapq.heappush(heap, (ranks[new, ids[beyond]], place))
        ahead = before[place]
        if ahead >= 0 and (ids[ahead], new) in ranks:
            heapq.heappush(heap, (ranks[ids[ahead], new], ahead))
    return [token for token in ids if token >= 0]


class PretokenCache(dict[bytes, tuple[int, ...]]):
    """A dictionary from pretoken to token numbers that fills itself: looking up a missing pretoken encodes it.

    Bounded in entries and in the length of an entry, and emptied when full. What it forgets is computed again, to the
    same numbers.

    Args:
        encode: bytes of a pretoken to its token numbers.
    """

    def __init__(self, encode: Callable[[bytes], Sequence[int]]) -> None:
        super().__init__()
        self.encode = encode

    def __missing__(self, pretoken: bytes) -> tuple[int, ...]:
        numbers = tuple(self.encode(pretoken))
        if len(pretoken) <= CACHE_PRETOKEN_BYTES:
            if len(self) >= CACHE_ENTRIES:
                self.clear()
            self[pretoken] = numbers
        return numbers
