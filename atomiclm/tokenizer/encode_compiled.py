"""The driver of the encoding kernels: it owns the tables and calls the kernels block by block.

What the kernels do is told in `compiled/encode.py` and `compiled/merging.py`; that they give the ids of
`encode_pretoken.py` is what the tests hold them to.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atomiclm.tokenizer.bpe_ops import Pair
from atomiclm.tokenizer.compiled import encoder_fields as field
from atomiclm.tokenizer.compiled import load_kernel
from atomiclm.tokenizer.constants import CACHE_PRETOKEN_BYTES, MAX_VOCAB_SIZE
from atomiclm.tokenizer.split_compiled import CompiledSplitter, CustomSplitter, Ends

KEPT_BYTES = 1 << 22
KEPT_IDS = 1 << 20
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
        self._encode = load_kernel("encode")
        # A token that merging never makes can come to as many ids as it has bytes.
        self._out = np.empty(max(FIRST_IDS, *map(len, vocabulary)), np.uint32)
        self._fields = np.zeros(field.NUM_FIELDS, np.int64)
        self._arrays: dict[int, NDArray[Any]] = {}  # what the addresses in the block of fields point to

        pair_bits = max(8, (2 * len(merges)).bit_length())
        self._keep(field.BYTE_RANKS, np.full(1 << 16, MAX_VOCAB_SIZE - 1, np.uint32))
        self._keep(field.PAIRS, np.full(1 << pair_bits, 2**64 - 1, np.uint64))
        self._keep(field.IDS, np.array(ids, np.uint32))
        pairs = np.array(merges, np.int64).reshape(-1, 2).T.copy()
        byte_ranks, table = self._arrays[field.BYTE_RANKS], self._arrays[field.PAIRS]
        load_kernel("encode.rank_pairs")(
            _address(pairs[0]), _address(pairs[1]), len(merges), _address(byte_ranks), _address(table), pair_bits
        )

        longest = max(map(len, vocabulary)) if whole_pretokens else 0
        row_bits = max(16, (5 * len(vocabulary) // 2).bit_length())
        self._keep(field.ROWS, np.zeros(4 << row_bits, np.uint64))
        self._keep(field.KEPT_BYTES, np.empty(KEPT_BYTES + sum(map(len, vocabulary)) + 8, np.uint8))
        self._keep(field.KEPT_IDS, np.empty(KEPT_IDS, np.uint32))
        self._set(
            {
                field.PAIR_BITS: pair_bits,
                field.ROW_BITS: row_bits,
                field.KEPT_BYTES_ROOM: self._arrays[field.KEPT_BYTES].size,
                field.KEPT_IDS_ROOM: KEPT_IDS,
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
        load_kernel("encode.seed")(
            data, _address(ends), len(vocabulary), int(whole_pretokens), _address(self._out), _address(self._fields)
        )
        self._keep(field.SEEDED_ROWS, self._arrays[field.ROWS].copy())
        self._set(
            {
                field.SEEDED_ROWS_USED: self._fields[field.ROWS_USED],
                field.SEEDED_BYTES_USED: self._fields[field.KEPT_BYTES_USED],
                field.SEEDED_IDS_USED: self._fields[field.KEPT_IDS_USED],
            }
        )

    def copy(self) -> "CompiledEncoder":
        """Another encoder for another thread: it shares what is only read, and has a cache and a space of its own."""
        twin = object.__new__(CompiledEncoder)
        twin._splitter, twin._encode = self._splitter, self._encode
        twin._lengths = self._lengths
        twin._out, twin._fields, twin._arrays = self._out.copy(), self._fields.copy(), dict(self._arrays)
        twin._keep(field.ROWS, self._arrays[field.SEEDED_ROWS].copy())
        twin._fields[field.ROWS_USED] = twin._fields[field.SEEDED_ROWS_USED]
        for kept, used, seeded in (
            (field.KEPT_BYTES, field.KEPT_BYTES_USED, field.SEEDED_BYTES_USED),
            (field.KEPT_IDS, field.KEPT_IDS_USED, field.SEEDED_IDS_USED),
        ):
            size = int(self._fields[seeded])
            twin._keep(kept, np.empty_like(self._arrays[kept]))
            twin._arrays[kept][:size] = self._arrays[kept][:size]
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
            rest = _address(ends) + done * ends.itemsize
            written = self._encode(
                data, len(data), start, rest, count - done, _address(self._out), _address(self._fields)
            )
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
        merge that crosses. And neighbours
        that merging made are compatible, by the same argument.

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
        count = load_kernel("encode.merge_pretoken")(data, start, end - start, _address(self._fields))
        return self._arrays[field.TOKENS][:count].copy()

    def _make_space(self, longest: int) -> None:
        """Working space for pretokens of up to `longest` bytes."""
        for place in (field.TOKENS, field.BEFORE, field.AFTER):
            self._keep(place, np.empty(longest, np.int32))
        self._keep(field.KEYS, np.empty(longest + longest // 32 + 256, np.uint32))
        self._set({field.SPACE: longest})

    def _keep(self, place: int, array: NDArray[Any]) -> None:
        self._arrays[place] = array
        self._fields[place] = _address(array)

    def _set(self, values: dict[int, int]) -> None:
        for place, value in values.items():
            self._fields[place] = value


def joined(blocks: Sequence[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """Blocks of ids as one array."""
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.uint32), *blocks])


def _address(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)
