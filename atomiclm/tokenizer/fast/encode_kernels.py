"""From cut text to ids: look each pretoken up in a cache, merge those that are not there.

The cache is a table with open addressing. A row is four uint64, so two rows share a cache line:

    [ key, key, ids, ids ]

A pretoken of at most 15 bytes is its own key (see `pretoken_keys.py`). A longer one has a hash, its length and an
offset in `stored_bytes`, and its bytes are compared. Up to three ids stand in the row with their number, more in
`stored_ids`. Three ids are written whatever their number, which is cheaper than deciding.

A new encoder's cache holds every token that is encoded as itself, so only rarer words need merging, once.
"""

from typing import NamedTuple

from atomiclm.tokenizer.constants import CACHE_PRETOKEN_BYTES
from atomiclm.tokenizer.fast.kernel import (
    Int64s,
    Kernel,
    UInt8s,
    UInt32s,
    UInt64s,
    inline,
    int32,
    int64,
    uint32,
    uint64,
)
from atomiclm.tokenizer.fast.merge_pretoken import EMPTY_ENTRY, TOKEN_BITS, Merger, apply_merges, pair_slot
from atomiclm.tokenizer.fast.pretoken_keys import LONGEST_SHORT, first_slot, key_of, same_bytes

PROBES = 32
"""A search ends after this many rows. Ordinary text needs one or two; text made to collide only loses its cache."""


class Cache(NamedTuple):
    """Pretokens and their ids."""

    rows: UInt64s  # 2^row_bits rows of four
    row_bits: int64
    stored_bytes: UInt8s  # of pretokens that do not fit into a row
    bytes_room: int64
    stored_ids: UInt32s  # of pretokens that have more than three
    ids_room: int64
    longest: int64  # longer pretokens are not looked up; those longer than CACHE_PRETOKEN_BYTES are not taken in
    used: Int64s  # how many rows, stored bytes and stored ids are used
    seeded_rows: UInt64s  # the rows as they were when the encoder was new, to begin again with
    seeded_used: Int64s


@inline
def cache_key(data: UInt8s, start: int64, length: int64, size: int64) -> tuple[uint64, uint64]:
    """The key of a pretoken, which holds the length of a long one and has room for its offset."""
    key, other = key_of(data, start, length, size)
    if length > LONGEST_SHORT:
        other |= uint64(length) << uint64(32)
    return key, other


@inline
def find(data: UInt8s, start: int64, length: int64, key: uint64, other: uint64, cache: Cache) -> int64:
    """The row of a pretoken, or -1."""
    rows = cache.rows
    last = (int64(1) << cache.row_bits) - 1
    row = first_slot(key, other, cache.row_bits)
    for _ in range(PROBES):
        known = rows[4 * row + 1]
        same = known == other
        if length > LONGEST_SHORT and known >> uint64(32) == other >> uint64(32):
            offset = int64(known & uint64(0xFFFFFFFF))
            same = rows[4 * row] == key and same_bytes(data, start, cache.stored_bytes, offset, length)
        if same and rows[4 * row] == key:
            return row
        if known == uint64(0):
            break
        row = (row + 1) & last
    return int64(-1)


@inline
def remember(
    data: UInt8s, start: int64, length: int64, key: uint64, other: uint64, ids: UInt32s, at: int64, count: int64,
    cache: Cache,
) -> int64:  # fmt: skip
    """Take a pretoken and its ids, `ids[at:at + count]`, into the cache."""
    rows, used = cache.rows, cache.used
    too_full = used[0] * 4 >= int64(3) << cache.row_bits
    too_full |= used[1] + length > cache.bytes_room
    too_full |= used[2] + count > cache.ids_room
    if too_full:  # begin again with what the cache was born with
        for index in range(int64(4) << cache.row_bits):
            rows[index] = cache.seeded_rows[index]
        for index in range(3):
            used[index] = cache.seeded_used[index]
    last = (int64(1) << cache.row_bits) - 1
    row = first_slot(key, other, cache.row_bits)
    probes = int64(0)
    while rows[4 * row + 1] != uint64(0):
        row = (row + 1) & last
        probes += 1
        if probes == PROBES:
            return 0
    if length > LONGEST_SHORT:
        for index in range(length):
            cache.stored_bytes[used[1] + index] = data[start + index]
        other |= uint64(used[1])
        used[1] += length
    rows[4 * row] = key
    rows[4 * row + 1] = other
    if count <= 3:
        second = uint64(ids[at + 1]) << uint64(32) if count > 1 else uint64(0)
        third = uint64(ids[at + 2]) if count > 2 else uint64(0)
        rows[4 * row + 2] = uint64(ids[at]) | second
        rows[4 * row + 3] = third | uint64(count) << uint64(32)
    else:
        for index in range(count):
            cache.stored_ids[used[2] + index] = ids[at + index]
        rows[4 * row + 2] = uint64(used[2])
        rows[4 * row + 3] = uint64(count) << uint64(32)
        used[2] += count
    used[0] += 1
    return 0


