"""Bytes to ids by the kernels of `encode_kernels.py`, block by block, and encoders for several threads."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate, chain, pairwise

import numpy as np
from numpy.typing import NDArray

from atomiclm.tokenizer.constants import BLOCK_BYTES, CACHE_PRETOKEN_BYTES, MAX_VOCAB_SIZE
from atomiclm.tokenizer.fast.encode_kernels import Cache, encode, rank_pairs, seed
from atomiclm.tokenizer.fast.kernel import flat
from atomiclm.tokenizer.fast.merge_pretoken import EMPTY_ENTRY, NO_TOKEN, Merger
from atomiclm.tokenizer.fast.split import CompiledSplitter, Ends, split
from atomiclm.tokenizer.patterns import SplitPattern
from atomiclm.tokenizer.train_basic import Pair

KERNELS = (split, encode, rank_pairs, seed)
"""What encoding always calls."""

CACHE_BYTES, CACHE_IDS = 1 << 22, 1 << 20
"""Room for pretokens, and for the ids of pretokens, that do not fit into a row of the cache."""


class CompiledEncoder:
    """Bytes to ids, for one thread; about 10 MB for a vocabulary of 32,768, 30 MB for 100,000.

    The arguments are those of `encode.PlainEncoder`, with merges in order of rank.
    """

    def __init__(
        self, vocabulary: Sequence[bytes], merges: Sequence[Pair], ids: Sequence[int], whole_pretokens: bool,
        pattern: SplitPattern,
    ) -> None:  # fmt: skip
        assert len(vocabulary) == 256 + len(merges) == len(ids) <= MAX_VOCAB_SIZE
        self._splitter = CompiledSplitter(pattern)
        pair_bits = max(8, (2 * len(merges)).bit_length())
        nothing = np.empty(0, np.int32)
        self._merger = Merger(
            byte_ranks=np.full(1 << 16, NO_TOKEN, np.uint32),
            pairs=np.full(1 << pair_bits, EMPTY_ENTRY, np.uint64),
            pair_bits=pair_bits,
            ids=np.array(ids, np.uint32),
            tokens=nothing, before=nothing, after=nothing, keys=nothing,
        )  # fmt: skip
        row_bits = max(16, (5 * len(vocabulary) // 2).bit_length())
        data = b"".join(vocabulary)
        longest = max(map(len, vocabulary))
        self._cache = Cache(
            rows=np.zeros(4 << row_bits, np.uint64),
            row_bits=row_bits,
            stored_bytes=np.empty(CACHE_BYTES + len(data) + 8, np.uint8),
            bytes_room=CACHE_BYTES + len(data) + 8,
            stored_ids=np.empty(CACHE_IDS, np.uint32),
            ids_room=CACHE_IDS,
            longest=max(CACHE_PRETOKEN_BYTES, longest if whole_pretokens else 0),
            used=np.zeros(3, np.int64),
            seeded_rows=np.empty(4 << row_bits, np.uint64),
            seeded_used=np.zeros(3, np.int64),
        )
        self._out = np.empty(0, np.uint32)
        self._make_room(max(BLOCK_BYTES, longest))

        pairs = np.array(merges, np.int64).reshape(-1, 2).T.copy()
        rank_pairs(pairs[0], pairs[1], len(merges), self._merger)
        ends = np.fromiter(accumulate(map(len, vocabulary)), np.int64, len(vocabulary))
        seed(data, ends, len(vocabulary), int(whole_pretokens), self._out, self._merger, self._cache)
        self._cache.seeded_rows[:] = self._cache.rows
        self._cache.seeded_used[:] = self._cache.used

    def encode(self, data: bytes) -> NDArray[np.uint32]:
        """The ids of a text without special tokens, in an array of their own."""
        return joined([self.encode_cut(data, ends, start) for start, ends in self._splitter.blocks(data)])

    def encode_texts(self, texts: Sequence[bytes]) -> list[NDArray[np.uint32]]:
        """The ids of each text, as `encode` gives them; of short ones many at a call, which costs more than they do."""
        found: list[NDArray[np.uint32]] = []
        for some in _shares(texts, BLOCK_BYTES):
            if len(some) == 1:
                found.append(self.encode(some[0]))
                continue
            data = b"".join(some)
            stops = np.cumsum(np.fromiter(map(len, some), np.int64, len(some)))
            ends = self._splitter.cuts(data, stops.tolist())
            self._make_room(len(data))
            encode(data, len(data), 0, ends, len(ends), stops, len(stops), self._out, self._addresses)
            found += [self._out[first:last].copy() for first, last in pairwise((0, *stops.tolist()))]
        return found

    def encode_cut(self, data: bytes, ends: Ends, start: int = 0) -> NDArray[np.uint32]:
        """The ids of pretokens that are cut already, the first of which begins at `start`."""
        if not len(ends):
            return np.empty(0, np.uint32)
        self._make_room(int(ends[-1]) - start)
        written = encode(data, len(data), start, ends, len(ends), ends, 0, self._out, self._addresses)
        return self._out[:written].copy()

    def _make_room(self, num_bytes: int) -> None:
        """Room for the ids of so many bytes, and working space for a pretoken as long; a page costs when it is used."""
        if num_bytes + 2 > len(self._out):
            self._out = np.empty(num_bytes + 2, np.uint32)
            tokens, before, after = (np.empty(num_bytes, np.int32) for _ in range(3))
            keys = np.empty(2 * num_bytes + num_bytes // 32 + 256, np.uint32)
            self._merger = self._merger._replace(tokens=tokens, before=before, after=after, keys=keys)
            self._addresses = tuple(flat((self._merger, self._cache)))  # once, for they are many


def joined(blocks: Sequence[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """Blocks of ids as one array."""
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.uint32), *blocks])


class EncoderPool:
    """As many encoders as threads have used at once."""

    def __init__(self, make: Callable[[], CompiledEncoder]) -> None:
        self._make = make
        self._idle: list[CompiledEncoder] = []

    @contextmanager
    def borrow(self) -> Iterator[CompiledEncoder]:
        """An encoder that no other thread uses meanwhile."""
        try:
            encoder = self._idle.pop()
        except IndexError:
            encoder = self._make()
        try:
            yield encoder
        finally:
            self._idle.append(encoder)

    def map[T](
        self, encode: Callable[[CompiledEncoder, Sequence[bytes]], list[T]], texts: Sequence[bytes], threads: int
    ) -> list[T]:
        """What `encode` makes of the texts; kernels let other threads run."""

        def encode_some(some: Sequence[bytes]) -> list[T]:
            with self.borrow() as encoder:
                return encode(encoder, some)

        if threads == 1 or len(texts) < 2:
            return encode_some(texts)
        with ThreadPoolExecutor(threads) as pool:
            shares = _shares(texts, sum(map(len, texts)) // (4 * threads))
            return list(chain.from_iterable(pool.map(encode_some, shares)))


def _shares(texts: Sequence[bytes], num_bytes: int) -> Iterator[Sequence[bytes]]:
    """Consecutive texts in shares of `num_bytes` or somewhat more."""
    share: list[bytes] = []
    size = 0
    for text in texts:
        share.append(text)
        size += len(text)
        if size >= num_bytes:
            yield share
            share, size = [], 0
    if share:
        yield share
