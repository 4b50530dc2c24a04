"""How a token of arbitrary bytes is written in a JSON file: one printable character for each byte.

Source: Radford et al. (2019), "GPT-2", `bytes_to_unicode` in its encoder; Hugging Face's `ByteLevel` does the same.
"""

from atomiclm.tokenizer.tie_break import PRINTABLE, byte_order

CHARACTERS = [
    chr(byte if byte in PRINTABLE else 0x100 + place - len(PRINTABLE))
    for byte, place in enumerate(byte_order("huggingface"))
]
"""The character of each byte: its own in Latin-1 where that is printable, else the next from U+0100 on."""

_BYTES = {character: byte for byte, character in enumerate(CHARACTERS)}


def spell(token: bytes) -> str:
    """The bytes as the printable characters that stand for them."""
    return "".join(CHARACTERS[byte] for byte in token)


def read(spelling: str) -> bytes:
    """The bytes that these characters stand for; the inverse of `spell`."""
    return bytes(_BYTES[character] for character in spelling)
