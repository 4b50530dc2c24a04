"""From cut text to ids: look each pretoken up in a cache, merge those that are not there.

The cache is a table with open addressing. A row is four uint64, so two rows share a cache line:

    [ key, key, ids, ids ]

A pretoken of at most 15 bytes is its own key (see `pretoken_keys.py`), and nothing more is compared. A longer one has a
hash, its length and an offset in `STORED_BYTES`, and its bytes are compared. Up to three ids stand in the row with
their number, more in `STORED_IDS`. Three ids are written whatever their number: writing too much and stepping back is
cheaper than deciding.

A new encoder's cache holds every token that is encoded as itself. So text made of known words needs no merging from the
first byte on; only rarer words do, once.
"""

from atomiclm.tokenizer.fast.kernel import Kernel, inline
from atomiclm.tokenizer.fast.language import (
    Int64s,
    UInt8s,
    UInt32s,
    UInt64s,
    int32,
    int32s_at,
    int64,
    uint8s_at,
    uint32,
    uint32s_at,
    uint64,
    uint64s_at,
)
from atomiclm.tokenizer.fast.merge_pretoken import EMPTY_ENTRY, TOKEN_BITS, apply_merges, pair_slot
from atomiclm.tokenizer.fast.pretoken_keys import LONG, LONGEST_SHORT, bytes_at, hash_bytes, mix, same_bytes

(
    BYTE_RANKS,  # address: rank of each pair of bytes
    PAIRS,  # address: ranks of all other pairs, 2^PAIR_BITS entries
    PAIR_BITS,
    IDS,  # address: the id of each token number
    ROWS,  # address: the cache, 2^ROW_BITS rows of four uint64
    ROW_BITS,
    ROWS_USED,
    STORED_BYTES,  # address: the bytes of cached pretokens that do not fit into a row
    STORED_BYTES_ROOM,
    STORED_BYTES_USED,
    STORED_IDS,  # address: the ids of cached pretokens that have more than three
    STORED_IDS_ROOM,
    STORED_IDS_USED,
    LONGEST_NEW,  # longer pretokens are not taken into the cache
    LONGEST,  # longer pretokens are not looked up
    SEEDED_ROWS,  # address: the rows as they were when the encoder was new, to begin again with
    SEEDED_ROWS_USED,
    SEEDED_BYTES_USED,
    SEEDED_IDS_USED,
    TOKENS,  # addresses: the working space of `merge_pretoken.apply_merges`
    BEFORE,
    AFTER,
    KEYS,
    NUM_FIELDS,
) = range(24)
"""The block of int64 that is an encoder, so that a call has few arguments; `encoder.py` fills it in."""

PROBES = 32
"""A search ends after this many rows. Ordinary text needs one or two; text made to collide only loses its cache."""


@inline
def row_of(key: uint64, other: uint64, row_bits: int64) -> int64:
    """The row where the search for a pretoken begins."""
    return int64(mix(key, other) >> uint64(64 - row_bits))


@inline
def begin_again(fields: Int64s) -> int64:
    """Empty a full cache, but for what it was born with."""
    rows, seeded = uint64s_at(fields[ROWS]), uint64s_at(fields[SEEDED_ROWS])
    for index in range(int64(4) << fields[ROW_BITS]):
        rows[index] = seeded[index]
    fields[ROWS_USED] = fields[SEEDED_ROWS_USED]
    fields[STORED_BYTES_USED] = fields[SEEDED_BYTES_USED]
    fields[STORED_IDS_USED] = fields[SEEDED_IDS_USED]
    return 0


