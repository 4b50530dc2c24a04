"""How a token of arbitrary bytes is written in a JSON file: one printable character for each byte.

Source: Radford et al. (2019), "GPT-2", `bytes_to_unicode` in its encoder; Hugging Face's `ByteLevel` does the same.
"""

from atomiclm.tokenizer.constants import TOKENIZER_BASE_LENGTH


def _byte_characters() -> list[str]:
    """What GPT-2 writes for each byte: its Latin-1 character where that is printable, else the next from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(TOKENIZER_BASE_LENGTH)]


CHARACTERS = _byte_characters()
"""The character of each byte."""

_BYTES = {character: byte for byte, character in enumerate(CHARACTERS)}


def spell(token: bytes) -> str:
    """The bytes as the printable characters that stand for them."""
    return "".join(CHARACTERS[byte] for byte in token)


def read(spelling: str) -> bytes:
    """The bytes that these characters stand for; the inverse of `spell`."""
    return bytes(_BYTES[character] for character in spelling)
