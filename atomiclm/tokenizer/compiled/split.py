"""The kernel that cuts text into pretokens: what `SplitPattern.split` does, on bytes."""

from atomiclm.tokenizer.compiled.classes import CL100K, GPT2, GPT4, O200K
from atomiclm.tokenizer.compiled.language import Int64s, UInt8s, inline, int64, kernel, load64, uint64
from atomiclm.tokenizer.compiled.split_gpt2 import gpt2_begins, gpt2_end
from atomiclm.tokenizer.compiled.split_gpt4 import gpt4_begins, gpt4_end
from atomiclm.tokenizer.compiled.split_o200k import o200k_begins, o200k_end
from atomiclm.tokenizer.compiled.split_window import WIDTH, write_ends

NOT_ASCII = 0x8080808080808080
"""The bit of each of eight bytes that is zero in ASCII."""


@inline
def pieces_begin(pattern: int64, data: UInt8s, place: int64, size: int64) -> uint64:
    """Where pretokens begin in the window at `place`, as far as it can tell."""
    if pattern in (GPT4, CL100K):
        return gpt4_begins(data, place, size)
    if pattern == O200K:
        return o200k_begins(data, place, size)
    if pattern == GPT2:
        return gpt2_begins(data, place, size)
    return uint64(0)


@inline
def piece_end(pattern: int64, data: UInt8s, place: int64, size: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    """Where the pretoken that begins at `place` ends."""
    if pattern in (GPT4, CL100K):
        return gpt4_end(data, place, size, int64(pattern == CL100K), stage1, stage2)
    if pattern == O200K:
        return o200k_end(data, place, size, stage1, stage2)
    if pattern == GPT2:
        return gpt2_end(data, place, size, stage1, stage2)
    return size


@kernel
def split(
    data: UInt8s,
    size: int64,
    start: int64,
    pattern: int64,
    stage1: UInt8s,
    stage2: UInt8s,
    ends: Int64s,
    capacity: int64,
) -> int64:
    """Cut `data[start:size]` into pretokens.

    Args:
        data: the text, UTF-8 or not.
        size: where the text ends.
        start: where a pretoken begins.
        pattern: a code of `classes.py`.
        stage1: the first table of `unicode_table.two_stages`.
        stage2: the second.
        ends: filled with the offset in `data` at which each pretoken ends.
        capacity: how many ends there is room for. All of `data` is looked at, so stopping here moves no cut.

    Returns:
        How many ends were written; the last of them is `size` if and only if the text is done.
    """
    count = int64(0)
    place = start
    while place < size and count < capacity:
        # A window is worth its price when it holds a few pretokens, so not where other scripts are written.
        if place + WIDTH <= size and count + WIDTH <= capacity and not load64(data, place) & uint64(NOT_ASCII):
            known = count
            count = write_ends(pieces_begin(pattern, data, place, size), place, ends, count)
            if count > known:
                place = ends[count - 1]
                continue
        place = piece_end(pattern, data, place, size, stage1, stage2)
        ends[count] = place
        count += 1
    return count
