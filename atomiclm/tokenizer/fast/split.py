r"""Text cut into pretokens: what `SplitPattern.split` does, on bytes; where the text is ASCII, sixty-four at once.

The window becomes sets of positions, 64-bit numbers in which bit i speaks of byte i: the letters, the digits, the
blanks. Questions about neighbours are shifts and masks, for all positions together:

    a letter, and before it none                letters & ~(letters << 1)
    the runs that have their beginning in `x`   runs & ~(runs + x)          the addition carries through the run

(Langdale and Lemire, 2019, arXiv 1902.08318, section 3.1, find the strings of a JSON text this way.)

A window begins where a pretoken begins and ends at the first byte that is not ASCII. What is said about it must hold
however the text goes on: so nothing is said about what lies in blanks that reach its end, and the pretoken that reaches
it is left for the next window. `pretoken_end.py`, where the patterns are explained, takes over wherever a window does
not help: non-ASCII text, pretokens longer than a window, the end of the text.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from atomiclm.tokenizer.fast.kernel import (
    WINDOW,
    Int64s,
    Kernel,
    UInt8s,
    bytes_between,
    inline,
    int64,
    leading_zeros,
    load64,
    trailing_zeros,
    uint64,
)
from atomiclm.tokenizer.fast.pretoken_end import Text, contraction_end, pretoken_end
from atomiclm.tokenizer.patterns import GPT2, O200K, WHOLE
from atomiclm.tokenizer.pretokenize import RegexSplitter
from atomiclm.tokenizer.unicode_table import two_stages

type Ends = NDArray[np.int64]

BLOCK_PRETOKENS = 1 << 14  # cut at a time, so that a block is still in the processor's cache when it is used
NOT_ASCII = 0x8080808080808080  # the bit of each of eight bytes that is zero in ASCII


@inline
def behind(positions: uint64) -> uint64:
    """The positions whose left neighbour is in the set."""
    return positions << uint64(1)


@inline
def before(positions: uint64) -> uint64:
    """The positions whose right neighbour is in the set."""
    return positions >> uint64(1)


@inline
def last_position(positions: uint64) -> int64:
    return int64(63) - leading_zeros(positions)


@inline
def single(position: int64) -> uint64:
    """The set of one position; beyond the window, the empty set."""
    return uint64(1) << uint64(position) if position < WINDOW else uint64(0)


@inline
def every_third(digits: uint64) -> uint64:
    r"""Where the pieces of `\p{N}{1,3}` begin: at the first digit of a run and at every third after it."""
    first = digits & ~behind(digits)
    fourth = digits & (digits << uint64(1)) & (digits << uint64(2)) & (digits << uint64(3))
    begins = first
    while first:
        first = (first << uint64(3)) & fourth
        begins |= first
    return begins


@inline
def blanks_begin(blanks: uint64, breaks: uint64) -> uint64:
    r"""Where the pieces of `\s*[\r\n]+|\s+(?!\S)|\s+` begin; `breaks` are those that no piece of signs has taken."""
    white = blanks | breaks
    begins = white & ~behind(white)
    # The last blank of a run goes with what follows, or is a piece alone: in any case it is a beginning.
    begins |= blanks & ~before(white)
    # Blanks behind the last line break of a run begin a piece.
    lines = blanks & behind(breaks)
    not_last = (blanks + lines) & breaks
    while not_last:
        lines ^= single(last_position(lines & (not_last ^ (not_last - uint64(1)))))
        not_last &= not_last - uint64(1)
    return begins | lines


@inline
def pretokens_begin(pattern: int64, data: UInt8s, position: int64, size: int64) -> uint64:
    """Where pretokens begin in the window at `position`, as far as it can tell.

    cl100k differs from gpt4 only at the end of the text, which no window reaches. In ASCII there are no marks and no
    letters without case, so the words of o200k are simple: they end where lower case meets upper.
    """
    if pattern == WHOLE:
        return uint64(0)
    breaks = bytes_between(data, position, 0x0A, 0x0A) | bytes_between(data, position, 0x0D, 0x0D)
    inside = bytes_between(data, position, 0x00, 0x7F)
    if pattern == O200K:  # a slash behind a line break may belong to signs before it: rare, so the window ends there
        inside &= ~(bytes_between(data, position, 0x2F, 0x2F) & behind(breaks))
    inside = (~inside & (inside + uint64(1))) - uint64(1)  # the run that begins at 0
    upper = inside & bytes_between(data, position, 0x41, 0x5A)
    lower = inside & bytes_between(data, position, 0x61, 0x7A)
    digits = inside & bytes_between(data, position, 0x30, 0x39)
    space = inside & bytes_between(data, position, 0x20, 0x20)
    white = inside & bytes_between(data, position, 0x09, 0x0D) | space
    letters = upper | lower
    signs = inside & ~(letters | digits | white)

    #  ?[^\s\p{L}\p{N}]+[\r\n]*: the space before signs and the line breaks behind them (not in gpt2) go with them
    signs_begin = signs & ~behind(signs | space)
    breaks &= inside
    if pattern == GPT2:
        breaks = uint64(0)
    blanks = white & ~breaks
    breaks &= breaks + (breaks & behind(signs))
    solid = inside & ~(blanks | breaks)
    if not solid:
        return uint64(0)
    if pattern == GPT2:  #  ?\p{L}+| ?\p{N}+, and \s+(?!\S)|\s+: a run of blanks, and its last one
        begins = letters & ~behind(letters | space) | digits & ~behind(digits | space)
        begins |= white & ~behind(white) | white & ~before(white)
    else:  # [^\r\n\p{L}\p{N}]?\p{L}+: a word goes with the blank before it, or with a sign that is alone
        begins = letters & ~behind(letters | blanks | signs_begin)
        begins |= every_third(digits) | blanks_begin(blanks, breaks)
    begins |= signs_begin

    # 's|'t|'re|'ve|'m|'ll|'d: nothing begins in it, and what follows is cut off. In o200k it belongs to the word before
    # it, and an apostrophe behind it begins a word.
    apostrophes = bytes_between(data, position, 0x27, 0x27)
    if pattern == O200K:
        begins |= upper & behind(lower)
        apostrophes &= behind(letters)
        begins &= ~apostrophes | before(inside)
    else:
        apostrophes &= signs_begin
    apostrophes &= before(letters)
    last = int64(-1)
    while apostrophes:
        start = trailing_zeros(apostrophes)
        end = contraction_end(data, position + start, size, int64(pattern != GPT2)) - position
        if end > start and start != last:
            beyond = single(end)
            if pattern == O200K:
                last = end
                begins &= ~(beyond - single(start))
            begins &= ~(beyond - single(start + 1))
            begins |= beyond
        apostrophes &= apostrophes - uint64(1)
    # A blank behind the last solid position begins a run, and so a piece. Which of those behind it do, only the end of
    # their run tells.
    return begins & inside & ((uint64(4) << uint64(last_position(solid))) - uint64(1))


@inline
def split_text(text: Text, start: int64, pattern: int64, ends: Int64s, count: int64, capacity: int64) -> int64:
    """Cut a text from `start` on, where a pretoken begins, and write from `ends[count]` on where each pretoken ends.

    All of the text is looked at, so where a call begins and stops moves no cut. `pattern` is a code of `patterns.py`
    and `capacity` the room in `ends`. Returns how many ends there are then; the last is `size` only once all is cut.
    """
    data, size = text.data, text.size
    position = start
    while position < size and count < capacity:
        # A window pays off when it holds a few pretokens, so not where other scripts are written.
        if position + WINDOW <= size and count + WINDOW <= capacity and not load64(data, position) & uint64(NOT_ASCII):
            begins = pretokens_begin(pattern, data, position, size) & ~uint64(1)  # where one begins, another ends
            if begins:
                while begins:
                    ends[count] = position + trailing_zeros(begins)
                    count += 1
                    begins &= begins - uint64(1)
                position = ends[count - 1]
                continue
        position = pretoken_end(pattern, text, position)
        ends[count] = position
        count += 1
    return count


@Kernel
def split(text: Text, start: int64, pattern: int64, ends: Int64s, capacity: int64) -> int64:
    """Cut a text as `split_text` does; returns how many ends were written."""
    return split_text(text, start, pattern, ends, 0, capacity)


@Kernel
def split_texts(text: Text, stops: Int64s, num_stops: int64, pattern: int64, ends: Int64s) -> int64:
    """Cut texts that stand one behind the other and end at `stops`; `ends` has room for all their bytes."""
    count = int64(0)
    start = int64(0)
    for index in range(num_stops):
        one = Text(text.data, stops[index], text.stage1, text.stage2)
        count = split_text(one, start, pattern, ends, count, text.size)
        start = stops[index]
    return count


class CompiledSplitter(RegexSplitter):
    """Cuts bytes by the kernel of a named pattern, and by the regular expression of a custom one."""

    def blocks(self, data: bytes) -> Iterator[tuple[int, Ends]]:
        """Where each block of pretokens begins, and where each of its pretokens ends; valid until the next block."""
        if self.pattern.code is None:
            if data:
                yield 0, np.array(super().cuts(data), np.int64)
            return
        text = Text(data, len(data), *two_stages())
        ends = np.empty(min(BLOCK_PRETOKENS, len(data)), np.int64)
        start = 0
        while start < len(data):
            count = split(text, start, self.pattern.code, ends, len(ends))
            yield start, ends[:count]
            start = int(ends[count - 1])

    def cuts(self, data: bytes, stops: Sequence[int] = ()) -> Ends:
        if self.pattern.code is None:
            return np.array(super().cuts(data, stops), np.int64)
        ends = np.empty(len(data), np.int64)
        text, texts = Text(data, len(data), *two_stages()), np.array(stops or [len(data)], np.int64)
        return ends[: split_texts(text, texts, len(texts), self.pattern.code, ends)]
