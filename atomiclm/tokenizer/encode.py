"""Bytes to ids in plain Python: cut text into pretokens, look each up, and apply the merges to one that is new."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING

from atomiclm.tokenizer.constants import CACHE_ENTRIES, CACHE_PRETOKEN_BYTES, TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.patterns import SplitPattern
from atomiclm.tokenizer.pretokenize import RegexSplitter
from atomiclm.tokenizer.train_basic import Pair, merge

if TYPE_CHECKING:
    from atomiclm.tokenizer.pretokenize import Ends


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
    """The same ids in O(bytes x log bytes): a heap of (rank, position), some outdated, over a doubly linked list.

    Merging one position after another is right, since a pair that contains a merge has a higher rank than the merge
    (`tokenizer_state.py` refuses others).
    """
    ids = list(pretoken)
    size = len(ids)
    before = list(range(-1, size - 1))
    after = list(range(1, size + 1))
    heap = [(ranks[pair], position) for position, pair in enumerate(pairwise(ids)) if pair in ranks]
    heapq.heapify(heap)
    while heap:
        rank, position = heapq.heappop(heap)
        right = after[position]
        if right == size or ranks.get((ids[position], ids[right])) != rank:
            continue
        new = ids[position] = TOKENIZER_BASE_LENGTH + rank
        ids[right] = -1  # no longer a token, so no pair
        beyond = after[position] = after[right]
        if beyond < size:
            before[beyond] = position
            if (new, ids[beyond]) in ranks:
                heapq.heappush(heap, (ranks[new, ids[beyond]], position))
        ahead = before[position]
        if ahead >= 0 and (ids[ahead], new) in ranks:
            heapq.heappush(heap, (ranks[ids[ahead], new], ahead))
    return [token for token in ids if token >= 0]


class PretokenCache(dict[bytes, tuple[int, ...]]):
    """A dictionary from pretoken to ids that fills itself; bounded in entries and their length, emptied when full."""

    def __init__(self, encode: Callable[[bytes], Sequence[int]]) -> None:
        super().__init__()
        self.encode = encode

    def __missing__(self, pretoken: bytes) -> tuple[int, ...]:
        ids = tuple(self.encode(pretoken))
        if len(pretoken) <= CACHE_PRETOKEN_BYTES:
            if len(self) >= CACHE_ENTRIES:
                self.clear()
            self[pretoken] = ids
        return ids


class PlainEncoder:
    """Bytes to ids; the compiled encoder must give the same.

    Args:
        vocabulary: the bytes of each token number.
        ranks: the rank of each pair of token numbers.
        ids: the id of each token number.
        whole_pretokens: whether a pretoken that is a token becomes it without merging.
        pattern: what cuts the text.
        basic: merge by `encode_basic`.
    """

    def __init__(
        self, vocabulary: Sequence[bytes], ranks: Mapping[Pair, int], ids: Sequence[int], whole_pretokens: bool,
        pattern: SplitPattern, basic: bool = False,
    ) -> None:  # fmt: skip
        self._splitter = RegexSplitter(pattern)
        self._numbers = {token: number for number, token in enumerate(vocabulary)} if whole_pretokens else {}
        self._ids = ids
        self._ranks = ranks
        self._merge = encode_basic if basic else encode_heap
        self._ids_of = PretokenCache(self._encode_pretoken)

    def _encode_pretoken(self, pretoken: bytes) -> list[int]:
        whole = self._numbers.get(pretoken)
        numbers = self._merge(pretoken, self._ranks) if whole is None else [whole]
        return [self._ids[number] for number in numbers]

    def encode(self, data: bytes) -> list[int]:
        """The ids of a text without special tokens."""
        return self.encode_cut(data, self._splitter.cuts(data))

    def encode_cut(self, data: bytes, ends: "Ends") -> list[int]:
        """The ids of pretokens that are cut already, the first of which begins with the text."""
        if not self._ranks:  # every byte is a token
            return list(map(self._ids.__getitem__, data[: ends[-1]] if len(ends) else b""))
        pretokens = (data[start:end] for start, end in pairwise((0, *ends)))
        return list(chain.from_iterable(map(self._ids_of.__getitem__, pretokens)))
