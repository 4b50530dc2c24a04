r"""Where one pretoken ends, character by character and alternative by alternative: the meaning of the splitters.

A byte that belongs to no well-formed character is a character of its own, of class OTHER. That is how Python's decoder
with "surrogateescape" reads bytes, so a splitter on bytes and one on text see the same characters.
"""

from typing import NamedTuple

from atomiclm.tokenizer.fast.kernel import UInt8s, inline, int64
from atomiclm.tokenizer.patterns import CL100K, GPT2, O200K, WHOLE
from atomiclm.tokenizer.unicode_table import (
    BLOCK_BITS,
    CLASS_BITS,
    LETTER,
    LOWER,
    MARK,
    NEWLINE,
    NUMBER,
    OTHER,
    SPACE,
    UPPER,
)

CLASS = (1 << CLASS_BITS) - 1  # `character(...) & CLASS` is a class, `character(...) >> CLASS_BITS` a width in bytes

# Sets of classes, one bit a class.
LETTERS = 1 << UPPER | 1 << LOWER | 1 << LETTER  # \p{L}
SIGNS = 1 << OTHER | 1 << MARK  # [^\s\p{L}\p{N}]
BLANKS = 1 << SPACE | 1 << NEWLINE  # \s
WITHOUT_CASE = 1 << LETTER | 1 << MARK
HEAD = WITHOUT_CASE | 1 << UPPER
TAIL = WITHOUT_CASE | 1 << LOWER


class Text(NamedTuple):
    """Bytes, UTF-8 or not, and what their characters are."""

    data: UInt8s
    size: int64
    stage1: UInt8s  # the tables of `unicode_table.two_stages`
    stage2: UInt8s


@inline
def class_of(code: int64, text: Text) -> int64:
    block = int64(text.stage1[code >> BLOCK_BITS])
    return int64(text.stage2[block << BLOCK_BITS | (code & ((1 << BLOCK_BITS) - 1))])


@inline
def character(text: Text, position: int64) -> int64:
    """The character at `position` < `size`: its class, and its width in bytes above that (Unicode 16.0, table 3-7)."""
    data = text.data
    first = int64(data[position])
    if first < 0x80:
        return int64(text.stage2[first]) | 1 << CLASS_BITS
    if first < 0xE0:
        if first >= 0xC2 and position + 1 < text.size:
            second = int64(data[position + 1]) ^ 0x80
            if second < 0x40:
                return class_of((first & 0x1F) << 6 | second, text) | 2 << CLASS_BITS
    elif first < 0xF0:
        if position + 2 < text.size:
            second = int64(data[position + 1]) ^ 0x80
            third = int64(data[position + 2]) ^ 0x80
            code = (first & 0x0F) << 12 | second << 6 | third
            # Not what fits in two bytes, and not the surrogates.
            if (second | third) < 0x40 and code >= 0x800 and code >> 11 != 0x1B:
                return class_of(code, text) | 3 << CLASS_BITS
    elif first < 0xF5 and position + 3 < text.size:
        second = int64(data[position + 1]) ^ 0x80
        third = int64(data[position + 2]) ^ 0x80
        fourth = int64(data[position + 3]) ^ 0x80
        code = (first & 0x07) << 18 | second << 12 | third << 6 | fourth
        if (second | third | fourth) < 0x40 and 0x10000 <= code < 0x110000:
            return class_of(code, text) | 4 << CLASS_BITS
    return int64(OTHER | 1 << CLASS_BITS)


@inline
def run_end(text: Text, position: int64, classes: int64) -> int64:
    """Where the run of characters of these classes that begins at `position` ends; `position` if there is none."""
    while position < text.size:
        found = character(text, position)
        if not (classes >> (found & CLASS)) & 1:
            break
        position += found >> CLASS_BITS
    return position


@inline
def blanks_end(text: Text, start: int64, to_the_end: int64, by_line: int64) -> int64:
    r"""The end of the piece that begins with the blank at `start`, by the alternatives that stand last in each pattern.

    `\s++$` (if `to_the_end`), `\s*[\r\n]+` (if `by_line`), `\s+(?!\S)`, `\s+`, in this order. After the first two,
    `\s+(?!\S)` is the run without its last blank, which is left to the word that follows; `\s+` is a single blank.
    """
    position = last = behind_line = start
    while position < text.size:
        found = character(text, position)
        kind = found & CLASS
        if not (BLANKS >> kind) & 1:
            break
        last = position
        position += found >> CLASS_BITS
        if kind == NEWLINE:
            behind_line = position
    if to_the_end and position == text.size:
        return position
    if by_line and behind_line > start:
        return behind_line
    return position if position == text.size or last == start else last


