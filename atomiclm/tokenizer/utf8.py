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


def as_bytes(chunk: str | bytes) -> bytes:
    """A piece of a stream as bytes.

    Raises:
        ValueError: it is neither str nor bytes.
    """
    if isinstance(chunk, str):
        return to_bytes(chunk)
    if isinstance(chunk, bytes):
        return chunk
    raise ValueError(
        f"chunks: expected pieces of type str or bytes, got {type(chunk).__name__}; "
        f"pass an iterable of them, or a single str or bytes to train()"
    )


def join_chunks(chunks: Iterable[str | bytes], block_bytes: int) -> Iterator[bytes]:
    """Read chunks as one stream, in blocks of at least `block_bytes` (the last may be shorter, even empty).

    Raises:
        ValueError: a chunk is neither str nor bytes.
    """
    block: list[bytes] = []
    size = 0
    for chunk in chunks:
        block.append(as_bytes(chunk))
        size += len(block[-1])
        if size >= block_bytes:
            yield b"".join(block)
            block.clear()
            size = 0
    yield b"".join(block)


def to_text(data: bytes) -> str:
    """The text that bytes stand for, with a surrogate for each byte that is not UTF-8; `to_bytes` is the way back."""
    return data.decode("utf-8", _ESCAPE)


def cut_character(data: bytes) -> int:
    """How many bytes at the end of `data` are the beginning of a character whose rest may still come: 0 to 3.

    >>> cut_character("日".encode()[:2]), cut_character("日".encode())
    (2, 0)
    """
    decoder = codecs.getincrementaldecoder("utf-8")(_ESCAPE)
    decoder.decode(data[-4:])
    return len(decoder.getstate()[0])
