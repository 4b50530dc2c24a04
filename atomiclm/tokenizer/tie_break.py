"""Which of two equally frequent pairs is merged first.

Ties are common: on a corpus of one megabyte the two rules below put one merge in ten elsewhere. Both are of the form
"the smaller pair of token numbers wins, left before right". They differ in how the bytes are numbered; merges are
numbered from 256 on in the order learned, by both.

| rule | the 256 bytes are ordered | who learns the same merges |
|---|---|---|
| `bytes` | by value | rustbpe, bpeasy |
| `huggingface` | by the character that GPT-2 prints for a byte | BpeTrainer of `tokenizers` |

GPT-2 writes a vocabulary as text and so needs a visible character for every byte: the 188 printable ones of Latin-1
stand for themselves, and U+0100 and those after it for the others, in order (Radford et al., 2019, `encoder.py`). A
trainer whose alphabet is sorted by these characters has the blank and the line break after all letters.

A pair is always stored as token numbers (a byte is its value), whatever the rule; the rule only orders.
"""

from typing import Literal

from atomiclm.tokenizer.bpe_ops import Pair
from atomiclm.tokenizer.constants import TOKENIZER_BASE_LENGTH

type TieBreak = Literal["bytes", "huggingface"]
"""The name of a rule."""

PRINTABLE = frozenset({*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)})


def byte_order(tie_break: TieBreak) -> bytes:
    """The place of each byte among the 256, so that `data.translate(byte_order(rule))` numbers bytes as the rule does.

    >>> byte_order("bytes")[:4]
    b'\\x00\\x01\\x02\\x03'
    >>> byte_order("huggingface")[ord("!")], byte_order("huggingface")[0]
    (0, 188)

    Raises:
        ValueError: there is no such rule.
    """
    if tie_break == "bytes":
        return bytes(range(TOKENIZER_BASE_LENGTH))
    if tie_break == "huggingface":
        # Printable bytes are their own characters; the others got later ones, in the order of their values.
        sorted_bytes = sorted(range(TOKENIZER_BASE_LENGTH), key=lambda value: (value not in PRINTABLE, value))
        return invert(bytes(sorted_bytes))
    raise ValueError(f"tie_break: {tie_break!r} is unknown; use 'bytes' or 'huggingface'")


def invert(order: bytes) -> bytes:
    """From place to byte what `order` is from byte to place, and the other way round.

    >>> invert(bytes([2, 0, 1]))
    b'\\x01\\x02\\x00'
    """
    inverse = bytearray(len(order))
    for value, place in enumerate(order):
        inverse[place] = value
    return bytes(inverse)


def with_bytes_numbered(merges: list[Pair], numbers: bytes) -> list[Pair]:
    """The same merges where the bytes have other numbers.

    >>> with_bytes_numbered([(0, 1), (256, 0)], bytes([97, 98]))
    [(97, 98), (256, 97)]
    """
    number_of = [*numbers, *range(len(numbers), TOKENIZER_BASE_LENGTH + len(merges))]
    return [(number_of[left], number_of[right]) for left, right in merges]
