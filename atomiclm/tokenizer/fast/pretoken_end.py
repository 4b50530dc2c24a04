r"""Where one pretoken ends, alternative by alternative of each pattern: the meaning of the splitters.

`window.py` says the same for sixty-four bytes of ASCII at once. This file takes over wherever that does not help.
"""

from atomiclm.tokenizer.fast.characters import (
    BLANKS,
    CLASS,
    LETTERS,
    SIGNS,
    blanks_end,
    character,
    contraction_end,
    line_breaks_end,
    run_end,
)
from atomiclm.tokenizer.fast.kernel import inline
from atomiclm.tokenizer.fast.language import UInt8s, int64
from atomiclm.tokenizer.unicode_table import CLASS_BITS, LETTER, LOWER, MARK, NEWLINE, NUMBER, UPPER

WITHOUT_CASE = 1 << LETTER | 1 << MARK
HEAD = WITHOUT_CASE | 1 << UPPER
TAIL = WITHOUT_CASE | 1 << LOWER


@inline
def up_to_three_numbers(data: UInt8s, position: int64, size: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    r"""The end of `\p{N}{1,3}`, of which `position` is behind the first."""
    for _ in range(2):
        if position == size:
            break
        found = character(data, position, size, stage1, stage2)
        if found & CLASS != NUMBER:
            break
        position += found >> CLASS_BITS
    return position


@inline
def gpt2_end(data: UInt8s, start: int64, size: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    r"""Where the pretoken of `gpt2` that begins at `start` < `size` ends.

    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
    """
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
def gpt4_end(data: UInt8s, start: int64, size: int64, cl100k: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    r"""Where the pretoken of `gpt4` or `cl100k` that begins at `start` < `size` ends.

    The last alternatives of `gpt4` are `\s*[\r\n]+|\s+(?!\S)|\s+`, those of `cl100k` `\s++$|\s*[\r\n]|\s+(?!\S)|\s`.
    But for `\s++$` that is the same: `\s*` has already taken all line breaks but one, and where `\s+` gets its turn
    there is one blank.
    """
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
        return up_to_three_numbers(data, second, size, stage1, stage2)

    #  ?[^\s\p{L}\p{N}]+[\r\n]*
    signs = second if data[start] == 0x20 else start
    end = run_end(data, signs, size, SIGNS, stage1, stage2)
    if end > signs:
        return line_breaks_end(data, end, size, 0)

    return blanks_end(data, start, size, cl100k, 1, stage1, stage2)


@inline
def word_end(data: UInt8s, start: int64, size: int64, mark: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    """The end of head and tail of a word of `o200k` at `start`; `start` if there is neither.

    Letters without case and marks stand in both sets of the first two alternatives, so a regex engine goes back and
    forth there. What comes out can be said directly. Let the *head* be the run of characters that are not lower case
    (upper, title, without case, marks) and the *tail* the run behind it of characters that are not upper case:

    - The tail begins with a lower-case letter: the word is head and tail (first alternative).
    - There is no tail, but the head holds a character without case: the second set needs one character, and gets the
    last
      without case that the head can give. The word ends behind it, in front of the upper case that follows it.
    - There is no tail and all of the head is upper case: the word is the head (second alternative).

    A mark may also be the sign in front of the word. Where the word then fails under the first alternative, the engine
    tries again with the mark as its first letter, before it comes to the second alternative: the mark is a word of its
    own.

    `mark` says whether a mark stands in front.
    """
    position = start
    without_case = int64(-1)
    while position < size:
        found = character(data, position, size, stage1, stage2)
        kind = found & CLASS
        if not (HEAD >> kind) & 1:
            if kind == LOWER:
                return run_end(data, position, size, TAIL, stage1, stage2)
            break
        position += found >> CLASS_BITS
        if (WITHOUT_CASE >> kind) & 1:
            without_case = position
    if without_case >= 0:
        return without_case
    return start if mark else position


@inline
def o200k_end(data: UInt8s, start: int64, size: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    """Where the pretoken of `o200k` that begins at `start` < `size` ends."""
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
        return up_to_three_numbers(data, second, size, stage1, stage2)

    #  ?[^\s\p{L}\p{N}]+[\r\n/]*
    signs = second if data[start] == 0x20 else start
    end = run_end(data, signs, size, SIGNS, stage1, stage2)
    if end > signs:
        return line_breaks_end(data, end, size, 1)

    return blanks_end(data, start, size, 0, 1, stage1, stage2)
