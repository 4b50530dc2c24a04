"""The corpus as training sees it: all words one behind the other in one array of places.

    place     0  1  2  3  4  5  6  7  8
    token     .  h  e  l  l  o  .  h  i  .      ( . is EMPTY, between two words)

A token of n bytes has n places and is written in its first and its last, so both neighbours of a token are one step
away and nothing is ever moved. Two neighbours meet at a border, which is the place where the right one begins. A place
is a row of two int32:

    rows[2 * place]        the token
    rows[2 * place + 1]    at a border: the number of the pair that meets there, or RARE, or OVERLAPPED

Words stand in order of how often they occur, so that words of equal count are a group, and the count of a place is that
of its group. Short groups are in front, where few places are; `first_groups` says where to begin looking.
"""

from atomiclm.tokenizer.compiled.language import Int32s, Int64s, UInt8s, inline, int64, kernel
from atomiclm.tokenizer.compiled.trainer_fields import BLOCK_BITS

EMPTY = -1
RARE = -1
OVERLAPPED = -2


@inline
def group_at(place: int64, group: int64, group_ends: Int64s, first_groups: Int32s) -> int64:
    """The group of a place, where `group` is that of an earlier one (0 at first)."""
    if place >= group_ends[group]:
        group = int64(first_groups[place >> BLOCK_BITS])
        while place >= group_ends[group]:
            group += 1
    return group


@kernel
def lay_out(data: UInt8s, ends: Int64s, num_words: int64, numbers: UInt8s, rows: Int32s) -> int64:
    """Write words into rows.

    Args:
        data: the bytes of all words.
        ends: where in `data` each word ends.
        num_words: how many there are.
        numbers: the token number of each byte.
        rows: room for all bytes, one EMPTY behind each word and one in front.

    Returns:
        How many places there are.
    """
    rows[0] = EMPTY
    rows[1] = RARE
    place = int64(1)
    byte = int64(0)
    for word in range(num_words):
        while byte < ends[word]:
            rows[2 * place] = int64(numbers[data[byte]])
            rows[2 * place + 1] = RARE
            place += 1
            byte += 1
        rows[2 * place] = EMPTY
        rows[2 * place + 1] = RARE
        place += 1
    return place
