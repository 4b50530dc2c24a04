"""Special tokens: ids that stand for no text, only for an event such as the end of a document.

They must be found before anything else looks at the text: training never learns from their spelling, and encoding
gives their id only to callers who allow it, so a document that happens to contain "<|endoftext|>" cannot end itself.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


def check_special_tokens(special_tokens: Sequence[str]) -> tuple[str, ...]:
    """Return the tokens as a tuple, or say what is wrong with them.

    Raises:
        ValueError: one string instead of a list, an element that is not a string, is empty, has no UTF-8, or comes
            twice.
    """
    if isinstance(special_tokens, str):
        raise ValueError(f"special_tokens: expected a list of strings; write [{special_tokens!r}]")
    special_tokens = tuple(special_tokens)
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
    return special_tokens


type Finder = re.Pattern[bytes] | None


def special_finder(special_tokens: Iterable[bytes]) -> Finder:
    """A regular expression that finds the tokens, the longest where several begin; None when there are none."""
    longest_first = sorted(special_tokens, key=lambda token: (-len(token), token))
    return re.compile(b"|".join(map(re.escape, longest_first))) if longest_first else None


class Segment(NamedTuple):
    """A piece of a stream.

    Attributes:
        data: text without special tokens.
        ends: whether the text ends with this piece: a special token follows, or nothing at all.
        token: the special token that follows; empty when none does.
    """

    data: bytes
    ends: bool
    token: bytes = b""


def segments(blocks: Iterable[bytes], special_tokens: Sequence[bytes]) -> Iterator[Segment]:
    """Cut a stream at its special tokens, wherever the borders of the blocks are.

    A special token that lies across the border of two blocks is recognised: the end of a block that could be the
    beginning of one is held back until more is known.
    """
    finder = special_finder(special_tokens)
    held = b""
    for block in blocks:
        data = held + block
        position = 0
        undecided = _first_undecided(data, position, special_tokens)
        match = finder.search(data) if finder else None
        while finder and match and match.start() < undecided:
            yield Segment(data[position : match.start()], True, match.group())
            position = match.end()
            # The match may have used up bytes that looked like the beginning of another token.
            undecided = _first_undecided(data, position, special_tokens)
            match = finder.search(data, position)
        yield Segment(data[position:undecided], False)
        held = data[undecided:]
    position = 0
    for match in finder.finditer(held) if finder else ():
        yield Segment(held[position : match.start()], True, match.group())
        position = match.end()
    yield Segment(held[position:], True)


def _first_undecided(data: bytes, position: int, special_tokens: Sequence[bytes]) -> int:
    """First index from `position` on whose rest of the data may be the beginning of a (longer) special token."""
    longest = max(map(len, special_tokens), default=1)
    first_bytes = {token[0] for token in special_tokens}
    for index in range(max(position, len(data) - longest + 1), len(data)):
        if data[index] in first_bytes:
            rest = data[index:]
            if any(token.startswith(rest) and len(token) > len(rest) for token in special_tokens):
                return index
    return len(data)
