"""The merges of one pretoken, lowest rank first: `encode.encode_heap`, compiled.

Instead of a heap there is a tournament among blocks of sixty-four keys, of which a processor finds the smallest in a
few instructions. Every position where a token begins has a slot in the last level, with the rank of the pair that
begins there and the slot's number in its block in the lowest six bits. The smallest key of block b goes up to slot
b - 1, with that slot's number, and so on up to block 0, where the winner is. So the usual pretoken (at most sixty-four
bytes) is one block, and one of a million bytes has four levels.

    block 0           slots 0..63: the smallest keys of the blocks 1..64
    blocks 1..64      slots 64..4159: those of the blocks 65..4160; or the positions, if they are at most 4,096
    ...

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
    keys: UInt32s  # the tournament; 2 * size + size / 32 + 256 slots are enough


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
def key_at(rank: int64, slot: int64) -> uint32:
    """The key of a slot; NO_KEY where there is no rank."""
    return uint32(NO_KEY) if rank == NO_TOKEN else uint32(rank << 6 | (slot & 63))


@inline
def smallest(keys: UInt32s, block: int64) -> int64:
    """The smallest key of a block; a plain loop, which LLVM turns into vector instructions."""
    best = uint32(NO_KEY)
    for slot in range(block << 6, (block << 6) + 64):
        best = min(best, keys[slot])
    return int64(best)


@inline
def raise_smallest(keys: UInt32s, block: int64) -> int64:
    """Bring the smallest key of a block up to its slot; whether that changed anything."""
    best = smallest(keys, block)
    key = uint32(NO_KEY) if best == NO_KEY else uint32(best >> 6 << 6 | ((block - 1) & 63))
    changed = keys[block - 1] != key
    keys[block - 1] = key
    return int64(changed)


@inline
def set_key(keys: UInt32s, slot: int64, key: uint32) -> int64:
    """Give a slot another key, and bring up what it changes."""
    keys[slot] = key
    block = slot >> 6
    while block > 0 and raise_smallest(keys, block):
        block = (block - 1) >> 6
    return block


@inline
def apply_merges(size: int64, merger: Merger) -> int64:
    """Merge `tokens[:size]`, the bytes of a pretoken (at least one); returns how many are left, at the front."""
    tokens, before, after, keys = merger.tokens, merger.before, merger.after, merger.keys
    first = int64(0)  # the slot of position 0
    room = int64(64)
    while room < size:
        first += room
        room <<= 6
    blocks = (first + size + 63) >> 6
    for slot in range(blocks << 6):
        keys[slot] = uint32(NO_KEY)
    for position in range(size):
        before[position] = int32(position - 1)
        after[position] = int32(position + 1)
    for position in range(size - 1):
        rank = int64(merger.byte_ranks[int64(tokens[position]) << 8 | int64(tokens[position + 1])])
        keys[first + position] = key_at(rank, position)
    for block in range(blocks - 1, 0, -1):
        raise_smallest(keys, block)
    left_over = size
    while True:
        best = smallest(keys, int64(0))
        if best == NO_KEY:
            break
        slot = best & 63
        while slot < first:
            best = smallest(keys, slot + 1)
            slot = (slot + 1) << 6 | (best & 63)
        position = slot - first
        right = int64(after[position])
        new = 256 + (best >> 6)
        tokens[position] = int32(new)
        left_over -= 1
        beyond = int64(after[right])
        after[position] = int32(beyond)
        set_key(keys, first + right, uint32(NO_KEY))
        rank = int64(NO_TOKEN)
        if beyond < size:
            before[beyond] = int32(position)
            rank = rank_of(new, int64(tokens[beyond]), merger)
        set_key(keys, slot, key_at(rank, slot))
        ahead = int64(before[position])
        if ahead >= 0:
            set_key(keys, first + ahead, key_at(rank_of(int64(tokens[ahead]), new, merger), ahead))
    position = int64(0)
    for index in range(left_over):
        tokens[index] = tokens[position]
        position = int64(after[position])
    return left_over
