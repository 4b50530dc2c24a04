"""How often each pretoken occurs: a hash table that is made for nothing else.

The different pretokens, here called words, are numbered in the order in which they appear: `keys` and `counts` are
arrays in that order, so the frequent words, which come early in any text, stand close together. The table itself holds
for each word only 32 bits of its hash and its number + 1 (0 is an empty slot). A word is looked for from the slot that
its hash names onwards; the table is never more than half full, so that is a step or two.

A short word is its own key (see `pretoken_keys.py`). The second number of a long one's key is LONG plus the offset in
`long_words` at which its length and its bytes are stored.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atomiclm.cli import UserError
from atomiclm.tokenizer.constants import MAX_COUNT
from atomiclm.tokenizer.fast.kernel import Kernel, inline
from atomiclm.tokenizer.fast.language import Int64s, UInt8s, UInt64s, int64, load64, uint64
from atomiclm.tokenizer.fast.pretoken_keys import (
    ALL_BITS,
    LONG,
    LONGEST_SHORT,
    bytes_at,
    hash_bytes,
    mix,
    same_bytes,
)

FIRST_WORDS = 1 << 14
FIRST_LONG_BYTES = 1 << 16
"""Room that a counter begins with; it doubles when it runs out."""

(
    NUM_WORDS,  # different pretokens so far
    LONG_USED,  # bytes used of the store of long pretokens
    NUM_BYTES,  # bytes of all different pretokens together
    BEGIN,  # where the first pretoken begins that is not yet counted
    NUM_FIELDS,
) = range(5)

LENGTH_BYTES = 8  # a long word is stored as its length, in so many bytes, and its bytes
HASH_HALF = 0xFFFFFFFF << 32  # the half of the hash that a slot holds; the other half says which slot
OFFSET = (1 << 56) - 1  # the part of a long word's second key that is its offset


@inline
def hash_of(low: uint64, high: uint64) -> uint64:
    """The hash of a word, from its key alone."""
    if high >= uint64(LONG):
        return low
    return mix(low, high)


@inline
def store_long(data: UInt8s, start: int64, length: int64, long_words: UInt8s, fields: Int64s) -> uint64:
    """Store a long word; returns the second number of its key."""
    offset = fields[LONG_USED]
    for index in range(LENGTH_BYTES):
        long_words[offset + index] = (length >> 8 * index) & 255
    for index in range(length):
        long_words[offset + LENGTH_BYTES + index] = data[start + index]
    fields[LONG_USED] = offset + LENGTH_BYTES + length
    return uint64(LONG) | uint64(offset)


@inline
def same_long(data: UInt8s, start: int64, length: int64, high: uint64, long_words: UInt8s) -> int64:
    """Whether a key's second number belongs to a long word and that is the one at hand."""
    if high < uint64(LONG):
        return 0
    offset = int64(high & uint64(OFFSET))
    if int64(load64(long_words, offset)) != length:
        return 0
    return same_bytes(data, start, long_words, offset + LENGTH_BYTES, length)


@Kernel
def count(
    data: UInt8s,
    size: int64,
    ends: Int64s,
    num_pretokens: int64,
    first: int64,
    weight: int64,
    slots: UInt64s,
    num_slots: int64,
    keys: UInt64s,
    counts: Int64s,
    words_room: int64,
    long_words: UInt8s,
    long_room: int64,
    fields: Int64s,
) -> int64:
    """Count pretokens that stand one behind the other.

    Args:
        data: the text.
        size: how many bytes of it may be read.
        ends: where each pretoken ends. The first to be counted begins at `fields[BEGIN]`; empty ones are skipped.
        num_pretokens: how many ends there are.
        first: which of them is the first to be counted.
        weight: how often each of them counts.
        slots: the table; `num_slots` is a power of two and at least twice `words_room`.
        num_slots: see `slots`.
        keys: two numbers for each word.
        counts: one number for each word.
        words_room: how many words there is room for.
        long_words: the store of long words.
        long_room: its size.
        fields: see `NUM_FIELDS` and those before it.

    Returns:
        The first pretoken that is not counted: `num_pretokens`, or one for which there was no room.
    """
    mask = uint64(num_slots - 1)
    start = fields[BEGIN]
    index = first
    while index < num_pretokens:
        end = ends[index]
        length = end - start
        if length <= 0:
            index += 1
            continue
        is_long = length > LONGEST_SHORT
        if is_long:
            low = hash_bytes(data, start, length, size)
            high = uint64(LONG)
        elif start + 16 <= size:
            # The same as below without a branch on the length, which no processor could foresee.
            in_low = min(length, int64(8))
            low = load64(data, start) & (uint64(ALL_BITS) >> uint64(64 - 8 * in_low))
            high = load64(data, start + 8) & ~(uint64(ALL_BITS) << uint64(8 * (length - in_low)))
            high |= uint64(length) << uint64(56)
        else:
            low = bytes_at(data, start, min(length, int64(8)), size)
            high = bytes_at(data, start + 8, length - 8, size) | uint64(length) << uint64(56)
        hashed = hash_of(low, high)
        slot = hashed & mask
        while True:
            entry = slots[int64(slot)]
            if entry == uint64(0):
                word = fields[NUM_WORDS]
                if word >= words_room or (is_long and fields[LONG_USED] + LENGTH_BYTES + length > long_room):
                    fields[BEGIN] = start
                    return index
                if is_long:
                    high = store_long(data, start, length, long_words, fields)
                keys[2 * word] = low
                keys[2 * word + 1] = high
                counts[word] = weight
                slots[int64(slot)] = (hashed & uint64(HASH_HALF)) | uint64(word + 1)
                fields[NUM_WORDS] = word + 1
                fields[NUM_BYTES] += length
                break
            if (entry ^ hashed) < uint64(1 << 32):  # the stored half of the hash is the same
                word = int64(entry & uint64(0xFFFFFFFF)) - 1
                other = keys[2 * word + 1]
                same = same_long(data, start, length, other, long_words) if is_long else int64(other == high)
                if same and keys[2 * word] == low:
                    counts[word] += weight
                    break
            slot = (slot + uint64(1)) & mask
        start = end
        index += 1
    fields[BEGIN] = start
    return index


