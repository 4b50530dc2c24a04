r"""One pretoken of the pattern `gpt2`, alternative by alternative.

's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+
\s+(?!\S)|\s+
"""

from atomiclm.tokenizer.compiled.classes import NUMBER
from atomiclm.tokenizer.compiled.language import UInt8s, inline, int64, trailing_zeros, uint64
from atomiclm.tokenizer.compiled.split_characters import (
    BLANKS,
    CLASS,
    LETTERS,
    SIGNS,
    blanks_end,
    character,
    contraction_end,
    run_end,
)
from atomiclm.tokenizer.compiled.split_window import (
    WIDTH,
    before,
    behind,
    bytes_between,
    settled,
    single,
    up_to_first_gap,
)


@inline
def gpt2_end(data: UInt8s, start: int64, size: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    """Where the pretoken that begins at `start` < `size` ends."""
    # 's|'t|'re|'ve|'m|'ll|'d
    end = contraction_end(data, start, size, 0)
    if end > start:
        return end

    #  ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+
    run = start + 1 if data[start] == 0x20 and start + 1 < size else start
    kind = character(data, run, size, stage1, stage2) & CLASS
    if not (BLANKS >> kind) & 1:
        alike = LETTERS if (LETTERS >> kind) & 1 else 1 << NUMBER if kind == NUMBER else SIGNS
        return run_end(data, run, size, alike, stage1, stage2)

    return blanks_end(data, start, size, 0, 0, stage1, stage2)


@inline
def gpt2_begins(data: UInt8s, place: int64, size: int64) -> uint64:
    """Where pretokens begin in the window at `place`, as far as it can tell (see `split_window.py`)."""
    inside = up_to_first_gap(bytes_between(data, place, 0x00, 0x7F))
    letters = inside & (bytes_between(data, place, 0x61, 0x7A) | bytes_between(data, place, 0x41, 0x5A))
    digits = inside & bytes_between(data, place, 0x30, 0x39)
    space = inside & bytes_between(data, place, 0x20, 0x20)
    white = inside & bytes_between(data, place, 0x09, 0x0D) | space
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
    apostrophes = signs_begin & before(letters) & bytes_between(data, place, 0x27, 0x27)
    while apostrophes:
        start = trailing_zeros(apostrophes)
        end = contraction_end(data, place + start, size, 0) - place
        if end > start:
            begins &= ~behind(single(start))
            begins |= single(end) if end < WIDTH else uint64(0)
        apostrophes &= apostrophes - uint64(1)
    return begins & inside & settled(solid)
