"""How often each pretoken occurs: a hash table that is made for nothing else.

The different pretokens, here called words, are numbered from 1 in the order in which they appear, so frequent ones
stand close together in `rows`: three uint64 for each, its key and its count. The table itself holds numbers alone, 0 in
an empty slot; row 0 belongs to no key. A word is looked for from the slot that its key names onwards; the table is at
most half full.

A short word is its own key (see `pretoken_keys.py`). The second number of a long one's key is LONG plus the offset in
`long_words` at which its length and its bytes are stored.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atomiclm.cli import UserError
from atomiclm.tokenizer.constants import MAX_COUNT
from atomiclm.tokenizer.fast.kernel import Int64s, Kernel, UInt8s, UInt32s, UInt64s, flat, inline, int64, load64, uint64
from atomiclm.tokenizer.fast.pretoken_keys import LONG, LONGEST_SHORT, first_slot, key_of, same_bytes

FIRST_SLOT_BITS, FIRST_LONG_BYTES = 15, 1 << 16
"""Room that a counter begins with; it doubles when it runs out."""

LENGTH_BYTES = 8  # a long word is stored as its length, in so many bytes, and its bytes
OFFSET = (1 << 56) - 1  # the part of a long word's second key that is its offset

NUM_WORDS, LONG_USED, NUM_BYTES, BEGIN = range(4)


class Table(NamedTuple):
    """The words so far."""

    slots: UInt32s  # 2^slot_bits
    slot_bits: int64
    rows: UInt64s  # the two numbers of a word's key, and its count; room for half as many as there are slots
    long_words: UInt8s
    long_room: int64
    # The number of words, the bytes used of `long_words`, the bytes of all words together, and where the first pretoken
    # begins that is not yet counted.
    state: Int64s


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
    data: UInt8s, size: int64, ends: Int64s, num_pretokens: int64, first: int64, weight: int64, table: Table
) -> int64:
    """Count pretokens that stand one behind the other, from number `first` on, which begins at `table.state[BEGIN]`.

    `size` bytes of `data` may be read; empty pretokens are skipped. Returns the first pretoken that is not counted:
    `num_pretokens`, or one for which there was no room.
    """
    slots, rows, state = table.slots, table.rows, table.state
    last = (int64(1) << table.slot_bits) - 1
    start = state[BEGIN]
    index = first
    while index < num_pretokens:
        end = ends[index]
        length = end - start
        if length <= 0:
            index += 1
            continue
        is_long = length > LONGEST_SHORT
        low, high = key_of(data, start, length, size)
        slot = first_slot(low, high, table.slot_bits)
        while True:
            word = int64(slots[slot])
            if rows[3 * word] == low:
                other = rows[3 * word + 1]
                if same_long(data, start, length, other, table.long_words) if is_long else int64(other == high):
                    rows[3 * word + 2] += uint64(weight)
                    break
            if word == 0:
                word = state[NUM_WORDS] + 1
                needed = LENGTH_BYTES + length if is_long else 0
                if word > last >> 1 or state[LONG_USED] + needed > table.long_room:
                    state[BEGIN] = start
                    return index
                if is_long:
                    offset = state[LONG_USED]
                    high = uint64(LONG) | uint64(offset)
                    for byte in range(LENGTH_BYTES):
                        table.long_words[offset + byte] = (length >> 8 * byte) & 255
                    for byte in range(length):
                        table.long_words[offset + LENGTH_BYTES + byte] = data[start + byte]
                    state[LONG_USED] = offset + needed
                rows[3 * word], rows[3 * word + 1], rows[3 * word + 2] = low, high, uint64(weight)
                slots[slot] = word
                state[NUM_WORDS] = word
                state[NUM_BYTES] += length
                break
            slot = (slot + 1) & last
        start = end
        index += 1
    state[BEGIN] = start
    return index


@Kernel
def refill(rows: UInt64s, num_words: int64, slots: UInt32s, slot_bits: int64) -> int64:
    """Fill an empty, larger table with the words that are known."""
    last = (int64(1) << slot_bits) - 1
    for word in range(1, num_words + 1):
        slot = first_slot(rows[3 * word], min(rows[3 * word + 1], uint64(LONG)), slot_bits)
        while slots[slot] != 0:
            slot = (slot + 1) & last
        slots[slot] = word
    return num_words


@Kernel
def write_words(
    rows: UInt64s, order: Int64s, num_words: int64, long_words: UInt8s, data: UInt8s, ends: Int64s
) -> int64:
    """Write the words one behind the other, `order[0]` first: their bytes to `data`, where each ends to `ends`."""
    written = int64(0)
    for word in range(num_words):
        low = rows[3 * order[word]]
        high = rows[3 * order[word] + 1]
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
    """Different pretokens and how often each occurs, the most frequent first."""

    data: NDArray[np.uint8]  # their bytes, one behind the other
    ends: NDArray[np.int64]  # where each of them ends in `data`
    counts: NDArray[np.int64]  # how often each occurs, at least once
    total_bytes: int  # of all, each as often as it occurs

    def __len__(self) -> int:
        return len(self.counts)


class PretokenCounter:
    """Counts pretokens, in 64 bits; memory grows with the different pretokens alone."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self._table = Table(
            slots=np.zeros(1 << FIRST_SLOT_BITS, np.uint32),
            slot_bits=FIRST_SLOT_BITS,
            rows=np.zeros(3 << FIRST_SLOT_BITS - 1, np.uint64),
            long_words=np.empty(FIRST_LONG_BYTES, np.uint8),
            long_room=FIRST_LONG_BYTES,
            state=np.zeros(4, np.int64),
        )
        self._addresses = flat(self._table)  # once, for they are many

    def __len__(self) -> int:
        """How many different pretokens were counted."""
        return int(self._table.state[NUM_WORDS])

    def add(self, data: bytes | NDArray[np.uint8], ends: NDArray[np.int64], weight: int = 1) -> None:
        """Count pretokens that stand one behind the other in `data`, from its beginning, `weight` times each.

        Raises:
            ValueError: `weight` is less than 1, or the bytes counted come to more than 2^63 - 1.
        """
        if not len(ends):
            return
        if weight < 1:
            raise ValueError(f"weight: {weight} must be at least 1; leave out text that is not to be counted")
        assert 0 <= ends[-1] <= len(data)
        assert ends.dtype == np.int64, "a kernel gets the bare address"
        assert ends.flags.c_contiguous
        total = self.total_bytes + int(ends[-1]) * weight
        if total > MAX_COUNT:
            raise UserError(
                f"weight: {total} bytes are counted, more than 2^63 - 1; divide all weights by a common number"
            )
        state = self._table.state
        state[BEGIN] = done = 0
        while (done := count(data, len(data), ends, len(ends), done, weight, *self._addresses)) < len(ends):
            table = self._table
            if 2 * len(self) + 2 == len(table.slots):
                bits = table.slot_bits + 1
                slots, rows = np.zeros(1 << bits, np.uint32), _longer(table.rows, 3 << bits - 1)
                refill(rows, len(self), slots, bits)
                self._table = table._replace(slots=slots, slot_bits=bits, rows=rows)
            else:
                room = max(2 * table.long_room, int(state[LONG_USED] + ends[done] - state[BEGIN]) + LENGTH_BYTES)
                self._table = table._replace(long_words=_longer(table.long_words, room), long_room=room)
            self._addresses = flat(self._table)
        self.total_bytes = total

    def add_words(self, words: Words) -> None:
        """Count what another counter has counted."""
        firsts = np.flatnonzero(np.diff(words.counts, prepend=0))  # those that occur equally often stand together
        for first, past in pairwise([*firsts.tolist(), len(words)]):
            start = words.ends[first - 1] if first else 0
            self.add(words.data[start:], words.ends[first:past] - start, int(words.counts[first]))

    def words(self) -> Words:
        """All pretokens counted, with their counts."""
        rows = self._table.rows[3 : 3 * len(self) + 3]
        counts = rows[2::3].astype(np.int64)
        order = np.argsort(-counts)
        data, ends = np.empty(int(self._table.state[NUM_BYTES]), np.uint8), np.empty(len(self), np.int64)
        write_words(rows, order, len(self), self._table.long_words, data, ends)
        return Words(data, ends, counts[order], self.total_bytes)


def _longer[T: np.generic](array: NDArray[T], size: int) -> NDArray[T]:
    """A copy with more room behind it."""
    longer = np.empty(size, array.dtype)
    longer[: len(array)] = array
    return longer
