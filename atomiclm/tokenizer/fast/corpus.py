"""The corpus as training sees it: all words one behind the other in one array of positions.

    position     0  1  2  3  4  5  6  7  8
    token     .  h  e  l  l  o  .  h  i  .      ( . is EMPTY, between two words)

A token of n bytes has n positions and is written in its first and its last, so both neighbours of a token are one step
away and nothing is ever moved. Two neighbours meet at a border, which is the position where the right one begins. A
position is a row of two int32:

    rows[2 * position]        the token
    rows[2 * position + 1]    at a border: the number of the pair that meets there, or RARE, or OVERLAPPED

Words stand in order of how often they occur, so that words of equal count are a group, and the count of a position is
that of its group. Short groups are in front, where few positions are; `first_groups` says where to begin looking.
"""

from atomiclm.tokenizer.fast.kernel import Kernel, inline
from atomiclm.tokenizer.fast.language import Int32s, Int64s, UInt8s, int64

BLOCK_BITS = 6
"""`first_groups` has an entry for every 2^6 positions."""

EMPTY = -1
RARE = -1
OVERLAPPED = -2


@inline
def group_at(position: int64, group: int64, group_ends: Int64s, first_groups: Int32s) -> int64:
    """The group of a position, where `group` is that of an earlier one (0 at first)."""
    if position >= group_ends[group]:
        group = int64(first_groups[position >> BLOCK_BITS])
        while position >= group_ends[group]:
            group += 1
    return group


@Kernel
def lay_out(data: UInt8s, ends: Int64s, num_words: int64, numbers: UInt8s, rows: Int32s) -> int64:
    """Write words into rows.

    Args:
        data: the bytes of all words.
        ends: where in `data` each word ends.
        num_words: how many there are.
        numbers: the token number of each byte.
        rows: room for all bytes, one EMPTY behind each word and one in front.

    Returns:
        How many positions there are.
    """
    rows[0] = EMPTY
    rows[1] = RARE
    position = int64(1)
    byte = int64(0)
    for word in range(num_words):
        while byte < ends[word]:
            rows[2 * position] = int64(numbers[data[byte]])
            rows[2 * position + 1] = RARE
            position += 1
            byte += 1
        rows[2 * position] = EMPTY
        rows[2 * position + 1] = RARE
        position += 1
    return position
