"""Our tokenizer as a `tiktoken.Encoding`, and back.

Both give the same ids for every string that has a UTF-8 form. Two habits differ: tiktoken raises when the spelling of a
special token is met that was not allowed (pass `disallowed_special=()`), and a lone surrogate, which here can stand for
a byte, is U+FFFD there.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from atomiclm.interop.expressions import matches_everything, name_of, one_meaning
from atomiclm.interop.tiktoken.ranks import from_ranks, ranks_of
from atomiclm.tokenizer import PATTERNS, BasicTokenizer
from atomiclm.user_error import UserError

if TYPE_CHECKING:
    import tiktoken


def to_tiktoken(tokenizer: BasicTokenizer, name: str = "atomiclm") -> tiktoken.Encoding:
    """An encoding with our ids.

    Args:
        tokenizer: trained, loaded or imported.
        name: what the encoding calls itself.

    Raises:
        ImportError: tiktoken is not installed.
        ValueError: tiktoken cannot say the vocabulary (see `ranks_of`), the split pattern or the special tokens.
    """
    try:
        import tiktoken
    except ImportError as error:
        raise ImportError("to_tiktoken needs tiktoken; run: pip install tiktoken") from error
    check_special_tokens(tokenizer)
    return tiktoken.Encoding(
        name,
        pat_str=pattern_of(tokenizer),
        mergeable_ranks=ranks_of(tokenizer),
        special_tokens=tokenizer.special_tokens,
    )


def from_tiktoken(encoding: tiktoken.Encoding) -> BasicTokenizer:
    """The tokenizer with the ids of an encoding; its merges are recovered from the ranks.

    Raises:
        ValueError: the split pattern could mean something else in our engine, or the vocabulary is not of byte-pair
            encoding (see `from_ranks`).
    """
    # The constructor's arguments; tiktoken has no public names for them, and pickles an encoding by these.
    expression = encoding._pat_str
    name = name_of(expression)
    if name is None and not (one_meaning(expression) and matches_everything(expression)):
        raise UserError(
            f"encoding._pat_str: {expression!r:.80} is none of {', '.join(PATTERNS)}, and it may mean something else "
            "in another engine, or leave out text; only patterns for which neither can happen are imported"
        )
    return from_ranks(encoding._mergeable_ranks, name or expression, encoding._special_tokens)


def pattern_of(tokenizer: BasicTokenizer) -> str:
    """The split pattern as tiktoken's engine reads it.

    Raises:
        ValueError: it may read it with another meaning.
    """
    if tokenizer.pattern in PATTERNS:
        return PATTERNS[tokenizer.pattern]
    if not (one_meaning(tokenizer.pattern) and matches_everything(tokenizer.pattern)):
        raise UserError(
            f"tokenizer.pattern: {tokenizer.pattern!r:.80} is none of {', '.join(PATTERNS)}, and it may mean something "
            "else in tiktoken's engine, or leave out text, which tiktoken drops; train with one of these"
        )
    return tokenizer.pattern


def check_special_tokens(tokenizer: BasicTokenizer) -> None:
    """Of two special tokens that begin alike we take the longer; tiktoken takes either, by the chance of a hash.

    Raises:
        ValueError: there are two such tokens.
    """
    for shorter, longer in pairwise(sorted(tokenizer.special_tokens)):  # what begins with a token comes right after it
        if longer.startswith(shorter):
            raise UserError(
                f"tokenizer.special_tokens: {longer!r} begins with {shorter!r}; tiktoken may take either where the "
                "longer one stands, so such spellings cannot be exported"
            )
