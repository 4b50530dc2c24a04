"""What stands at a position of the text: one character of UTF-8 and its class; and runs of such characters.

A byte that belongs to no well-formed character is a character of its own, of class OTHER. That is how Python's decoder
with "surrogateescape" reads bytes, so a splitter on bytes and one on text see the same characters.
"""

from atomiclm.tokenizer.fast.kernel import inline
from atomiclm.tokenizer.fast.language import UInt8s, int64
from atomiclm.tokenizer.unicode_table import BLOCK_BITS, CLASS_BITS, LETTER, LOWER, MARK, NEWLINE, OTHER, SPACE, UPPER

CLASS = (1 << CLASS_BITS) - 1
"""`character(...) & CLASS` is the class of a character, `character(...) >> CLASS_BITS` its width in bytes."""

# Sets of classes, one bit a class.
LETTERS = 1 << UPPER | 1 << LOWER | 1 << LETTER  # \p{L}
SIGNS = 1 << OTHER | 1 << MARK  # [^\s\p{L}\p{N}]
BLANKS = 1 << SPACE | 1 << NEWLINE  # \s


@inline
def class_of(code: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    """The class of a code point, by the table of `unicode_table.two_stages`."""
    block = int64(stage1[code >> BLOCK_BITS])
    return int64(stage2[block << BLOCK_BITS | (code & ((1 << BLOCK_BITS) - 1))])


@inline
def wide_character(data: UInt8s, position: int64, size: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    """`character` for a byte that is not ASCII (the well-formed forms: Unicode 16.0, table 3-7)."""
    first = int64(data[position])
    if first < 0xE0:
        if first >= 0xC2 and position + 1 < size:
            second = int64(data[position + 1]) ^ 0x80
            if second < 0x40:
                return class_of((first & 0x1F) << 6 | second, stage1, stage2) | 2 << CLASS_BITS
    elif first < 0xF0:
        if position + 2 < size:
            second = int64(data[position + 1]) ^ 0x80
            third = int64(data[position + 2]) ^ 0x80
            code = (first & 0x0F) << 12 | second << 6 | third
            # Not what fits in two bytes, and not the surrogates.
            if (second | third) < 0x40 and code >= 0x800 and code >> 11 != 0x1B:
                return class_of(code, stage1, stage2) | 3 << CLASS_BITS
    elif first < 0xF5 and position + 3 < size:
        second = int64(data[position + 1]) ^ 0x80
        third = int64(data[position + 2]) ^ 0x80
        fourth = int64(data[position + 3]) ^ 0x80
        code = (first & 0x07) << 18 | second << 12 | third << 6 | fourth
        if (second | third | fourth) < 0x40 and 0x10000 <= code < 0x110000:
            return class_of(code, stage1, stage2) | 4 << CLASS_BITS
    return int64(OTHER | 1 << CLASS_BITS)


@inline
def character(data: UInt8s, position: int64, size: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    """The character that begins at `position` < `size`: its class, and its width in bytes above that."""
    first = int64(data[position])
    if first < 0x80:
        return int64(stage2[first]) | 1 << CLASS_BITS
    return wide_character(data, position, size, stage1, stage2)


@inline
def run_end(data: UInt8s, position: int64, size: int64, classes: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    """Where the run of characters of these classes that begins at `position` ends; `position` if there is none."""
    while position < size:
        found = character(data, position, size, stage1, stage2)
        if not (classes >> (found & CLASS)) & 1:
            break
        position += found >> CLASS_BITS
    return position


@inline
def line_breaks_end(data: UInt8s, position: int64, size: int64, and_slashes: int64) -> int64:
    r"""The end of `[\r\n]*`, or of `[\r\n/]*`, at `position`."""
    while position < size:
        byte = int64(data[position])
        if byte != 0x0A and byte != 0x0D and not (and_slashes and byte == 0x2F):
            break
        position += 1
    return position


@inline
def blanks_end(
    data: UInt8s, start: int64, size: int64, to_the_end: int64, by_line: int64, stage1: UInt8s, stage2: UInt8s
) -> int64:
    r"""The end of the piece that begins with the blank at `start`, by the alternatives that stand last in each pattern.

    `\s++$` (if `to_the_end`), `\s*[\r\n]+` (if `by_line`), `\s+(?!\S)`, `\s+`, in this order. After the first two,
    `\s+(?!\S)` is the run without its last blank, which is left to the word that follows; `\s+` is a single blank.
    """
    position = last = behind_line = start
    while position < size:
        found = character(data, position, size, stage1, stage2)
        kind = found & CLASS
        if not (BLANKS >> kind) & 1:
            break
        last = position
        position += found >> CLASS_BITS
        if kind == NEWLINE:
            behind_line = position
    if to_the_end and position == size:
        return position
    if by_line and behind_line > start:
        return behind_line
    return position if position == size or last == start else last


@inline
def contraction_end(data: UInt8s, start: int64, size: int64, any_case: int64) -> int64:
    """The end of `'s|'t|'re|'ve|'m|'ll|'d` at `start`, or `start` where there is none.

    In any case `'S` counts too, and so does U+017F, the long s, whose upper case is S as well.
    """
    if start + 1 >= size or data[start] != 0x27:
        return start
    fold = 0x20 if any_case else 0
    one = int64(data[start + 1]) | fold
    if one == ord("s") or one == ord("t") or one == ord("m") or one == ord("d"):
        return start + 2
    if start + 2 < size:
        two = int64(data[start + 2]) | fold
        if (one == ord("r") or one == ord("v")) and two == ord("e"):
            return start + 3
        if one == ord("l") and two == ord("l"):
            return start + 3
        if any_case and data[start + 1] == 0xC5 and data[start + 2] == 0xBF:
            return start + 3
    return start