@inline
def remember(
    data: UInt8s, start: int64, length: int64, key: uint64, other: uint64, ids: UInt32s, at: int64, count: int64,
    fields: Int64s,
) -> int64:  # fmt: skip
    """Take a pretoken and its ids, `ids[at:at + count]`, into the cache."""
    row_bits = fields[ROW_BITS]
    too_full = fields[ROWS_USED] * 4 >= int64(3) << row_bits
    too_full |= fields[STORED_BYTES_USED] + length > fields[STORED_BYTES_ROOM]
    too_full |= fields[STORED_IDS_USED] + count > fields[STORED_IDS_ROOM]
    if too_full:
        begin_again(fields)
    rows = uint64s_at(fields[ROWS])
    last = (int64(1) << row_bits) - 1
    row = row_of(key, other, row_bits)
    probes = int64(0)
    while rows[4 * row + 1] != uint64(0):
        row = (row + 1) & last
        probes += 1
        if probes == PROBES:
            return 0
    if length > LONGEST_SHORT:
        stored, offset = uint8s_at(fields[STORED_BYTES]), fields[STORED_BYTES_USED]
        for index in range(length):
            stored[offset + index] = data[start + index]
        other |= uint64(offset)
        fields[STORED_BYTES_USED] = offset + length
    rows[4 * row] = key
    rows[4 * row + 1] = other
    if count <= 3:
        second = uint64(ids[at + 1]) << uint64(32) if count > 1 else uint64(0)
        third = uint64(ids[at + 2]) if count > 2 else uint64(0)
        rows[4 * row + 2] = uint64(ids[at]) | second
        rows[4 * row + 3] = third | uint64(count) << uint64(32)
    else:
        stored_ids, offset = uint32s_at(fields[STORED_IDS]), fields[STORED_IDS_USED]
        for index in range(count):
            stored_ids[offset + index] = ids[at + index]
        rows[4 * row + 2] = uint64(offset)
        rows[4 * row + 3] = uint64(count) << uint64(32)
        fields[STORED_IDS_USED] = offset + count
    fields[ROWS_USED] += 1
    return 0


@inline
def merge_new(data: UInt8s, start: int64, length: int64, out: UInt32s, at: int64, fields: Int64s) -> int64:
    """Merge a pretoken that is not in the cache and write its ids to `out[at:]`; how many there are."""
    tokens = int32s_at(fields[TOKENS])
    for index in range(length):
        tokens[index] = int32(data[start + index])
    count = apply_merges(
        length, tokens, int32s_at(fields[BEFORE]), int32s_at(fields[AFTER]), uint32s_at(fields[KEYS]),
        uint32s_at(fields[BYTE_RANKS]), uint64s_at(fields[PAIRS]), fields[PAIR_BITS],
    )  # fmt: skip
    ids = uint32s_at(fields[IDS])
    for index in range(count):
        out[at + index] = ids[int64(tokens[index])]
    return count


