r"""One pretoken of the pattern `o200k`, alternative by alternative.

    [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
    [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
    \p{N}{1,3}
     ?[^\s\p{L}\p{N}]+[\r\n/]*
    \s*[\r\n]+|\s+(?!\S)|\s+

Letters without case and marks stand in both sets of the first two alternatives, so a regex engine goes back and forth
there. What comes out can be said directly. Let the *head* be the run of characters that are not lower case (upper,
title, without case, marks) and the *tail* the run behind it of characters that are not upper case:

- The tail begins with a lower-case letter: the word is head and tail (first alternative).
- There is no tail, but the head holds a character without case: the second set needs one character, and gets the last
  without case that the head can give. The word ends behind it, in front of the upper case that follows it.
- There is no tail and all of the head is upper case: the word is the head (second alternative).

A mark may also be the sign in front of the word. Where the word then fails under the first alternative, the engine
tries again with the mark as its first letter, before it comes to the second alternative: the mark is a word of its own.
"""

from atomiclm.tokenizer.compiled.classes import CLASS_BITS, LETTER, LOWER, MARK, NEWLINE, NUMBER, UPPER
from atomiclm.tokenizer.compiled.language import UInt8s, inline, int64, trailing_zeros, uint64
from atomiclm.tokenizer.compiled.split_characters import (
    CLASS,
    LETTERS,
    SIGNS,
    blanks_end,
    character,
    contraction_end,
    line_breaks_end,
    run_end,
)
from atomiclm.tokenizer.compiled.split_window import (
    WIDTH,
    before,
    behind,
    blanks_begin,
    bytes_between,
    every_third,
    settled,
    single,
    up_to_first_gap,
)

WITHOUT_CASE = 1 << LETTER | 1 << MARK
HEAD = WITHOUT_CASE | 1 << UPPER
TAIL = WITHOUT_CASE | 1 << LOWER


@inline
def word_end(data: UInt8s, start: int64, size: int64, mark: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    """The end of head and tail at `start`; `start` if there is neither. `mark`: a mark stands in front."""
    place = start
    without_case = int64(-1)
    while place < size:
        found = character(data, place, size, stage1, stage2)
        kind = found & CLASS
        if not (HEAD >> kind) & 1:
            if kind == LOWER:
                return run_end(data, place, size, TAIL, stage1, stage2)
            break
        place += found >> CLASS_BITS
        if (WITHOUT_CASE >> kind) & 1:
            without_case = place
    if without_case >= 0:
        return without_case
    return start if mark else place


@inline
def o200k_end(data: UInt8s, start: int64, size: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    """Where the pretoken that begins at `start` < `size` ends."""
    found = character(data, start, size, stage1, stage2)
    kind = found & CLASS
    second = start + (found >> CLASS_BITS)

    # the two alternatives for words
    if (LETTERS >> kind) & 1:
        return contraction_end(data, word_end(data, start, size, 0, stage1, stage2), size, 1)
    if kind != NEWLINE and kind != NUMBER:
        end = word_end(data, second, size, int64(kind == MARK), stage1, stage2)
        if end > second or kind == MARK:
            return contraction_end(data, end, size, 1)

    # \p{N}{1,3}
    if kind == NUMBER:
        for _ in range(2):
            if second == size:
                break
            found = character(data, second, size, stage1, stage2)
            if found & CLASS != NUMBER:
                break
            second += found >> CLASS_BITS
        return second

    #  ?[^\s\p{L}\p{N}]+[\r\n/]*
    signs = second if data[start] == 0x20 else start
    end = run_end(data, signs, size, SIGNS, stage1, stage2)
    if end > signs:
        return line_breaks_end(data, end, size, 1)

    return blanks_end(data, start, size, 0, 1, stage1, stage2)


@inline
def o200k_begins(data: UInt8s, place: int64, size: int64) -> uint64:
    """Where pretokens begin in the window at `place`, as far as it can tell (see `split_window.py`).

    In ASCII there are no marks and no letters without case, so words are simple: they end where lower case meets upper.
    """
    breaks = bytes_between(data, place, 0x0A, 0x0A) | bytes_between(data, place, 0x0D, 0x0D)
    slashes = bytes_between(data, place, 0x2F, 0x2F)
    # A slash behind a line break may belong to the signs before it: rare, so the window ends there.
    inside = up_to_first_gap(bytes_between(data, place, 0x00, 0x7F) & ~(slashes & behind(breaks)))
    upper = inside & bytes_between(data, place, 0x41, 0x5A)
    lower = inside & bytes_between(data, place, 0x61, 0x7A)
    digits = inside & bytes_between(data, place, 0x30, 0x39)
    space = inside & bytes_between(data, place, 0x20, 0x20)
    breaks &= inside
    blanks = (inside & bytes_between(data, place, 0x09, 0x0D) | space) & ~breaks
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
    apostrophes = bytes_between(data, place, 0x27, 0x27) & behind(letters)
    begins &= ~apostrophes | before(inside)
    apostrophes &= before(letters)
    last = int64(-1)
    while apostrophes:
        start = trailing_zeros(apostrophes)
        end = contraction_end(data, place + start, size, 1) - place
        if end > start and start != last:
            last = end
            beyond = single(end) if end < WIDTH else uint64(0)
            begins &= ~(beyond - single(start))
            begins |= beyond
        apostrophes &= apostrophes - uint64(1)
    return begins & inside & settled(solid)
