r"""The first cut: a regular expression divides text into pretokens, and no merge ever crosses from one to the next.

Without it the most frequent pairs would be glued across words (`dog.`, `dog!`, `dog?` would each become a token).

| name | what is one pretoken, for example | source |
|---|---|---|
| `gpt4` | a word with the one blank or sign before it; up to three digits | Llama 3 (2024), minbpe, rustbpe, nanochat |
| `cl100k` | the same, but blanks that end the text are one piece | OpenAI's cl100k_base as in tiktoken 0.14 |
| `o200k` | words also end where upper case begins (`fooBar`), and keep their `'s` | OpenAI's o200k_base (2024) |
| `gpt2` | a word with the one blank before it; a whole number | Radford et al. (2019) |
| `none` | the whole text between two special tokens | |

The two GPT-4 patterns differ at the end of a text alone: of "foo\n  " the classic one makes "foo", "\n", "  " and that
of tiktoken 0.14 "foo", "\n  ".

Each is written so that `regex`, tiktoken's engine and Oniguruma (Hugging Face) read it with one meaning. So cl100k's
`\p{N}{1,3}+` became `\p{N}{1,3}`: Oniguruma takes the plus for a repetition of the group, not for "possessive". And its
`\s++$` has to stay possessive, since Oniguruma's `$` also matches before a line break, which `\s++` leaves nowhere.

What is a letter, a number, a mark or a blank comes from our own Unicode table (see `on_the_pinned_table`). This file is
the oracle of the splitters in `fast/`, which do without a regex engine, and the path for custom patterns.
"""

import functools
import logging
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise

import regex

from atomiclm.tokenizer.constants import MAX_PATTERN_CHARACTERS, MAX_PATTERN_REPEATS
from atomiclm.tokenizer.unicode_table import CODE_POINTS, categories

_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"  # 's 'LL; also 'ſ, the long s
_HEAD = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_TAIL = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

PATTERNS = {
    "gpt4": (
        _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+"  # letters, with one sign or blank before them: " word", "(word"
        r"|\p{N}{1,3}"  # one to three digits
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*"  # signs, with the line breaks after them
        r"|\s*[\r\n]+"  # blanks up to the last line break
        r"|\s+(?!\S)"  # blanks but the last, which belongs to the word that follows
        r"|\s+"
    ),
    "cl100k": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++"
        r"|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$"  # all blanks, if they are the last
        r"|\s*[\r\n]|\s+(?!\S)|\s"
    ),
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "o200k": (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_HEAD}*{_TAIL}+{_CONTRACTION}?"  # a word that ends in lower case
        rf"|[^\r\n\p{{L}}\p{{N}}]?{_HEAD}+{_TAIL}*{_CONTRACTION}?"  # or in upper case
        r"|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*"  # signs, with line breaks and slashes after them
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "none": r"[\s\S]+",
}
"""The named patterns; any other regular expression can be used as well."""

SPELLINGS = {
    # minbpe, rustbpe, nanochat
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+": "gpt4",
    # tiktoken 0.14: cl100k_base; then gpt2, r50k_base and p50k_base
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s": "cl100k",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s": "gpt2",
    # the original release of GPT-2
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
}
"""Spellings of others, and the named pattern that splits the same way as they do in `regex` and in tiktoken."""

SLOW_SECONDS = 10.0
"""Of computing, for one piece, after which a custom pattern is said to be slow."""

CUSTOM = "custom"
WHOLE, GPT4, CL100K, GPT2, O200K = range(5)
_CODES = {"none": WHOLE, "gpt4": GPT4, "cl100k": CL100K, "gpt2": GPT2, "o200k": O200K}
"""The numbers by which the splitting kernel knows the patterns."""

_PIECES_IN_DOUBT = {"gpt4": 2, "cl100k": 1, "gpt2": 2, "o200k": 2}
# These patterns look back at nothing and ahead at most one character past a run. So when text breaks off, only the run
# it broke off in can still be cut otherwise:
#   gpt4    one piece, or blanks in two: "\n", "  " is a single piece once "\n" follows.
#   cl100k  one: where its `$` took the end of a chunk for the end of the text, the blanks there are the last piece.
#   gpt2    blanks are one piece; but "'", "l" are two, and "'ll" is one.
#   o200k   blanks as in gpt4; "a", "'" become "a's"; "日", "AB" become the single word "日ABc".


@dataclass(frozen=True)
class SplitPattern:
    """A compiled split pattern."""

    name: str  # a key of `PATTERNS`, or "custom"
    text: str  # the regular expression; this, not the name, is what defines the split
    split: Callable[[str], list[str]]  # text to its pretokens, in order: `"".join(split(text)) == text`
    # How many pretokens at the end of a text could be cut otherwise if it went on; None: only the end settles it.
    pieces_in_doubt: int | None
    code: int | None = None  # the number by which the splitting kernel knows it; None for custom patterns


# One character of each category of the table, of an age at which nobody disputes it. U+FDD0 will never be a character.
_STAND_INS = dict(
    zip(
        ("other", "M", "space", "newline", "N", "Lu", "Lt", "Ll", "Lm", "Lo"),
        ("\ufdd0", "\u20d0", "\u2003", "\n", "\u2160", "\u0411", "\u01c5", "\u0431", "\u02b0", "\u4e00"),
        strict=True,
    )
)
_NOT_IN = {"other": r"[\p{L}\p{N}\p{M}\s]", "space": r"[\S\r\n]", "newline": r"[^\r\n]"}


