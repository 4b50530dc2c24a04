"""From a stream to counted pretokens, which is all that training needs to know about a corpus.

    chunks (str, bytes) -> text -> segments between special tokens -> pretokens -> how often each occurs

Each step is a generator that holds back only what the rest of the stream could still change, so the result depends on
the text alone and never on where the chunks were cut. Memory grows with the number of different pretokens, not with
the corpus (with two exceptions: `none` and custom patterns hold the text between two special tokens, because only its
end settles how it is split).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from atomiclm.tokenizer.constants import BLOCK_CHARACTERS
from atomiclm.tokenizer.patterns import SplitPattern
from atomiclm.tokenizer.special import segments
from atomiclm.tokenizer.utf8 import join_chunks, to_bytes


def count_pretokens(
    chunks: Iterable[str | bytes],
    pattern: SplitPattern,
    special_tokens: Sequence[str] = (),
    block_characters: int = BLOCK_CHARACTERS,
) -> dict[bytes, int]:
    """Count the pretokens of a stream.

    Args:
        chunks: the pieces of one stream, in order.
        pattern: what divides text into pretokens.
        special_tokens: spellings that divide the text first and are counted nowhere.
        block_characters: how much text to split at a time; changes memory and speed, never the result.

    Raises:
        ValueError: a chunk is neither str nor bytes.
    """
    blocks = join_chunks(chunks, block_characters)
    counter: Counter[str] = Counter()
    for pieces in split_stream(segments(blocks, special_tokens), pattern, block_characters):
        counter.update(pieces)
    counts: dict[bytes, int] = {}
    for piece, count in counter.items():
        data = to_bytes(piece)  # two spellings can stand for the same bytes (see utf8.py)
        counts[data] = counts.get(data, 0) + count
    return counts


def split_stream(
    parts: Iterable[tuple[str, bool]], pattern: SplitPattern, block_characters: int = BLOCK_CHARACTERS
) -> Iterator[list[str]]:
    """Split text that comes in parts exactly as if it had come whole.

    Args:
        parts: (text, ends) as from `segments`; where `ends` is true the text is complete and the next part begins
            another.
        pattern: what divides text into pretokens.
        block_characters: text is collected up to this length before it is split.

    Yields:
        Lists of pretokens, in order.
    """
    waiting: list[str] = []
    size = 0
    ready = block_characters
    for text, ends in parts:
        waiting.append(text)
        size += len(text)
        if not ends and (pattern.pieces_in_doubt is None or size < ready):
            continue
        pieces = pattern.split("".join(waiting))
        settled = len(pieces) if ends else max(0, len(pieces) - (pattern.pieces_in_doubt or 0))
        yield pieces[:settled]
        waiting = pieces[settled:]
        size = sum(map(len, waiting))
        # A pretoken can be longer than a block. Waiting for twice its length keeps the total work linear.
        ready = max(block_characters, 2 * size)