@inline
def contraction_end(data: UInt8s, start: int64, size: int64, any_case: int64) -> int64:
    """The end of `'s|'t|'re|'ve|'m|'ll|'d` at `start`, or `start`; in any case U+017F, the long s, counts too."""
    if start + 1 >= size or data[start] != 0x27:
        return start
    fold = 0x20 if any_case else 0
    one = int64(data[start + 1]) | fold
    if one == ord("s") or one == ord("t") or one == ord("m") or one == ord("d"):
        return start + 2
    if start + 2 < size:
        two = int64(data[start + 2]) | fold
        long_s = any_case and data[start + 1] == 0xC5 and data[start + 2] == 0xBF
        if ((one == ord("r") or one == ord("v")) and two == ord("e")) or (one == two == ord("l")) or long_s:
            return start + 3
    return start


@inline
def word_end(text: Text, start: int64, mark: int64) -> int64:
    """The end of head and tail of a word of `o200k` at `start`; `start` if there is neither.

    Letters without case and marks stand in both sets of the first two alternatives, so a regex engine goes back and
    forth there. Let the *head* be the run of characters that are not lower case (upper, title, without case, marks) and
    the *tail* the run behind it of characters that are not upper case:

    - The tail begins with a lower-case letter: the word is head and tail (first alternative).
    - There is no tail, but the head holds a character without case: the word ends behind the last such.
    - There is no tail and all of the head is upper case: the word is the head (second alternative).

    Where the sign in front of the word is a `mark` and the word fails under the first alternative, the engine tries
    again with the mark as its first letter, before the second alternative: the mark is a word of its own.
    """
    position = start
    without_case = int64(-1)
    while position < text.size:
        found = character(text, position)
        kind = found & CLASS
        if not (HEAD >> kind) & 1:
            if kind == LOWER:
                return run_end(text, position, TAIL)
            break
        position += found >> CLASS_BITS
        if (WITHOUT_CASE >> kind) & 1:
            without_case = position
    if without_case >= 0:
        return without_case
    return start if mark else position


@inline
def gpt2_end(text: Text, start: int64) -> int64:
    r"""Where the pretoken of `gpt2` that begins at `start` < `size` ends."""
    # 's|'t|'re|'ve|'m|'ll|'d
    end = contraction_end(text.data, start, text.size, 0)
    if end > start:
        return end

    #  ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+
    run = start + 1 if text.data[start] == 0x20 and start + 1 < text.size else start
    kind = character(text, run) & CLASS
    if not (BLANKS >> kind) & 1:
        alike = LETTERS if (LETTERS >> kind) & 1 else 1 << NUMBER if kind == NUMBER else SIGNS
        return run_end(text, run, alike)

    return blanks_end(text, start, 0, 0)


@inline
def pretoken_end(pattern: int64, text: Text, start: int64) -> int64:
    r"""Where the pretoken that begins at `start` < `size` ends.

    The last alternatives of `gpt4` are `\s*[\r\n]+|\s+(?!\S)|\s+`, those of `cl100k` `\s++$|\s*[\r\n]|\s+(?!\S)|\s`.
    But for `\s++$` that is the same: `\s*` has already taken all line breaks but one, and where `\s+` gets its turn
    there is one blank.
    """
    if pattern == WHOLE:
        return text.size
    if pattern == GPT2:
        return gpt2_end(text, start)
    found = character(text, start)
    kind = found & CLASS
    second = start + (found >> CLASS_BITS)
    if pattern == O200K:  # the two alternatives for words
        if (LETTERS >> kind) & 1:
            return contraction_end(text.data, word_end(text, start, 0), text.size, 1)
        if kind != NEWLINE and kind != NUMBER:
            end = word_end(text, second, int64(kind == MARK))
            if end > second or kind == MARK:
                return contraction_end(text.data, end, text.size, 1)
    else:  # (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+
        end = contraction_end(text.data, start, text.size, 1)
        if end > start:
            return end
        if kind != NEWLINE and kind != NUMBER:
            end = run_end(text, second, LETTERS)
            if end > second or (LETTERS >> kind) & 1:
                return end

    # \p{N}{1,3}
    if kind == NUMBER:
        for _ in range(2):
            found = character(text, second) if second < text.size else int64(OTHER)
            second += found >> CLASS_BITS if found & CLASS == NUMBER else 0
        return second

    #  ?[^\s\p{L}\p{N}]+[\r\n]*, and slashes in o200k
    signs = second if text.data[start] == 0x20 else start
    end = run_end(text, signs, SIGNS)
    if end > signs:
        while end < text.size:
            byte = int64(text.data[end])
            if byte != 0x0A and byte != 0x0D and not (pattern == O200K and byte == 0x2F):
                break
            end += 1
        return end

    return blanks_end(text, start, int64(pattern == CL100K), 1)
