"""What a tokenizer learned, in figures: its longest tokens, what each size of vocabulary buys, and for whom.

Bytes per token hides two things. Most of the gain comes from the first few thousand merges, so a smaller vocabulary may
do. And a vocabulary learned from mostly English text spells other scripts byte by byte, so the same model pays several
times as much for them (Petrov et al., 2023, arXiv 2305.15425).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import regex
from numpy.typing import NDArray

from atomiclm.tokenizer.constants import TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.tokenizer import BasicTokenizer

SCRIPTS = (
    "Latin", "Greek", "Cyrillic", "Armenian", "Georgian", "Hebrew", "Arabic", "Ethiopic", "Devanagari", "Bengali",
    "Tamil", "Thai", "Khmer", "Tibetan", "Hangul", "Hiragana", "Katakana", "Han", "Canadian_Aboriginal",
)  # fmt: skip


def describe(tokenizer: BasicTokenizer, data: bytes) -> list[str]:
    """The three tables as lines of text; `data` should be text that the tokenizer was not trained on."""
    lines = ["longest tokens  " + "  ".join(map(show, longest_tokens(tokenizer)))]
    rates = compression_by_size(tokenizer, data)
    lines.append(f"compression of {len(data):,} bytes that were not trained on, by size of the vocabulary:")
    best = [*rates.values()][-1] or 1  # of no text at all it is 0
    for vocab_size, rate in rates.items():
        lines.append(f"  {vocab_size:>9,} ids  {rate:6.3f} bytes/token  {'#' * round(40 * rate / best)}")
    lines.append("by script:               share   bytes/token   tokens/character")
    for row in fertility_by_script(tokenizer, data):
        if row.share >= 0.001:
            lines.append(
                f"  {row.script:22} {row.share:6.1%} {row.bytes_per_token:13.3f} {row.tokens_per_character:18.3f}"
            )
    return lines


def longest_tokens(tokenizer: BasicTokenizer, count: int = 12) -> list[bytes]:
    """The longest tokens, without those that are part of a longer one listed."""
    found: list[bytes] = []
    for token in sorted((tokenizer.decode_bytes([token]) for token in tokenizer.merge_ids), key=len, reverse=True):
        if len(found) < count and not any(token in longer for longer in found):
            found.append(token)
    return found


def show(token: bytes, width: int = 40) -> str:
    """A token for people, in at most about `width` characters; a run of one character as its length."""
    text = token.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()
    if len(text) > 4 and len(set(text)) == 1:
        return f"{text[0]!r} x {len(text)}"
    shown = repr(text)
    return shown if len(shown) <= width else shown[: width - 3] + "..."


def compression_by_size(tokenizer: BasicTokenizer, data: bytes) -> dict[int, float]:
    """Bytes per token of `data` if training had stopped at a smaller `vocab_size`: at powers of two, and as it is."""
    state = tokenizer.state()
    smallest = TOKENIZER_BASE_LENGTH + len(state.special_tokens)
    largest = smallest + len(state.merges)
    powers = [1 << bits for bits in range(9, 64) if smallest < 1 << bits < largest]
    rates = {}
    for vocab_size in dict.fromkeys((smallest, *powers, largest)):
        merges = vocab_size - smallest
        smaller = replace(state, merges=state.merges[:merges], merge_ids=state.merge_ids[:merges])
        ids = BasicTokenizer.from_state(smaller, tokenizer.algorithm).encode_array(data)
        rates[vocab_size] = len(data) / max(1, len(ids))
    return rates


class ScriptRow(NamedTuple):
    """The text of one script; the inverse of its fertility, `tokens_per_character`, is the characters a token holds."""

    script: str  # its Unicode name; "other letters", or "numbers, signs, blanks" for all that is no letter
    share: float  # of the bytes of the text
    bytes_per_token: float
    tokens_per_character: float


def fertility_by_script(tokenizer: BasicTokenizer, data: bytes) -> list[ScriptRow]:
    """How many tokens each script needs, the most common first; of a token of b bytes 1/b counts in each of them."""
    ids = tokenizer.encode_array(data)
    lengths = np.asarray(tokenizer.token_bytes(), np.int64)[ids]
    tokens = np.concatenate([[0.0], np.cumsum(np.repeat(1 / lengths, lengths))])
    rows = []
    for script, starts, ends, characters in _runs(data):
        num_bytes = int((ends - starts).sum())
        num_tokens = float((tokens[ends] - tokens[starts]).sum())
        rows.append(ScriptRow(script, num_bytes / len(data), num_bytes / num_tokens, num_tokens / characters))
    return sorted(rows, key=lambda row: -row.share)


def _runs(data: bytes) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64], int]]:
    """The stretches of each script, as starts and ends in bytes, and how many characters they hold."""
    text = data.decode("utf-8", "surrogateescape")
    sizes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    width = np.where(sizes < 0x80, 1, np.where(sizes < 0x800, 2, np.where(sizes < 0x10000, 3, 4)))
    width[(sizes >= 0xDC80) & (sizes <= 0xDCFF)] = 1  # a byte that is not UTF-8
    offsets = np.concatenate([[0], np.cumsum(width)])
    named = "|".join(rf"\p{{{script}}}" for script in SCRIPTS)
    groups = {script: rf"\p{{{script}}}+" for script in SCRIPTS}
    groups["other letters"] = rf"(?:(?!{named})[\p{{L}}\p{{M}}])+"
    groups["numbers, signs, blanks"] = rf"(?:(?!{named})[^\p{{L}}\p{{M}}])+"
    for name, expression in groups.items():
        spans = np.array([match.span() for match in regex.finditer(expression, text)], np.int64).reshape(-1, 2)
        if len(spans):
            yield name, offsets[spans[:, 0]], offsets[spans[:, 1]], int((spans[:, 1] - spans[:, 0]).sum())
