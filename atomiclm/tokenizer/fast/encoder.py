"""Bytes to ids by kernels, block by block, and encoders for several threads.

What the kernels do is explained in `encode_kernels.py` and `merge_pretoken.py`. This driver owns the tables.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate, chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomiclm.tokenizer.bpe_ops import Pair
from atomiclm.tokenizer.constants import BLOCK_BYTES, CACHE_PRETOKEN_BYTES, MAX_VOCAB_SIZE
from atomiclm.tokenizer.fast import encode_kernels as field
from atomiclm.tokenizer.fast.encode_kernels import encode, rank_pairs, seed
from atomiclm.tokenizer.fast.split import CompiledSplitter, Ends, split
from atomiclm.tokenizer.patterns import SplitPattern

KERNELS = (split, encode, rank_pairs, seed)
"""What encoding always calls."""

CACHE_BYTES = 1 << 22
CACHE_IDS = 1 << 20
"""Room for pretokens, and for the ids of pretokens, that do not fit into a row of the cache."""


class CompiledEncoder:
    """Bytes to ids, for one thread; about 10 MB for a vocabulary of 32,768, 30 MB for 100,000.

    Args:
        vocabulary: the bytes of each token number: 256 bytes, then the merges.
        merges: pairs of token numbers, in order of rank.
        ids: the id of each token number.
        whole_pretokens: whether a pretoken that is a token becomes it without merging.
        pattern: what cuts the text.
    """

    def __init__(
        self,
        vocabulary: Sequence[bytes],
        merges: Sequence[Pair],
        ids: Sequence[int],
        whole_pretokens: bool,
        pattern: SplitPattern,
    ) -> None:
        assert len(vocabulary) == 256 + len(merges) == len(ids) <= MAX_VOCAB_SIZE
        self._splitter = CompiledSplitter(pattern)
        self._out = np.empty(0, np.uint32)
        self._fields = np.zeros(field.NUM_FIELDS, np.int64)
        self._arrays: dict[int, NDArray[Any]] = {}  # what the addresses in the block of fields point to
        self._make_room(max(BLOCK_BYTES, *map(len, vocabulary)))

        pair_bits = max(8, (2 * len(merges)).bit_length())
        self._store(field.BYTE_RANKS, np.full(1 << 16, MAX_VOCAB_SIZE - 1, np.uint32))
        self._store(field.PAIRS, np.full(1 << pair_bits, 2**64 - 1, np.uint64))
        self._store(field.IDS, np.array(ids, np.uint32))
        pairs = np.array(merges, np.int64).reshape(-1, 2).T.copy()
        byte_ranks, table = self._arrays[field.BYTE_RANKS], self._arrays[field.PAIRS]
        rank_pairs(pairs[0], pairs[1], len(merges), byte_ranks, table, pair_bits)

        longest = max(map(len, vocabulary)) if whole_pretokens else 0
        row_bits = max(16, (5 * len(vocabulary) // 2).bit_length())
        self._store(field.ROWS, np.zeros(4 << row_bits, np.uint64))
        self._store(field.STORED_BYTES, np.empty(CACHE_BYTES + sum(map(len, vocabulary)) + 8, np.uint8))
        self._store(field.STORED_IDS, np.empty(CACHE_IDS, np.uint32))
        self._fields[field.PAIR_BITS] = pair_bits
        self._fields[field.ROW_BITS] = row_bits
        self._fields[field.STORED_BYTES_ROOM] = self._arrays[field.STORED_BYTES].size
        self._fields[field.STORED_IDS_ROOM] = CACHE_IDS
        self._fields[field.LONGEST_NEW] = CACHE_PRETOKEN_BYTES
        self._fields[field.LONGEST] = max(CACHE_PRETOKEN_BYTES, longest)

        ends = np.fromiter(accumulate(map(len, vocabulary)), np.int64, len(vocabulary))
        data = b"".join(vocabulary)
        seed(data, ends, len(vocabulary), int(whole_pretokens), self._out, self._fields)
        self._store(field.SEEDED_ROWS, self._arrays[field.ROWS].copy())
        self._fields[field.SEEDED_ROWS_USED] = self._fields[field.ROWS_USED]
        self._fields[field.SEEDED_BYTES_USED] = self._fields[field.STORED_BYTES_USED]
        self._fields[field.SEEDED_IDS_USED] = self._fields[field.STORED_IDS_USED]

    def encode(self, data: bytes) -> NDArray[np.uint32]:
        """The ids of a text without special tokens, in an array of their own."""
        return joined([self.encode_cut(data, ends, start) for start, ends in self._splitter.blocks(data)])

    def encode_cut(self, data: bytes, ends: Ends, start: int = 0) -> NDArray[np.uint32]:
        """The ids of pretokens that are cut already, the first of which begins at `start`."""
        if not len(ends):
            return np.empty(0, np.uint32)
        self._make_room(int(ends[-1]) - start)
        written = encode(data, len(data), start, ends, len(ends), self._out, self._fields)
        return self._out[:written].copy()

    def _make_room(self, num_bytes: int) -> None:
        """Room for the ids of so many bytes, and working space for a pretoken as long; a page costs when it is used."""
        if num_bytes + 2 > len(self._out):
            self._out = np.empty(num_bytes + 2, np.uint32)
            for name in (field.TOKENS, field.BEFORE, field.AFTER):
                self._store(name, np.empty(num_bytes, np.int32))
            self._store(field.KEYS, np.empty(num_bytes + num_bytes // 32 + 256, np.uint32))

    def _store(self, name: int, array: NDArray[Any]) -> None:
        self._arrays[name] = array
        self._fields[name] = array.ctypes.data


def joined(blocks: Sequence[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """Blocks of ids as one array."""
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.uint32), *blocks])


class EncoderPool:
    """As many encoders as threads have used at once.

    Args:
        make: a new encoder.
    """

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

    def map[T](self, encode: Callable[[CompiledEncoder, bytes], T], texts: Sequence[bytes], threads: int) -> list[T]:
        """What `encode` makes of each text; kernels let other threads run."""

        def encode_some(some: Sequence[bytes]) -> list[T]:
            with self.borrow() as encoder:
                return [encode(encoder, text) for text in some]

        if threads == 1 or len(texts) < 2:
            return encode_some(texts)
        with ThreadPoolExecutor(threads) as pool:
            return list(chain.from_iterable(pool.map(encode_some, _shares(texts, 4 * threads))))


def _shares(texts: Sequence[bytes], count: int) -> Iterator[Sequence[bytes]]:
    """Consecutive texts in about `count` shares of about equal size."""
    target = sum(map(len, texts)) / count
    share: list[bytes] = []
    size = 0
    for text in texts:
        share.append(text)
        size += len(text)
        if size >= target:
            yield share
            share, size = [], 0
    if share:
        yield share
