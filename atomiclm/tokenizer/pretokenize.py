"""From a stream to counted pretokens, which is all that training needs to know about a corpus.

    chunks (str, bytes) -> blocks of bytes -> segments between special tokens -> pretokens -> how often each occurs

Each step is a generator that holds back only what the rest of the stream could still change, so the result depends on
the stream alone and never on where the chunks were cut. Memory grows with the number of different pretokens, not with
the corpus (but `none` and custom patterns hold the text between two special tokens, whose end settles how it is split).

Special tokens stand for no text, only for an event such as the end of a document. They are found before anything else
looks at the text: training never learns from their spelling, and encoding gives their id only to callers who allow it,
so a document that happens to contain "<|endoftext|>" cannot end itself.

A Python string can hold surrogates, which UTF-8 cannot. U+DC80 to U+DCFF stand for one byte each, 0x80 to 0xFF: that
is how Python spells bytes that are not UTF-8 (PEP 383, "surrogateescape"), so arbitrary bytes survive as text. Any
other becomes U+FFFD, the replacement character, as in tiktoken.
"""

import codecs
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, groupby, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from atomiclm.tokenizer.constants import BLOCK_BYTES
from atomiclm.tokenizer.patterns import SplitPattern

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    type Ends = Sequence[int] | NDArray[np.int64]

type Chunk = str | bytes | tuple[str | bytes, int]
"""A piece of a stream, or a whole document and how often it counts."""

_ESCAPE = "surrogateescape"
_WITHOUT_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def to_bytes(text: str) -> bytes:
    """The bytes that `text` stands for: its UTF-8, with surrogates as the module's docstring says."""
    try:
        return text.encode("utf-8", _ESCAPE)
    except UnicodeEncodeError:
        return _WITHOUT_BYTES.sub("\N{REPLACEMENT CHARACTER}", text).encode("utf-8", _ESCAPE)


def as_bytes(text: str | bytes, argument: str, fix: str) -> bytes:
    """Text or bytes as bytes; a ValueError that names the argument and the fix where it is neither."""
    if isinstance(text, str):
        return to_bytes(text)
    if isinstance(text, bytes):
        return text
    raise ValueError(f"{argument}: expected str or bytes, got {type(text).__name__}; {fix}")


type Finder = re.Pattern[bytes] | None


def special_finder(special_tokens: Iterable[bytes]) -> Finder:
    """A regular expression that finds the tokens, the longest where several begin; None when there are none."""
    longest_first = sorted(special_tokens, key=lambda token: (-len(token), token))
    return re.compile(b"|".join(map(re.escape, longest_first))) if longest_first else None


class Segment(NamedTuple):
    """A piece of a stream."""

    data: bytes  # text without special tokens
    ends: bool  # whether the text ends with this piece: a special token follows, or nothing at all
    token: bytes = b""  # the special token that follows; empty when none does


def segments(blocks: Iterable[bytes], special_tokens: Sequence[bytes]) -> Iterator[Segment]:
    """Cut a stream at its special tokens, also where one lies across the border of two blocks.

    The end of a block that could begin a special token, or a longer one, is held back until more is known.
    """
    finder = special_finder(special_tokens)
    longest = max(map(len, special_tokens), default=1)
    first_bytes = {token[0] for token in special_tokens}
    first = bytes(first_bytes) if len(first_bytes) == 1 else b""

    def first_undecided(data: bytes, position: int) -> int:
        for index in range(max(position, len(data) - longest + 1), len(data)):
            if data[index] in first_bytes:
                rest = data[index:]
                if any(token.startswith(rest) and len(token) > len(rest) for token in special_tokens):
                    return index
        return len(data)

    held = b""
    for block, last in chain(((block, False) for block in blocks), [(b"", True)]):
        data = held + block
        position = 0
        # A special token begins with a rare byte, which is found at once; a regular expression takes its time.
        while finder and (at := data.find(first, position)) >= 0 and (match := finder.search(data, at)):
            near_the_end = not last and match.start() > len(data) - longest
            if near_the_end and match.start() >= first_undecided(data, position):
                break
            yield Segment(data[position : match.start()], True, match.group())
            position = match.end()
        undecided = len(data) if last else first_undecided(data, position)
        yield Segment(data[position:undecided], last)
        held = data[undecided:]


def join_chunks(chunks: Iterable[str | bytes], block_bytes: int) -> Iterator[bytes]:
    """Read chunks as one stream, in blocks of at least `block_bytes` (the last may be shorter, even empty)."""
    block: list[bytes] = []
    size = 0
    for chunk in chunks:
        block.append(as_bytes(chunk, "chunks", "pass an iterable of them, or one str or bytes to train()"))
        size += len(block[-1])
        if size >= block_bytes:
            yield b"".join(block)
            block.clear()
            size = 0
    yield b"".join(block)


def cut_character(data: bytes) -> int:
    """How many bytes at the end of `data` are the beginning of a character whose rest may still come: 0 to 3."""
    decoder = codecs.getincrementaldecoder("utf-8")(_ESCAPE)
    decoder.decode(data[-4:])
    return len(decoder.getstate()[0])


