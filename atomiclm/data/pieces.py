"""Cutting a long document into pieces that are encoded one by one."""

import re
from collections.abc import Iterator

PIECE_CHARACTERS = 1 << 18

# Before the single space between two words, or after a line feed between two visible characters. Both the GPT-2 and
# the GPT-4 pattern start a pre-token there whatever stands around, so the pieces' ids are the whole's ids.
_CUT = re.compile(r"(?<=[^\W\d_])(?= [^\W\d_])|(?<=\S\n)(?=\S)")


def pieces(text: str, size: int = PIECE_CHARACTERS) -> Iterator[str]:
    """`text` in pieces of `size` characters or somewhat more, so that memory and progress do not hang on its length.

    Cut where the common patterns cut anyway. Under another pattern, or in a text without such places within another
    `size` characters, the merge at a cut may differ from the whole text's; the bytes never do.
    """
    start = 0
    while len(text) - start > 2 * size:
        found = _CUT.search(text, start + size, start + 2 * size)
        cut = found.start() if found else start + 2 * size
        yield text[start:cut]
        start = cut
    yield text[start:]