@functools.cache
def _disputed() -> dict[int, str]:
    """The code points that the installed `regex` puts into another category than our table: their stand-in."""
    everything = "".join(map(chr, range(CODE_POINTS)))
    outside = [(regex.compile(_NOT_IN.get(name, rf"\P{{{name}}}")), stand_in) for name, stand_in in _STAND_INS.items()]
    found = {}
    for run in re.finditer(rb"(?s)(.)\1*", categories()):
        pattern, stand_in = outside[run.group(1)[0]]
        for character in pattern.findall(everything, run.start(), run.end()):
            found[ord(character)] = stand_in
    return found


def on_the_pinned_table(text: str) -> str:
    r"""Text of the same length that the installed `regex` splits as ours would be split on the pinned Unicode table.

    A character that `regex` and the table put into different categories (a letter that a later Unicode added) becomes
    one of its category in the table, about which they agree. So whatever a pattern asks with
    `\p{L} \p{Lu} \p{Ll} \p{Lt} \p{Lm} \p{Lo} \p{M} \p{N} \s`, the answer is the table's.
    """
    if text.isascii() or _disputed().keys().isdisjoint(map(ord, set(text))):
        return text
    return text.translate(_disputed())


def _say_slow(pattern: str, text: str, position: int) -> None:
    logging.getLogger("atomiclm.tokenizer").warning(
        "tokenizer.pattern: %.80r has looked for one piece for %g s, at character %s of %s of the document that begins "
        "%r, where it reads %r. It tries the same characters again and again, and may take hours: Ctrl-C stops it; "
        "then write a++ for a+ where it must not give back what it has taken, or take one of %s",
        pattern, SLOW_SECONDS, f"{position:,}", f"{len(text):,}", text[:40], text[position : position + 40],
        ", ".join(PATTERNS),
    )  # fmt: skip


def split_pattern(pattern: str) -> SplitPattern:
    r"""Compile a pattern given by its name or as a regular expression (in the syntax of the `regex` package).

    Text that a custom pattern does not match is not lost: each gap between two matches is a pretoken too. Of the pinned
    Unicode table it sees the properties that `on_the_pinned_table` lists; others (`\w \d \b \X`, `\p{P}`, `\p{Nd}`,
    scripts) and matching without regard to case are up to the installed `regex`. Characters about which the two differ
    match no literal or range.

    Raises:
        ValueError: the expression does not compile, holds a capturing group, is a plain word that is no
            known name, or would be expanded beyond all bounds (a file can hold any expression).
    """
    if pattern not in PATTERNS and re.fullmatch(r"[\w-]*", pattern):
        # Valid as an expression, but one that matches only itself: a misspelt name, which must not pass in silence.
        raise ValueError(f"pattern: {pattern!r} is unknown; use {', '.join(PATTERNS)}, or a regular expression")
    counted = re.findall(r"\{(\d*),?(\d*)\}", pattern)  # the repeats {2} {2,} {,3} {2,3}
    repeats = math.prod(max(1, int(least or 1), int(most or 1)) for least, most in counted)
    if len(pattern) > MAX_PATTERN_CHARACTERS or repeats > MAX_PATTERN_REPEATS:
        raise ValueError(
            f"pattern: {pattern!r:.80} could exhaust the memory: it is longer than {MAX_PATTERN_CHARACTERS} characters "
            f"or its repeat counts multiply to more than {MAX_PATTERN_REPEATS}; write a simpler expression"
        )
    text = PATTERNS.get(SPELLINGS.get(pattern, pattern), pattern)
    name = next((known for known, expression in PATTERNS.items() if expression == text), CUSTOM)
    try:
        compiled = regex.compile(text)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ValueError(
            f"pattern: {pattern!r} is not a valid regular expression ({error}); "
            f"correct it, or use one of {', '.join(PATTERNS)}"
        ) from error
    if compiled.groups:
        raise ValueError(f"pattern: {pattern!r} has a capturing group; write (?:...) instead of (...)")

    def split(whole: str) -> list[str]:
        seen = on_the_pinned_table(whole)
        pieces: list[str] = compiled.findall(seen)
        if seen is not whole:
            cuts = accumulate(map(len, pieces), initial=0)
            pieces = [whole[start:end] for start, end in pairwise(cuts)]
        return pieces

    def split_with_gaps(whole: str) -> list[str]:
        seen = on_the_pinned_table(whole)
        pieces: list[str] = []
        end = 0
        limit: float | None = SLOW_SECONDS
        while True:
            begun = end
            try:
                for match in compiled.finditer(seen, end, timeout=limit):
                    pieces += [whole[end : match.start()], whole[match.start() : match.end()]]
                    end = match.end()
            except TimeoutError:
                if end == begun:  # not one piece in all that time
                    _say_slow(text, whole, end)
                    limit = None
                continue
            pieces.append(whole[end:])
            return [piece for piece in pieces if piece]

    if name == CUSTOM:
        return SplitPattern(CUSTOM, text, split_with_gaps, None)
    return SplitPattern(name, text, split, _PIECES_IN_DOUBT.get(name), _CODES[name])
