"""What is a letter, a number, a mark or a blank: one Unicode table, ours, pinned.

Python, the `regex` package, tiktoken and Hugging Face each bring their own table, and a new release may call more
characters letters and so give other ids. So the table is a file beside this one, and its hash goes into every
tokenizer. It is that of Unicode 16.0.0 (2024), the same as in tiktoken 0.14 and Hugging Face `tokenizers` 0.23.
"""

import functools
import hashlib
from pathlib import Path

UNICODE_VERSION = "16.0.0"
UNICODE_SHA256 = "402591aa3e3f3a187164fbef7d17ab693cd2c2372fc144a722334cdf66983953"
"""SHA-256 of `categories()`."""

CODE_POINTS = 0x110000

CATEGORIES = ("other", "M", "space", "newline", "N", "Lu", "Lt", "Ll", "Lm", "Lo")
"""The categories that patterns can tell apart; `categories()` holds indices into this tuple."""

# Classes, which is what splitters tell apart: the categories, without what no pattern asks for. OTHER is also a byte
# that is not UTF-8, SPACE another blank than a line break, UPPER also title case, LETTER a letter without case.
OTHER, MARK, SPACE, NEWLINE, NUMBER, UPPER, LOWER, LETTER = range(8)
CLASS_BITS = 3
BLOCK_BITS = 7  # the class of code point c is stage2[stage1[c >> 7] << 7 | c & 127], and the first block is ASCII

_FILE = Path(__file__).with_name("unicode_16.txt")
_CLASS_OF = bytes([OTHER, MARK, SPACE, NEWLINE, NUMBER, UPPER, UPPER, LOWER, LETTER, LETTER])


@functools.cache
def categories() -> bytes:
    """The category of each code point, an index into `CATEGORIES`; ValueError where the file is not ours."""
    table = bytearray(CODE_POINTS)
    index = {name: number for number, name in enumerate(CATEGORIES)}
    try:
        for line in _FILE.read_text("ascii").splitlines():
            if not line.startswith("#"):
                points, *names = line.split()
                first, _, last = points.partition("-")
                start, end = int(first, 16), int(last or first, 16) + 1
                kinds = bytes(index[name] for name in names)
                table[start:end] = kinds * ((end - start) // len(kinds))
        whole = hashlib.sha256(table).hexdigest() == UNICODE_SHA256
    except (ValueError, KeyError, ZeroDivisionError):
        whole = False
    if not whole:
        raise ValueError(f"{_FILE}: this is not the table of Unicode {UNICODE_VERSION} that belongs here; reinstall")
    return bytes(table)


@functools.cache
def classes() -> bytes:
    """The class of each code point."""
    return categories().translate(_CLASS_OF.ljust(256, b"\0"))


@functools.cache
def two_stages() -> tuple[bytes, bytes]:
    """`classes()` in 38 KB: most blocks of 128 code points look like another block, so each block is stored once.

    Returns:
        (stage1, stage2): the class of code point c is `stage2[stage1[c >> 7] << 7 | c & 127]`.
    """
    size = 1 << BLOCK_BITS
    table = classes()
    numbers: dict[bytes, int] = {}
    stage1 = bytes(
        numbers.setdefault(table[start : start + size], len(numbers)) for start in range(0, CODE_POINTS, size)
    )
    return stage1, b"".join(numbers)
