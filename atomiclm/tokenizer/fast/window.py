r"""Sixty-four bytes at once: what the splitters do where the text is ASCII.

A splitter that asks character after character what it is spends its time waiting for the answers. So the window is
turned into sets of positions, 64-bit numbers in which bit i speaks of byte i: the letters, the digits, the blanks. On
sets, questions about neighbours are shifts and masks, for all positions together:

    a letter, and before it none                letters & ~(letters << 1)
    the runs that have their beginning in `x`   runs & ~(runs + x)          the addition carries through the run

(Langdale and Lemire, 2019, arXiv 1902.08318, section 3.1, find the strings of a JSON text this way.)

A window begins where a pretoken begins, so nothing before it matters. It ends at the first byte that is not ASCII. What
a splitter says about the window must hold however the text goes on: so it says nothing about what lies in blanks that
reach the end of the window, and the pretoken that reaches it is left for the next window.

What must be said of each pattern is in `pretoken_end.py`, which takes over wherever a window does not help: non-ASCII
text, pretokens longer than a window, the end of the text.
"""

from atomiclm.tokenizer.fast.characters import contraction_end
from atomiclm.tokenizer.fast.kernel import inline
from atomiclm.tokenizer.fast.language import (
    WINDOW,
    Int64s,
    UInt8s,
    bytes_between,
    int64,
    leading_zeros,
    trailing_zeros,
    uint64,
)


@inline
def behind(positions: uint64) -> uint64:
    """The positions whose left neighbour is in the set."""
    return positions << uint64(1)


@inline
def before(positions: uint64) -> uint64:
    """The positions whose right neighbour is in the set."""
    return positions >> uint64(1)


@inline
def up_to_first_gap(positions: uint64) -> uint64:
    """The run of positions that begins at 0."""
    return (~positions & (positions + uint64(1))) - uint64(1)


@inline
def last_position(positions: uint64) -> int64:
    """The highest position of a set that is not empty."""
    return int64(63) - leading_zeros(positions)


@inline
def single(position: int64) -> uint64:
    """The set of one position."""
    return uint64(1) << uint64(position)


@inline
def settled(solid: uint64) -> uint64:
    """Up to where a splitter may speak: to the position behind the last of `solid`, which is not empty and not blank.

    A blank there begins a run, and so a piece. Which of the blanks behind it do, only the end of their run tells.
    """
    return (uint64(4) << uint64(last_position(solid))) - uint64(1)


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
    r"""Where the pieces of `\s*[\r\n]+|\s+(?!\S)|\s+` begin.

    Args:
        blanks: those that are no line break.
        breaks: the line breaks that no piece of signs has taken.
    """
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
def gpt2_begins(data: UInt8s, position: int64, size: int64) -> uint64:
    """Where pretokens begin in the window at `position`, as far as it can tell."""
    inside = up_to_first_gap(bytes_between(data, position, 0x00, 0x7F))
    letters = inside & (bytes_between(data, position, 0x61, 0x7A) | bytes_between(data, position, 0x41, 0x5A))
    digits = inside & bytes_between(data, position, 0x30, 0x39)
    space = inside & bytes_between(data, position, 0x20, 0x20)
    white = inside & bytes_between(data, position, 0x09, 0x0D) | space
    signs = inside & ~(letters | digits | white)
    solid = inside & ~white
    if not solid:
        return uint64(0)

    #  ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+
    signs_begin = signs & ~behind(signs | space)
    begins = signs_begin | letters & ~behind(letters | space) | digits & ~behind(digits | space)
    # \s+(?!\S)|\s+: a run of blanks, and its last one
    begins |= white & ~behind(white) | white & ~before(white)
    # 's|'t|'re|'ve|'m|'ll|'d: its letters begin nothing, what follows does
    apostrophes = signs_begin & before(letters) & bytes_between(data, position, 0x27, 0x27)
    while apostrophes:
        start = trailing_zeros(apostrophes)
        end = contraction_end(data, position + start, size, 0) - position
        if end > start:
            begins &= ~behind(single(start))
            begins |= single(end) if end < WINDOW else uint64(0)
        apostrophes &= apostrophes - uint64(1)
    return begins & inside & settled(solid)