@inline
def merge_new(data: UInt8s, start: int64, length: int64, out: UInt32s, at: int64, merger: Merger) -> int64:
    """Merge a pretoken that is not in the cache and write its ids to `out[at:]`; how many there are."""
    for index in range(length):
        merger.tokens[index] = int32(data[start + index])
    count = apply_merges(length, merger)
    for index in range(count):
        out[at + index] = merger.ids[int64(merger.tokens[index])]
    return count


@Kernel
def encode(
    data: UInt8s, size: int64, begin: int64, ends: Int64s, num_pretokens: int64, stops: Int64s, num_stops: int64,
    out: UInt32s, merger: Merger, cache: Cache,
) -> int64:  # fmt: skip
    """Encode consecutive pretokens, the first of which begins at `begin`; returns how many ids were written to `out`.

    `size` bytes of `data` may be read; `out` has room for as many ids as the pretokens have bytes, and two more. Where
    texts end at `stops`, these become how many ids there are up to each.
    """
    rows = cache.rows
    start = begin
    written = int64(0)
    text = int64(0)
    for index in range(num_pretokens):
        while text < num_stops and stops[text] == start:
            stops[text] = written
            text += 1
        end = ends[index]
        length = end - start
        found = int64(-1)
        key = uint64(0)
        other = uint64(0)
        if length <= cache.longest:
            key, other = cache_key(data, start, length, size)
            found = find(data, start, length, key, other, cache)
        if found >= 0:
            ids = rows[4 * found + 2]
            more = rows[4 * found + 3]
            count = int64(more >> uint64(32))
            if count <= 3:
                out[written] = uint32(ids)
                out[written + 1] = uint32(ids >> uint64(32))
                out[written + 2] = uint32(more)
            else:
                for number in range(count):
                    out[written + number] = cache.stored_ids[int64(ids) + number]
        else:
            count = merge_new(data, start, length, out, written, merger)
            if length <= CACHE_PRETOKEN_BYTES:
                remember(data, start, length, key, other, out, written, count, cache)
        written += count
        start = end
    for last in range(text, num_stops):
        stops[last] = written
    return written


@Kernel
def rank_pairs(lefts: Int64s, rights: Int64s, num_merges: int64, merger: Merger) -> int64:
    """Write the merges, in order of rank, into tables that hold nothing yet (NO_TOKEN, EMPTY_ENTRY)."""
    last = (int64(1) << merger.pair_bits) - 1
    for rank in range(num_merges):
        left, right = lefts[rank], rights[rank]
        if left < 256 and right < 256:
            merger.byte_ranks[left << 8 | right] = uint32(rank)
            continue
        slot = pair_slot(left, right, merger.pair_bits)
        while merger.pairs[slot] != uint64(EMPTY_ENTRY):
            slot = (slot + 1) & last
        merger.pairs[slot] = (uint64(left) << uint64(TOKEN_BITS) | uint64(right)) << uint64(TOKEN_BITS) | uint64(rank)
    return num_merges


@Kernel
def seed(
    data: UInt8s, ends: Int64s, num_tokens: int64, whole_pretokens: int64, out: UInt32s, merger: Merger, cache: Cache
) -> int64:
    """Take tokens into a new encoder's cache: those that are encoded as themselves, or all if `whole_pretokens`.

    `data` has the bytes of all tokens one after the other, and `out` room for the ids of the longest.
    """
    start = int64(0)
    for token in range(num_tokens):
        length = ends[token] - start
        count = merge_new(data, start, length, out, 0, merger)
        itself = count == 1 and out[0] == merger.ids[token]
        if (itself and length <= CACHE_PRETOKEN_BYTES) or (whole_pretokens and length <= cache.longest):
            out[0] = merger.ids[token]
            key, other = cache_key(data, start, length, ends[num_tokens - 1])
            remember(data, start, length, key, other, out, 0, 1, cache)
        start = ends[token]
    return num_tokens