@Kernel
def refill(keys: UInt64s, num_words: int64, slots: UInt64s, num_slots: int64) -> int64:
    """Fill an empty, larger table with the words that are known."""
    mask = uint64(num_slots - 1)
    for word in range(num_words):
        hashed = hash_of(keys[2 * word], keys[2 * word + 1])
        slot = hashed & mask
        while slots[int64(slot)] != uint64(0):
            slot = (slot + uint64(1)) & mask
        slots[int64(slot)] = (hashed & uint64(HASH_HALF)) | uint64(word + 1)
    return num_words


@Kernel
def write_words(
    keys: UInt64s, order: Int64s, num_words: int64, long_words: UInt8s, data: UInt8s, ends: Int64s
) -> int64:
    """Write the words one behind the other: word `order[0]` first, its bytes to `data`, where they end to `ends[0]`.

    Returns:
        How many bytes were written.
    """
    written = int64(0)
    for word in range(num_words):
        low = keys[2 * order[word]]
        high = keys[2 * order[word] + 1]
        if high >= uint64(LONG):
            offset = int64(high & uint64(OFFSET))
            length = int64(load64(long_words, offset))
            for index in range(length):
                data[written + index] = long_words[offset + LENGTH_BYTES + index]
        else:
            length = int64(high >> uint64(56))
            for index in range(min(length, int64(8))):
                data[written + index] = (low >> uint64(8 * index)) & uint64(255)
            for index in range(8, length):
                data[written + index] = (high >> uint64(8 * (index - 8))) & uint64(255)
        written += length
        ends[word] = written
    return written


@dataclass(frozen=True)
class Words:
    """Different pretokens and how often each occurs, the most frequent first; of equally frequent ones, in any order.

    Attributes:
        data: their bytes, one behind the other.
        ends: where each of them ends in `data`.
        counts: how often each occurs, at least once.
        total_bytes: the bytes of all, each as often as it occurs.
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]
    counts: NDArray[np.int64]
    total_bytes: int

    def __len__(self) -> int:
        return len(self.counts)


class PretokenCounter:
    """Counts pretokens, in 64 bits; memory grows with the different pretokens alone."""

    def __init__(self) -> None:
        self.total_bytes = 0
        """The bytes of all that was counted, each as often as it counts."""
        self._keys = np.empty(2 * FIRST_WORDS, np.uint64)
        self._counts = np.empty(FIRST_WORDS, np.int64)
        self._slots = np.zeros(2 * FIRST_WORDS, np.uint64)
        self._long_words = np.empty(FIRST_LONG_BYTES, np.uint8)
        self._fields = np.zeros(NUM_FIELDS, np.int64)

    def __len__(self) -> int:
        """How many different pretokens were counted."""
        return int(self._fields[NUM_WORDS])

    def add(self, data: bytes | NDArray[np.uint8], ends: NDArray[np.int64], weight: int = 1) -> None:
        """Count pretokens that stand one behind the other in `data`.

        Args:
            data: the text; the first pretoken begins with it.
            ends: where each pretoken ends; ascending, none beyond `data`.
            weight: how many times the text occurs in the corpus.

        Raises:
            ValueError: `weight` is less than 1, or the bytes counted come to more than 2^63 - 1.
        """
        if not len(ends):
            return
        if weight < 1:
            raise ValueError(f"weight: {weight} must be at least 1; leave out text that is not to be counted")
        assert 0 <= ends[-1] <= len(data)
        assert ends.dtype == np.int64 and ends.flags.c_contiguous, "a kernel gets the bare address"
        total = self.total_bytes + int(ends[-1]) * weight
        if total > MAX_COUNT:
            raise UserError(
                f"weight: {total} bytes are counted, more than 2^63 - 1; divide all weights by a common number"
            )
        self._fields[BEGIN] = done = 0
        while True:
            done = count(
                data, len(data), ends, len(ends), done, weight, self._slots, len(self._slots),
                self._keys, self._counts, len(self._counts), self._long_words, len(self._long_words), self._fields,
            )  # fmt: skip
            if done == len(ends):
                break
            if len(self) == len(self._counts):
                self._make_room_for_words()
            else:
                needed = int(self._fields[LONG_USED] + ends[done] - self._fields[BEGIN]) + LENGTH_BYTES
                self._long_words = _longer(self._long_words, max(2 * len(self._long_words), needed))
        self.total_bytes = total

    def _make_room_for_words(self) -> None:
        room = 2 * len(self._counts)
        self._keys = _longer(self._keys, 2 * room)
        self._counts = _longer(self._counts, room)
        self._slots = np.zeros(2 * room, np.uint64)
        refill(self._keys, len(self), self._slots, len(self._slots))

    def words(self) -> Words:
        """All pretokens counted, with their counts."""
        counts = self._counts[: len(self)]
        order = np.argsort(-counts, kind="stable")
        data, ends = np.empty(int(self._fields[NUM_BYTES]), np.uint8), np.empty(len(self), np.int64)
        write_words(self._keys, order, len(self), self._long_words, data, ends)
        return Words(data, ends, counts[order], self.total_bytes)


def _longer[T: np.generic](array: NDArray[T], size: int) -> NDArray[T]:
    """A copy with more room behind it."""
    longer = np.empty(size, array.dtype)
    longer[: len(array)] = array
    return longer