@inline
def gpt4_begins(data: UInt8s, position: int64, size: int64) -> uint64:
    """Where pretokens begin in the window at `position`, as far as it can tell.

    cl100k differs only at the end of the text, which no window reaches.
    """
    inside = up_to_first_gap(bytes_between(data, position, 0x00, 0x7F))
    letters = inside & (bytes_between(data, position, 0x61, 0x7A) | bytes_between(data, position, 0x41, 0x5A))
    digits = inside & bytes_between(data, position, 0x30, 0x39)
    space = inside & bytes_between(data, position, 0x20, 0x20)
    breaks = inside & (bytes_between(data, position, 0x0A, 0x0A) | bytes_between(data, position, 0x0D, 0x0D))
    blanks = (inside & bytes_between(data, position, 0x09, 0x0D) | space) & ~breaks
    signs = inside & ~(letters | digits | blanks | breaks)

    #  ?[^\s\p{L}\p{N}]+[\r\n]*: the space before signs and the line breaks behind them go with them
    signs_begin = signs & ~behind(signs | space)
    breaks &= breaks + (breaks & behind(signs))
    solid = inside & ~(blanks | breaks)
    if not solid:
        return uint64(0)
    # [^\r\n\p{L}\p{N}]?\p{L}+: a word goes with the blank before it, or with a sign that is alone
    begins = signs_begin | letters & ~behind(letters | blanks | signs_begin)
    begins |= every_third(digits) | blanks_begin(blanks, breaks)
    # (?i:'s|'t|'re|'ve|'m|'ll|'d): what follows is cut off
    apostrophes = signs_begin & before(letters) & bytes_between(data, position, 0x27, 0x27)
    while apostrophes:
        start = trailing_zeros(apostrophes)
        end = contraction_end(data, position + start, size, 1) - position
        if start < end < WINDOW:
            begins |= single(end)
        apostrophes &= apostrophes - uint64(1)
    return begins & inside & settled(solid)


@inline
def o200k_begins(data: UInt8s, position: int64, size: int64) -> uint64:
    """Where pretokens begin in the window at `position`, as far as it can tell.

    In ASCII there are no marks and no letters without case, so words are simple: they end where lower case meets upper.
    """
    breaks = bytes_between(data, position, 0x0A, 0x0A) | bytes_between(data, position, 0x0D, 0x0D)
    slashes = bytes_between(data, position, 0x2F, 0x2F)
    # A slash behind a line break may belong to the signs before it: rare, so the window ends there.
    inside = up_to_first_gap(bytes_between(data, position, 0x00, 0x7F) & ~(slashes & behind(breaks)))
    upper = inside & bytes_between(data, position, 0x41, 0x5A)
    lower = inside & bytes_between(data, position, 0x61, 0x7A)
    digits = inside & bytes_between(data, position, 0x30, 0x39)
    space = inside & bytes_between(data, position, 0x20, 0x20)
    breaks &= inside
    blanks = (inside & bytes_between(data, position, 0x09, 0x0D) | space) & ~breaks
    letters = upper | lower
    signs = inside & ~(letters | digits | blanks | breaks)

    #  ?[^\s\p{L}\p{N}]+[\r\n/]*: the space before signs and the line breaks behind them go with them
    signs_begin = signs & ~behind(signs | space)
    breaks &= breaks + (breaks & behind(signs))
    solid = inside & ~(blanks | breaks)
    if not solid:
        return uint64(0)
    # the two alternatives for words: with the blank before it, or a sign that is alone
    begins = signs_begin | letters & ~behind(letters | blanks | signs_begin) | upper & behind(lower)
    begins |= every_third(digits) | blanks_begin(blanks, breaks)
    # (?i:'s|'t|'re|'ve|'m|'ll|'d)? belongs to the word before it; an apostrophe behind a contraction begins a word
    apostrophes = bytes_between(data, position, 0x27, 0x27) & behind(letters)
    begins &= ~apostrophes | before(inside)
    apostrophes &= before(letters)
    last = int64(-1)
    while apostrophes:
        start = trailing_zeros(apostrophes)
        end = contraction_end(data, position + start, size, 1) - position
        if end > start and start != last:
            last = end
            beyond = single(end) if end < WINDOW else uint64(0)
            begins &= ~(beyond - single(start))
            begins |= beyond
        apostrophes &= apostrophes - uint64(1)
    return begins & inside & settled(solid)


@inline
def write_ends(begins: uint64, position: int64, ends: Int64s, count: int64) -> int64:
    """Write where pretokens end, which is where the next begin; returns how many there are now."""
    begins &= ~uint64(1)
    while begins:
        ends[count] = position + trailing_zeros(begins)
        count += 1
        begins &= begins - uint64(1)
    return count
