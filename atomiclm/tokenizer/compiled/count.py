"""How often each pretoken occurs: a hash table that is made for nothing else.

The different pretokens, here called words, are numbered in the order in which they appear: `keys` and `counts` are
arrays in that order, so the frequent words, which come early in any text, stand close together. The table itself holds
for each word only 32 bits of its hash and its number + 1 (0 is an empty slot). A word is looked for from the slot that
its hash names onwards; the table is never more than half full, so that is a step or two.

A short word is its own key (see `pretoken_keys.py`). The second number of a long one's key is LONG plus the place in
`long_words` where its length and its bytes are kept.
"""

from atomiclm.tokenizer.compiled.counter_fields import BEGIN, LENGTH_BYTES, LONG_USED, NUM_BYTES, NUM_WORDS
from atomiclm.tokenizer.compiled.language import (
    Int64s,
    UInt8s,
    UInt64s,
    inline,
    int64,
    kernel,
    load64,
    uint64,
)
from atomiclm.tokenizer.compiled.pretoken_keys import (
    ALL_BITS,
    LONG,
    LONGEST_SHORT,
    bytes_at,
    hash_bytes,
    mix,
    same_bytes,
)

HASH_HALF = 0xFFFFFFFF << 32  # the half of the hash that a slot holds; the other half says which slot
PLACE = (1 << 56) - 1  # the part of a long word's second key that is a place


@inline
def hash_of(low: uint64, high: uint64) -> uint64:
    """The hash of a word, from its key alone."""
    if high >= uint64(LONG):
        return low
    return mix(low, high)


@inline
def keep_long(data: UInt8s, start: int64, length: int64, long_words: UInt8s, fields: Int64s) -> uint64:
    """Store a long word; returns the second number of its key."""
    place = fields[LONG_USED]
    for index in range(LENGTH_BYTES):
        long_words[place + index] = (length >> 8 * index) & 255
    for index in range(length):
        long_words[place + LENGTH_BYTES + index] = data[start + index]
    fields[LONG_USED] = place + LENGTH_BYTES + length
    return uint64(LONG) | uint64(place)


@inline
def same_long(data: UInt8s, start: int64, length: int64, high: uint64, long_words: UInt8s) -> int64:
    """Whether a key's second number belongs to a long word and that is the one at hand."""
    if high < uint64(LONG):
        return 0
    place = int64(high & uint64(PLACE))
    if int64(load64(long_words, place)) != length:
        return 0
    return same_bytes(data, start, long_words, place + LENGTH_BYTES, length)


@kernel
def count(
    data: UInt8s,
    size: int64,
    ends: Int64s,
    num_pretokens: int64,
    first: int64,
    weights: Int64s,
    step: int64,
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
        weights: pretoken i counts `weights[i * step]` times.
        step: 1, or 0 for one weight for all.
        slots: the table; `num_slots` is a power of two and at least twice `words_room`.
        num_slots: see `slots`.
        keys: two numbers for each word.
        counts: one number for each word.
        words_room: how many words there is room for.
        long_words: the store of long words.
        long_room: its size.
        fields: see `counter_fields.py`.

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
                    high = keep_long(data, start, length, long_words, fields)
                keys[2 * word] = low
                keys[2 * word + 1] = high
                counts[word] = weights[index * step]
                slots[int64(slot)] = (hashed & uint64(HASH_HALF)) | uint64(word + 1)
                fields[NUM_WORDS] = word + 1
                fields[NUM_BYTES] += length
                break
            if (entry ^ hashed) < uint64(1 << 32):  # the kept half of the hash is the same
                word = int64(entry & uint64(0xFFFFFFFF)) - 1
                other = keys[2 * word + 1]
                same = same_long(data, start, length, other, long_words) if is_long else int64(other == high)
                if same and keys[2 * word] == low:
                    counts[word] += weights[index * step]
                    break
            slot = (slot + uint64(1)) & mask
        start = end
        index += 1
    fields[BEGIN] = start
    return index


@kernel
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


@kernel
def spell(keys: UInt64s, order: Int64s, num_words: int64, long_words: UInt8s, data: UInt8s, ends: Int64s) -> int64:
    """Write the words one behind the other: word `order[0]` first, its bytes to `data`, where they end to `ends[0]`.

    Returns:
        How many bytes were written.
    """
    written = int64(0)
    for index in range(num_words):
        low = keys[2 * order[index]]
        high = keys[2 * order[index] + 1]
        if high >= uint64(LONG):
            place = int64(high & uint64(PLACE))
            length = int64(load64(long_words, place))
            for offset in range(length):
                data[written + offset] = long_words[place + LENGTH_BYTES + offset]
        else:
            length = int64(high >> uint64(56))
            for offset in range(min(length, int64(8))):
                data[written + offset] = (low >> uint64(8 * offset)) & uint64(255)
            for offset in range(8, length):
                data[written + offset] = (high >> uint64(8 * (offset - 8))) & uint64(255)
        written += length
        ends[index] = written
    return written