class RegexSplitter:
    """Cuts bytes into pretokens by the regular expression of a pattern; `fast/split.py` does so by kernels."""

    def __init__(self, pattern: SplitPattern) -> None:
        self.pattern = pattern

    def cuts(self, data: bytes, stops: Sequence[int] = ()) -> "Ends":
        """The offset in `data` at which each pretoken ends; `stops` says where texts end, if there are several."""
        if len(stops) > 1:
            texts = [(start, data[start:stop]) for start, stop in pairwise((0, *stops))]
            return [start + end for start, text in texts for end in self.cuts(text)]
        text = data.decode("utf-8", _ESCAPE)
        pieces = self.pattern.split(text)
        if text.isascii():
            return list(accumulate(map(len, pieces)))
        return list(accumulate(len(piece.encode("utf-8", _ESCAPE)) for piece in pieces))


def weighted_segments(
    chunks: Iterable[Chunk], special_tokens: Sequence[bytes], block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[int, Iterator[Segment]]]:
    """The segments of a stream in which whole documents may have weights: how often some count, and those."""
    for weight, group in groupby(map(_with_weight, chunks), key=itemgetter(1)):
        pieces = map(itemgetter(0), group)
        if weight:
            documents = (segments(join_chunks([document], block_bytes), special_tokens) for document in pieces)
            yield weight, chain.from_iterable(documents)
        else:
            yield 1, segments(join_chunks(pieces, block_bytes), special_tokens)


def _with_weight(chunk: Chunk) -> tuple[str | bytes, int]:
    """A document and its weight, which is 0 for a piece of the stream."""
    if not isinstance(chunk, tuple):
        return chunk, 0
    if len(chunk) != 2 or type(chunk[1]) is not int or chunk[1] < 1:
        raise ValueError(
            f"chunks: a pair must be a document and a positive integer, got {chunk!r:.80}; "
            f"write (text, how often it counts)"
        )
    return chunk


class Block(NamedTuple):
    """Consecutive pretokens: `data[0:ends[0]]`, `data[ends[0]:ends[1]]`, ...; the rest belongs to the next block."""

    data: bytes
    ends: "Ends"
    token: bytes  # the special token after the last one; empty when there is none


def split_stream(
    parts: Iterable[Segment], splitter: RegexSplitter, block_bytes: int = BLOCK_BYTES, together: bool = False
) -> Iterator[Block]:
    """Split the segments of a stream, collected up to `block_bytes`, exactly as if they had come whole.

    Args:
        together: cut short texts many at a time, and leave out the special tokens between them.
    """
    in_doubt = splitter.pattern.pieces_in_doubt
    waiting: list[bytes] = []
    stops: list[int] = []  # where texts end in what waits
    size = 0
    ready = block_bytes
    for data, ends, token in parts:
        waiting.append(data)
        size += len(data)
        if ends:
            stops.append(size)
            if together and size < block_bytes:
                continue
        elif in_doubt is None or size < ready:
            continue
        data = b"".join(waiting)
        rest = b""
        begin = stops[-1] if stops else 0  # of the text that has not ended, if there is one
        if not ends and (cut := cut_character(data[begin:])):
            data, rest = data[:-cut], data[-cut:]
        cuts = splitter.cuts(data, stops if ends else [*stops, len(data)])
        settled = len(cuts) if ends else max(bisect_right(cuts, begin), len(cuts) - (in_doubt or 0))
        yield Block(data, cuts[:settled], b"" if together else token)
        waiting = [data[cuts[settled - 1] if settled else 0 :], rest]
        stops = []
        size = sum(map(len, waiting))
        # A pretoken can be longer than a block. Waiting for twice its length keeps the total work linear.
        ready = max(block_bytes, 2 * size)
    if stops:
        data = b"".join(waiting)
        yield Block(data, splitter.cuts(data, stops), b"")


def beginning(chunks: Iterable[Chunk], size: int) -> tuple[Iterator[Chunk], int]:
    """The same stream, read on until it has `size` characters or bytes, and how many it has at least."""
    stream = iter(chunks)
    first: list[Chunk] = []
    found = 0
    for chunk in stream:
        first.append(chunk)
        text = chunk[0] if isinstance(chunk, tuple) and chunk else chunk
        found += len(text) if isinstance(text, str | bytes) else 0  # what is neither will be refused where it is read
        if found >= size:
            break
    return chain(first, stream), found


def count_pretokens(
    chunks: Iterable[Chunk],
    pattern: SplitPattern,
    special_tokens: Sequence[bytes] = (),
    block_bytes: int = BLOCK_BYTES,
) -> dict[bytes, int]:
    """Count the pretokens of a stream; special tokens divide it first and are counted nowhere."""
    counts: dict[bytes, int] = {}
    for weight, parts in weighted_segments(chunks, special_tokens, block_bytes):
        for data, ends, _ in split_stream(parts, RegexSplitter(pattern), block_bytes):
            for start, end in pairwise((0, *ends)):
                pretoken = data[start:end]
                counts[pretoken] = counts.get(pretoken, 0) + weight
    return counts