@Kernel
def encode(
    data: UInt8s, size: int64, begin: int64, ends: Int64s, num_pretokens: int64, out: UInt32s, fields: Int64s
) -> int64:
    """Encode consecutive pretokens.

    Args:
        data: the text.
        size: how many bytes of it may be read.
        begin: where the first pretoken begins.
        ends: where each of them ends.
        num_pretokens: how many there are.
        out: room for as many ids as the pretokens have bytes, and two more.
        fields: the encoder; see `NUM_FIELDS` and those before it.

    Returns:
        How many ids were written.
    """
    rows, row_bits = uint64s_at(fields[ROWS]), fields[ROW_BITS]
    last = (int64(1) << row_bits) - 1
    longest = fields[LONGEST]
    start = begin
    written = int64(0)
    for index in range(num_pretokens):
        end = ends[index]
        length = end - start
        found = int64(-1)
        key = uint64(0)
        other = uint64(0)
        if length <= LONGEST_SHORT:
            key = bytes_at(data, start, min(length, int64(8)), size)
            other = bytes_at(data, start + 8, length - 8, size) | uint64(length) << uint64(56)
            row = row_of(key, other, row_bits)
            for _ in range(PROBES):
                known = rows[4 * row + 1]
                if known == other and rows[4 * row] == key:
                    found = row
                    break
                if known == uint64(0):
                    break
                row = (row + 1) & last
        elif length <= longest:
            key = hash_bytes(data, start, length, size)
            other = uint64(LONG) | uint64(length) << uint64(32)
            stored = uint8s_at(fields[STORED_BYTES])
            row = row_of(key, other, row_bits)
            for _ in range(PROBES):
                known = rows[4 * row + 1]
                same = known >> uint64(32) == other >> uint64(32) and rows[4 * row] == key
                if same and same_bytes(data, start, stored, int64(known & uint64(0xFFFFFFFF)), length):
                    found = row
                    break
                if known == uint64(0):
                    break
                row = (row + 1) & last
        if found >= 0:
            ids = rows[4 * found + 2]
            more = rows[4 * found + 3]
            count = int64(more >> uint64(32))
            if count <= 3:
                out[written] = uint32(ids)
                out[written + 1] = uint32(ids >> uint64(32))
                out[written + 2] = uint32(more)
            else:
                stored_ids = uint32s_at(fields[STORED_IDS])
                for number in range(count):
                    out[written + number] = stored_ids[int64(ids) + number]
            written += count
        else:
            count = merge_new(data, start, length, out, written, fields)
            if length <= fields[LONGEST_NEW]:
                remember(data, start, length, key, other, out, written, count, fields)
            written += count
        start = end
    return written


@Kernel
def rank_pairs(
    lefts: Int64s, rights: Int64s, num_merges: int64, byte_ranks: UInt32s, table: UInt64s, table_bits: int64
) -> int64:
    """Write the merges, in order of rank, into tables that hold nothing yet (NO_TOKEN, EMPTY_ENTRY)."""
    last = (int64(1) << table_bits) - 1
    for rank in range(num_merges):
        left, right = lefts[rank], rights[rank]
        if left < 256 and right < 256:
            byte_ranks[left << 8 | right] = uint32(rank)
            continue
        slot = pair_slot(left, right, table_bits)
        while table[slot] != uint64(EMPTY_ENTRY):
            slot = (slot + 1) & last
        table[slot] = (uint64(left) << uint64(TOKEN_BITS) | uint64(right)) << uint64(TOKEN_BITS) | uint64(rank)
    return num_merges


@Kernel
def seed(data: UInt8s, ends: Int64s, num_tokens: int64, whole_pretokens: int64, out: UInt32s, fields: Int64s) -> int64:
    """Take tokens into a new encoder's cache: those that are encoded as themselves, or all if `whole_pretokens`.

    Args:
        data: the bytes of all tokens, one after the other.
        ends: where each ends.
        num_tokens: how many there are; no two of them have the same bytes.
        whole_pretokens: whether a pretoken that is a token becomes it without any merging.
        out: room for as many ids as the longest token has bytes.
        fields: the encoder.

    Returns:
        How many tokens are encoded as themselves.
    """
    ids = uint32s_at(fields[IDS])
    size = ends[num_tokens - 1]
    start = int64(0)
    themselves = int64(0)
    for token in range(num_tokens):
        end = ends[token]
        length = end - start
        count = merge_new(data, start, length, out, 0, fields)
        itself = count == 1 and out[0] == ids[token]
        themselves += int64(itself)
        if (itself and length <= fields[LONGEST_NEW]) or (whole_pretokens and length <= fields[LONGEST]):
            out[0] = ids[token]
            key = uint64(0)
            other = uint64(0)
            if length <= LONGEST_SHORT:
                key = bytes_at(data, start, min(length, int64(8)), size)
                other = bytes_at(data, start + 8, length - 8, size) | uint64(length) << uint64(56)
            else:
                key = hash_bytes(data, start, length, size)
                other = uint64(LONG) | uint64(length) << uint64(32)
            remember(data, start, length, key, other, out, 0, 1, fields)
        start = end
    return themselves
