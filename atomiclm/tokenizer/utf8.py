"""Between text and bytes, where the two do not fit.

A Python string can hold code points that UTF-8 cannot: the surrogates U+D800 to U+DFFF. Our policy, which never raises:

- U+DC80 to U+DCFF stand for one byte each, 0x80 to 0xFF. This is Python's own spelling (PEP 383, "surrogateescape")
  of bytes that are not UTF-8, so arbitrary bytes survive as text: for every `data`, well-formed or not,
  `decode_bytes(encode(data.decode("utf-8", "surrogateescape"))) == data`.
- Any other surrogate has no bytes it could stand for and becomes U+FFFD, the replacement character, as in tiktoken.
"""

import codecs
import re
from collections.abc import Iterable, Iterator

_ESCAPE = "surrogateescape"
_WITHOUT_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def to_bytes(text: str) -> bytes:
    """The bytes that `text` stands for: its UTF-8, with surrogates as this module's docstring says."""
    try:
        return text.encode("utf-8", _ESCAPE)
    except UnicodeEncodeError:
        return _WITHOUT_BYTES.sub("\N{REPLACEMENT CHARACTER}", text).encode("utf-8", _ESCAPE)


def join_chunks(chunks: Iterable[str | bytes], block_characters: int) -> Iterator[str]:
    """Read chunks as one stream of text, in blocks of at least `block_characters` (the last may be shorter).

    A UTF-8 character may be cut by the border of two chunks of bytes. Bytes that are not UTF-8 become surrogates (see
    the module's docstring).

    Raises:
        ValueError: a chunk is neither str nor bytes.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(_ESCAPE)
    block: list[str] = []
    size = 0
    for chunk in chunks:
        if isinstance(chunk, str):
            # A character cut off by the end of earlier bytes cannot be completed by text.
            piece = decoder.decode(b"", final=True) + chunk
            decoder.reset()
        elif isinstance(chunk, bytes):
            piece = decoder.decode(chunk)
        else:
            raise ValueError(
                f"chunks: expected pieces of type str or bytes, got {type(chunk).__name__}; "
                f"pass an iterable of them, or a single str or bytes to train()"
            )
        block.append(piece)
        size += len(piece)
        if size >= block_characters:
            yield "".join(block)
            block.clear()
            size = 0
    yield "".join(block) + decoder.decode(b"", final=True)
