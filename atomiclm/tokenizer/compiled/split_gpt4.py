r"""One pretoken of the patterns `gpt4` and `cl100k`, alternative by alternative.

    (?i:'s|'t|'re|'ve|'m|'ll|'d)
    [^\r\n\p{L}\p{N}]?\p{L}+
    \p{N}{1,3}
     ?[^\s\p{L}\p{N}]+[\r\n]*
    \s++$                            (only cl100k)
    \s*[\r\n]+|\s+(?!\S)|\s+

cl100k spells the last line `\s*[\r\n]|\s+(?!\S)|\s`, which is the same: `\s*` has already taken all line breaks but
one, and where `\s+` gets its turn there is one blank.
"""

from atomiclm.tokenizer.compiled.classes import CLASS_BITS, NEWLINE, NUMBER
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


@inline
def gpt4_end(data: UInt8s, start: int64, size: int64, cl100k: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    """Where the pretoken that begins at `start` < `size` ends."""
    # (?i:'s|'t|'re|'ve|'m|'ll|'d)
    end = contraction_end(data, start, size, 1)
    if end > start:
        return end

    # [^\r\n\p{L}\p{N}]?\p{L}+
    found = character(data, start, size, stage1, stage2)
    kind = found & CLASS
    second = start + (found >> CLASS_BITS)
    if (LETTERS >> kind) & 1:
        return run_end(data, second, size, LETTERS, stage1, stage2)
    if kind != NEWLINE and kind != NUMBER:
        end = run_end(data, second, size, LETTERS, stage1, stage2)
        if end > second:
            return end

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

    #  ?[^\s\p{L}\p{N}]+[\r\n]*
    signs = second if data[start] == 0x20 else start
    end = run_end(data, signs, size, SIGNS, stage1, stage2)
    if end > signs:
        return line_breaks_end(data, end, size, 0)

    return blanks_end(data, start, size, cl100k, 1, stage1, stage2)


@inline
def gpt4_begins(data: UInt8s, place: int64, size: int64) -> uint64:
    """Where pretokens begin in the window at `place`, as far as it can tell (see `split_window.py`).

    cl100k differs only at the end of the text, which no window reaches.
    """
    inside = up_to_first_gap(bytes_between(data, place, 0x00, 0x7F))
    letters = inside & (bytes_between(data, place, 0x61, 0x7A) | bytes_between(data, place, 0x41, 0x5A))
    digits = inside & bytes_between(data, place, 0x30, 0x39)
    space = inside & bytes_between(data, place, 0x20, 0x20)
    breaks = inside & (bytes_between(data, place, 0x0A, 0x0A) | bytes_between(data, place, 0x0D, 0x0D))
    blanks = (inside & bytes_between(data, place, 0x09, 0x0D) | space) & ~breaks
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
    apostrophes = signs_begin & before(letters) & bytes_between(data, place, 0x27, 0x27)
    while apostrophes:
        start = trailing_zeros(apostrophes)
        end = contraction_end(data, place + start, size, 1) - place
        if start < end < WIDTH:
            begins |= single(end)
        apostrophes &= apostrophes - uint64(1)
    return begins & inside & settled(solid)
