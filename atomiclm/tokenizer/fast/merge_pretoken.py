"""The merges of one pretoken, lowest rank first: `encode.encode_heap`, compiled.

Instead of a heap there is a tournament. Every position where a token begins holds a key, the rank of the pair that
begins there with the position's number in the lowest six bits; sixty-four keys make a block, whose smallest key goes up
to the next level with the block's number in its lowest six bits, and so on to a single winner. A processor finds the
smallest of sixty-four numbers in a few instructions, so the usual pretoken (at most sixty-four bytes) needs no levels
at all, and one of a million bytes needs three.

    level 0     keys of positions 0..63      keys of positions 64..127     ...
    level 1     smallest of block 0, smallest of block 1, ...
    level 2     ...

Ties cannot be: of equal ranks the leftmost position has the smallest key.
"""

from typing import NamedTuple

from atomiclm.tokenizer.fast.kernel import Int32s, UInt32s, UInt64s, inline, int32, int64, uint32, uint64
from atomiclm.tokenizer.fast.pretoken_keys import MULTIPLIER

TOKEN_BITS = 21
"""Token numbers are below 2^21, so that a pair and its rank fit into one 64-bit entry of the table of pairs."""
NO_TOKEN = (1 << TOKEN_BITS) - 1
NO_KEY = 0xFFFFFFFF
EMPTY_ENTRY = 0xFFFFFFFFFFFFFFFF


class Merger(NamedTuple):
    """What the merges are, and working space for one pretoken."""

    byte_ranks: UInt32s  # the rank of each of the 65,536 pairs of bytes
    pairs: UInt64s  # the ranks of all other pairs: 2^pair_bits entries of left, right and rank, by open addressing
    pair_bits: int64
    ids: UInt32s  # of each token number
    tokens: Int32s  # as many as the pretoken has bytes, and so the next two
    before: Int32s  # the position of the token to the left
    after: Int32s  # the position of the token to the right
    keys: UInt32s  # all levels of the tournament; size + size / 32 + 256 positions are enough


@inline
def pair_slot(left: int64, right: int64, pair_bits: int64) -> int64:
    """Where the search for a pair begins."""
    key = uint64(left) << uint64(TOKEN_BITS) | uint64(right)
    return int64((key * uint64(MULTIPLIER)) >> uint64(64 - pair_bits))


@inline
def rank_of(left: int64, right: int64, merger: Merger) -> int64:
    """The rank of a pair, or NO_TOKEN."""
    if left < 256 and right < 256:
        return int64(merger.byte_ranks[left << 8 | right])
    key = uint64(left) << uint64(TOKEN_BITS) | uint64(right)
    last = (int64(1) << merger.pair_bits) - 1
    slot = pair_slot(left, right, merger.pair_bits)
    while True:
        entry = merger.pairs[slot]
        if entry >> uint64(TOKEN_BITS) == key:
            return int64(entry & uint64(NO_TOKEN))
        if entry == uint64(EMPTY_ENTRY):
            return int64(NO_TOKEN)
        slot = (slot + 1) & last


@inline
def smallest(keys: UInt32s, first: int64, past: int64) -> int64:
    """The smallest of `keys[first:past]`; a plain loop, which LLVM turns into vector instructions."""
    best = uint32(NO_KEY)
    for position in range(first, past):
        best = min(best, keys[position])
    return int64(best)


@inline
def key_at(rank: int64, position: int64) -> uint32:
    """A rank and the last six bits of a position; NO_KEY where there is no rank."""
    return uint32(NO_KEY) if rank == NO_TOKEN else uint32(rank << 6 | (position & 63))


@inline
def raised(keys: UInt32s, first: int64, block: int64) -> uint32:
    """The smallest key of a block of the level that begins at `first`, as it stands in the next level."""
    best = smallest(keys, first + (block << 6), first + (block << 6) + 64)
    return uint32(NO_KEY) if best == NO_KEY else uint32(best >> 6 << 6 | (block & 63))


@inline
def raise_smallest(position: int64, size: int64, keys: UInt32s) -> int64:
    """After a change at `position`: bring the smallest key of its block up, as far as it changes anything.

    Levels lie one behind the other in `keys`, each filled up to a multiple of 64.
    """
    first = int64(0)
    while size > 64:
        position >>= 6
        key = raised(keys, first, position)
        first += (size + 63) >> 6 << 6
        if keys[first + position] == key:
            break
        keys[first + position] = key
        size = (size + 63) >> 6
    return 0


@inline
def winner(size: int64, keys: UInt32s) -> int64:
    """The position of the smallest key with its rank: `rank << 32 | position`; -1 when no pair is left."""
    first = int64(0)
    level_size = size
    levels = int64(0)
    while level_size > 64:
        first += (level_size + 63) >> 6 << 6
        level_size = (level_size + 63) >> 6
        levels += 1
    best = smallest(keys, first, first + level_size)
    if best == NO_KEY:
        return int64(-1)
    position = best & 63
    for level in range(levels - 1, -1, -1):  # down again: the winner of each block knows its position in it
        first = int64(0)
        level_size = size
        for _ in range(level):
            first += (level_size + 63) >> 6 << 6
            level_size = (level_size + 63) >> 6
        best = smallest(keys, first + (position << 6), first + (position << 6) + 64)
        position = position << 6 | (best & 63)
    return best >> 6 << 32 | position


@inline
def apply_merges(size: int64, merger: Merger) -> int64:
    """Merge `tokens[:size]`, the bytes of a pretoken (at least one); returns how many are left, at the front."""
    tokens, before, after, keys = merger.tokens, merger.before, merger.after, merger.keys
    for position in range(size):
        before[position] = int32(position - 1)
        after[position] = int32(position + 1)
    for position in range(size - 1):
        rank = int64(merger.byte_ranks[int64(tokens[position]) << 8 | int64(tokens[position + 1])])
        keys[position] = key_at(rank, position)
    keys[size - 1] = uint32(NO_KEY)
    first = int64(0)
    level_size = size
    while level_size > 64:
        blocks = (level_size + 63) >> 6
        for position in range(first + level_size, first + (blocks << 6)):
            keys[position] = uint32(NO_KEY)
        for block in range(blocks):
            keys[first + (blocks << 6) + block] = raised(keys, first, block)
        first += blocks << 6
        level_size = blocks
    left_over = size
    while True:
        found = winner(size, keys)
        if found < 0:
            break
        position = found & 0xFFFFFFFF
        right = int64(after[position])
        new = 256 + (found >> 32)
        tokens[position] = int32(new)
        left_over -= 1
        beyond = int64(after[right])
        after[position] = int32(beyond)
        keys[right] = uint32(NO_KEY)
        rank = int64(NO_TOKEN)
        if beyond < size:
            before[beyond] = int32(position)
            rank = rank_of(new, int64(tokens[beyond]), merger)
        keys[position] = key_at(rank, position)
        ahead = int64(before[position])
        if ahead >= 0:
            keys[ahead] = key_at(rank_of(int64(tokens[ahead]), new, merger), ahead)
        if size > 64:
            raise_smallest(right, size, keys)
            raise_smallest(position, size, keys)
            if ahead >= 0:
                raise_smallest(ahead, size, keys)
    position = int64(0)
    for index in range(left_over):
        tokens[index] = tokens[position]
        position = int64(after[position])
    return left_over
