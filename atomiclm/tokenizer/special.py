"""Special tokens: ids that stand for no text, only for an event such as the end of a document.

They must be found before anything else looks at the text: training never learns from their spelling, and encoding
gives their id only to callers who allow it, so a document that happens to contain "<|endoftext|>" cannot end itself.
"""

import re
from collections.abc import Iterable, Iterator, Sequence


def check_special_tokens(special_tokens: Sequence[str]) -> tuple[str, ...]:
    """Return the tokens as a tuple, or say what is wrong with them.

    Raises:
        ValueError: one string instead of a list, an element that is not a string, is empty, has no UTF-8, or comes
            twice.
    """
    if isinstance(special_tokens, str):
        raise ValueError(f"special_tokens: expected a list of strings; write [{special_tokens!r}]")
    seen: set[str] = set()
    for token in special_tokens:
        if not isinstance(token, str):
            raise ValueError(f"special_tokens: {token!r} is not a string; put it in quotes")
        if not token:
            raise ValueError(
                "special_tokens: a token is empty and would match everywhere; give it a spelling or remove it"
            )
        if not token.isascii() and any("\ud800" <= character <= "\udfff" for character in token):
            raise ValueError(f"special_tokens: {token!r} holds a surrogate, which has no UTF-8; use other characters")
        if token in seen:
            raise ValueError(f"special_tokens: {token!r} is given twice; each token has one id, remove one of them")
        seen.add(token)
    return tuple(special_tokens)


def special_finder(special_tokens: Iterable[str]) -> re.Pattern[str] | None:
    """A regular expression that finds the tokens, the longest where several begin; None when there are none."""
    longest_first = sorted(special_tokens, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def segments(blocks: Iterable[str], special_tokens: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Cut a stream of text at its special tokens and leave them out, wherever the borders of the blocks are.

    Yields:
        (text, ends): the next piece of the stream, and whether a special token or the end of the stream follows it.
        A special token that lies across the border of two blocks is recognised: the end of a block that could be the
        beginning of one is held back until more is known.
    """
    finder = special_finder(special_tokens)
    held = ""
    for block in blocks:
        text = held + block
        position = 0
        undecided = _first_undecided(text, position, special_tokens)
        match = finder.search(text) if finder else None
        while finder and match and match.start() < undecided:
            yield text[position : match.start()], True
            position = match.end()
            # The match may have used up characters that looked like the beginning of another token.
            undecided = _first_undecided(text, position, special_tokens)
            match = finder.search(text, position)
        yield text[position:undecided], False
        held = text[undecided:]
    position = 0
    for match in finder.finditer(held) if finder else ():
        yield held[position : match.start()], True
        position = match.end()
    yield held[position:], True


def _first_undecided(text: str, position: int, special_tokens: Sequence[str]) -> int:
    """First index from `position` on whose rest of the text may be the beginning of a (longer) special token."""
    longest = max(map(len, special_tokens), default=1)
    for index in range(max(position, len(text) - longest + 1), len(text)):
        if any(token.startswith(text[index:]) for token in special_tokens):
            return index
    return len(text)
