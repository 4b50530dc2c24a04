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
from atomiclm.tokenizer.constants import CACHE_PRETOKEN_BYTES, MAX_VOCAB_SIZE
from atomiclm.tokenizer.fast import encode_kernels as field
from atomiclm.tokenizer.fast.encode_kernels import encode, merge_pretoken, rank_pairs, seed
from atomiclm.tokenizer.fast.split import CompiledSplitter, CustomSplitter, Ends, compiled_splitter, split
from atomiclm.tokenizer.patterns import SplitPattern

KERNELS = (split, encode, rank_pairs, seed)
"""What encoding always calls."""

CACHE_BYTES = 1 << 22
CACHE_IDS = 1 << 20
"""Room for pretokens, and for the ids of pretokens, that do not fit into a row of the cache."""
FIRST_IDS = 1 << 17
"""Room for the ids of a block of pretokens; it grows when a block is longer."""
LONG_PRETOKEN = 1 << 15
"""Longer pretokens are merged in chunks of this size, whose working space stays in the processor's cache."""


class CompiledEncoder:
    """Bytes to ids, for one thread; about 10 MB for a vocabulary of 32,768, 30 MB for 100,000.

    Args:
        vocabulary: the bytes of each token number: 256 bytes, then the merges.
        merges: pairs of token numbers, in order of rank.
        ids: the id of each token number.
        whole_pretokens: whether a pretoken that is a token becomes it without merging.
        splitter: what cuts the text.
    """

    def __init__(
        self,
        vocabulary: Sequence[bytes],
        merges: Sequence[Pair],
        ids: Sequence[int],
        whole_pretokens: bool,
        splitter: CompiledSplitter | CustomSplitter,
    ) -> None:
        assert len(vocabulary) == 256 + len(merges) == len(ids) <= MAX_VOCAB_SIZE
        self._splitter = splitter
        # A token that merging never makes can come to as many ids as it has bytes.
        self._out = np.empty(max(FIRST_IDS, *map(len, vocabulary)), np.uint32)
        self._fields = np.zeros(field.NUM_FIELDS, np.int64)
        self._arrays: dict[int, NDArray[Any]] = {}  # what the addresses in the block of fields point to

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
        self._set(
            {
                field.PAIR_BITS: pair_bits,
                field.ROW_BITS: row_bits,
                field.STORED_BYTES_ROOM: self._arrays[field.STORED_BYTES].size,
                field.STORED_IDS_ROOM: CACHE_IDS,
                field.LONGEST_NEW: CACHE_PRETOKEN_BYTES,
                field.LONGEST: max(CACHE_PRETOKEN_BYTES, longest),
            }
        )
        self._lengths = np.array([len(token) for token in vocabulary], np.int64)
        self._make_space(max(LONG_PRETOKEN, *map(len, vocabulary)))
        self._seed(vocabulary, whole_pretokens)

    def _seed(self, vocabulary: Sequence[bytes], whole_pretokens: bool) -> None:
        ends = np.fromiter(accumulate(map(len, vocabulary)), np.int64, len(vocabulary))
        data = b"".join(vocabulary)
        seed(data, ends, len(vocabulary), int(whole_pretokens), self._out, self._fields)
        self._store(field.SEEDED_ROWS, self._arrays[field.ROWS].copy())
        self._set(
            {
                field.SEEDED_ROWS_USED: self._fields[field.ROWS_USED],
                field.SEEDED_BYTES_USED: self._fields[field.STORED_BYTES_USED],
                field.SEEDED_IDS_USED: self._fields[field.STORED_IDS_USED],
            }
        )

    def copy(self) -> "CompiledEncoder":
        """Another encoder for another thread: it shares what is only read, and has a cache and a space of its own."""
        twin = object.__new__(CompiledEncoder)
        twin._splitter, twin._lengths = self._splitter, self._lengths
        twin._out, twin._fields, twin._arrays = self._out.copy(), self._fields.copy(), dict(self._arrays)
        twin._store(field.ROWS, self._arrays[field.SEEDED_ROWS].copy())
        twin._fields[field.ROWS_USED] = twin._fields[field.SEEDED_ROWS_USED]
        for stored, used, seeded in (
            (field.STORED_BYTES, field.STORED_BYTES_USED, field.SEEDED_BYTES_USED),
            (field.STORED_IDS, field.STORED_IDS_USED, field.SEEDED_IDS_USED),
        ):
            size = int(self._fields[seeded])
            twin._store(stored, np.empty_like(self._arrays[stored]))
            twin._arrays[stored][:size] = self._arrays[stored][:size]
            twin._fields[used] = size
        twin._make_space(int(self._fields[field.SPACE]))
        return twin

    def encode(self, data: bytes) -> NDArray[np.uint32]:
        """The ids of a text without special tokens, in an array of their own."""
        blocks = [ids for start, ends in self._splitter.blocks(data) for ids in self._encode_block(data, start, ends)]
        return joined(blocks)

    def encode_cut(self, data: bytes, ends: Ends) -> NDArray[np.uint32]:
        """The ids of pretokens that are cut already, the first of which begins with the text."""
        return joined(list(self._encode_block(data, 0, ends)))

    def _encode_block(self, data: bytes, start: int, ends: Ends) -> Iterator[NDArray[np.uint32]]:
        done, count = 0, len(ends)
        while done < count:
            room = int(ends[-1]) - start + 2
            if room > len(self._out):
                self._out = np.empty(room, np.uint32)
            written = encode(data, len(data), start, ends[done:], count - done, self._out, self._fields)
            yield self._out[:written].copy()
            encoded = int(self._fields[field.DONE])
            if encoded:
                start = int(ends[done + encoded - 1])
            done += encoded
            if done < count:  # the next one is too long for the kernel
                end = int(ends[done])
                yield self._encode_long(data, start, end)
                start = end
                done += 1

    def _encode_long(self, data: bytes, start: int, end: int) -> NDArray[np.uint32]:
        """The ids of one very long pretoken, a chunk of it at a time.

        Merges happen in the order of their ranks, all over the pretoken, and jumping about in megabytes is slow. But
        what merging makes is decided nearby. Call two tokens compatible if their bytes, merged by themselves, come to
        just these two. A sequence in which all neighbours are compatible is what merging makes of the whole: as long
        as no merge has crossed a border, both sides of it evolve as they would by themselves, so there is no first
        merge that crosses. And neighbours that merging made are compatible, by the same argument.

        So each chunk is merged by itself, then the last tokens before and the first after each border are merged anew.
        If the outermost of them come out as they were, every pair of neighbours is compatible. If not, more of them are
        taken.
        """
        tokens = np.empty(end - start, np.int32)
        count = 0
        border = start
        while border < end:
            after = self._merge(data, border, min(end, border + LONG_PRETOKEN))
            left, right = min(8, count), min(8, len(after))
            while True:
                first = border - int(self._lengths[tokens[count - left : count]].sum())
                last = border + int(self._lengths[after[:right]].sum())
                between = self._merge(data, first, last)
                left_holds = left == count or between[0] == tokens[count - left]
                right_holds = right == len(after) or between[-1] == after[right - 1]
                if left_holds and right_holds:
                    break
                left = left if left_holds else min(4 * left, count)
                right = right if right_holds else min(4 * right, len(after))
            count -= left
            for part in (between, after[right:]):
                tokens[count : count + len(part)] = part
                count += len(part)
            border = min(end, border + LONG_PRETOKEN)
        return self._arrays[field.IDS][tokens[:count]]

    def _merge(self, data: bytes, start: int, end: int) -> NDArray[np.int32]:
        if end - start > self._fields[field.SPACE]:
            self._make_space(end - start)
        count = merge_pretoken(data, start, end - start, self._fields)
        return self._arrays[field.TOKENS][:count].copy()

    def _make_space(self, longest: int) -> None:
        """Working space for pretokens of up to `longest` bytes."""
        for name in (field.TOKENS, field.BEFORE, field.AFTER):
            self._store(name, np.empty(longest, np.int32))
        self._store(field.KEYS, np.empty(longest + longest // 32 + 256, np.uint32))
        self._set({field.SPACE: longest})

    def _store(self, name: int, array: NDArray[Any]) -> None:
        self._arrays[name] = array
        self._fields[name] = array.ctypes.data

    def _set(self, values: dict[int, int]) -> None:
        for name, value in values.items():
            self._fields[name] = value


def joined(blocks: Sequence[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """Blocks of ids as one array."""
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.uint32), *blocks])


class EncoderPool:
    """As many encoders of one vocabulary as threads have used at once; arguments are those of `CompiledEncoder`."""

    def __init__(
        self,
        vocabulary: Sequence[bytes],
        merges: Sequence[Pair],
        ids: Sequence[int],
        whole_pretokens: bool,
        pattern: SplitPattern,
    ) -> None:
        self._first = CompiledEncoder(vocabulary, merges, ids, whole_pretokens, compiled_splitter(pattern))
        self._idle = [self._first]

    @contextmanager
    def borrow(self) -> Iterator[CompiledEncoder]:
        """An encoder that no other thread uses meanwhile."""
        try:
            encoder = self._idle.pop()
        except IndexError:
            encoder = self._first.copy()
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
