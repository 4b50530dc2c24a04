r"""The first cut: a regular expression divides text into pretokens, and no merge ever crosses from one to the next.

Without it the most frequent pairs would be glued across words (`dog.`, `dog!`, `dog?` would each become a token).

| name | what is one pretoken, for example | source |
|---|---|---|
| `gpt4` | a word with the one blank or sign before it; up to three digits | OpenAI cl100k_base (2023), as in Llama 3 |
| `gpt2` | a word with the one blank before it; a whole number | Radford et al. (2019) |
| `none` | the whole text between two special tokens | |

There are two GPT-4 patterns in the world and they are not equal. Ours is the classic one, whose tail is
`\s*[\r\n]+|\s+(?!\S)|\s+`: minbpe, rustbpe, nanochat and Llama 3 split the same way. tiktoken 0.14 ships another tail
(`\s++$|\s*[\r\n]|\s+(?!\S)|\s`), which differs on text that ends in a line break and blanks: of "foo\n  " the classic
pattern makes "foo", "\n", "  " and the other "foo", "\n  ". We write it without possessive quantifiers, as Llama 3
does, because `regex`, tiktoken's engine and Oniguruma (Hugging Face) then read it with the same meaning.

What counts as a letter or a number comes from the Unicode tables of the installed `regex` package. They are newer
than those of other engines, so text in scripts added to Unicode after 2022 may be split differently elsewhere.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import regex

from atomiclm.tokenizer.constants import MAX_PATTERN_CHARACTERS, MAX_PATTERN_REPEATS

GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"  # an English contraction: 's 'LL
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"  # letters, with one sign or blank before them: " word", "(word"
    r"|\p{N}{1,3}"  # one to three digits
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"  # signs, with the line breaks after them
    r"|\s*[\r\n]+"  # blanks up to the last line break
    r"|\s+(?!\S)"  # blanks but the last, which belongs to the word that follows
    r"|\s+"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
NONE = r"[\s\S]+"

PATTERNS = {"gpt4": GPT4, "gpt2": GPT2, "none": NONE}
"""The named patterns; any other regular expression can be used as well."""

CUSTOM = "custom"
"""The name of every pattern that is not in `PATTERNS`."""

_PIECES_IN_DOUBT = {"gpt4": 2, "gpt2": 2}
# Why two. These patterns look back at nothing and ahead at most one character past a run. So when text breaks off and
# may go on, only the run it broke off in can still be cut otherwise. In `gpt4` that is the last piece, or a run of
# blanks in two pieces ("\n", "  ", which one more "\n" makes a single piece); in `gpt2` "'", "l" become "'ll".


@dataclass(frozen=True)
class SplitPattern:
    """A compiled split pattern.

    Attributes:
        name: a key of `PATTERNS`, or "custom".
        text: the regular expression; this, not the name, is what defines the split.
        split: text to its pretokens, in order and losing nothing: `"".join(split(text)) == text`.
        pieces_in_doubt: how many pretokens at the end of a text could be cut otherwise if the text went on; None
            when nothing is known about the pattern, so that only the end of the text settles it.
    """

    name: str
    text: str
    split: Callable[[str], list[str]]
    pieces_in_doubt: int | None


def _repeat_bounds(expression: str) -> list[list[str]]:
    """The numbers in each of its counted repeats: `a{2,3}b{4}` gives [["2", "3"], ["4"]]."""
    return [re.findall(r"\d+", repeat) for repeat in re.findall(r"\{\d*,?\d+\}|\{\d+,\}", expression)]


def split_pattern(pattern: str) -> SplitPattern:
    """Compile a pattern given by its name or as a regular expression (in the syntax of the `regex` package).

    Text that a custom pattern does not match is not lost: each gap between two matches is a pretoken too.

    Raises:
        ValueError: the expression does not compile, holds a capturing group, is a plain word that is no
            known name, or would be expanded beyond all bounds (a file can hold any expression).
    """
    if pattern not in PATTERNS and re.fullmatch(r"[\w-]*", pattern):
        # Valid as an expression, but one that matches only itself: a misspelt name, which must not pass in silence.
        raise ValueError(f"pattern: {pattern!r} is unknown; use {', '.join(PATTERNS)}, or a regular expression")
    repeats = math.prod(max(1, *map(int, bounds)) for bounds in _repeat_bounds(pattern))
    if len(pattern) > MAX_PATTERN_CHARACTERS or repeats > MAX_PATTERN_REPEATS:
        raise ValueError(
            f"pattern: {pattern!r:.80} could exhaust the memory: it is longer than {MAX_PATTERN_CHARACTERS} characters "
            f"or its repeat counts multiply to more than {MAX_PATTERN_REPEATS}; write a simpler expression"
        )
    text = PATTERNS.get(pattern, pattern)
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
    if name != CUSTOM:
        return SplitPattern(name, text, compiled.findall, _PIECES_IN_DOUBT.get(name))

    def split_with_gaps(whole: str) -> list[str]:
        pieces = []
        end = 0
        for match in compiled.finditer(whole):
            pieces += [whole[end : match.start()], match.group()]
            end = match.end()
        pieces.append(whole[end:])
        return [piece for piece in pieces if piece]

    return SplitPattern(name, text, split_with_gaps, None)
