"""Byte-pair training in its simplest form: count everything, join the best pair, start over.

Sennrich, Haddow and Birch (2016, arXiv 1508.07909, section 3.2), on bytes as Radford et al. (2019, "GPT-2"). Slow (each
round reads every pretoken again) and obviously right: the oracle of `train_heap.py` and `fast/train.py`.

Ties are common: on one megabyte the two rules below put one merge in ten elsewhere. Both say "the smaller pair of token
numbers wins, left before right", with merges numbered from 256 on. They differ in how the bytes are ordered:

| rule | the 256 bytes are ordered | who learns the same merges |
|---|---|---|
| `bytes` | by value | rustbpe, bpeasy |
| `huggingface` | by the character that GPT-2 prints for a byte | BpeTrainer of `tokenizers` |

GPT-2 has a visible character for every byte: the 188 printable ones of Latin-1 stand for themselves, and U+0100 and
those after it for the others, in order (Radford et al., 2019, `encoder.py`). Sorted by these characters, the blank and
the line break come after all letters.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from atomiclm.tokenizer.constants import TOKENIZER_BASE_LENGTH

type Pair = tuple[int, int]
"""The ids of a left and a right neighbour."""

TieBreak = Literal["bytes", "huggingface"]
"""Which of two equally frequent pairs is merged first. Pairs are stored as token numbers, whatever the rule."""

PRINTABLE = frozenset({*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)})


def get_stats(ids: Sequence[int], counts: dict[Pair, int] | None = None, weight: int = 1) -> dict[Pair, int]:
    """Count how often each pair of ids stands side by side, `weight` times each; adds to `counts` and returns it.

    Every adjacency counts, as in Hugging Face `tokenizers`, rustbpe and bpeasy: `a a a` holds the pair (a, a) twice
    although only one of the two can be merged.

    >>> get_stats([1, 2, 3, 1, 2])
    {(1, 2): 2, (2, 3): 1, (3, 1): 1}
    """
    counts = {} if counts is None else counts
    for pair in pairwise(ids):
        counts[pair] = counts.get(pair, 0) + weight
    return counts


def merge(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """Replace each occurrence of `pair` by `new_id`, from left to right and without overlaps: `a a a` becomes `X a`."""
    merged = []
    position = 0
    while position < len(ids):
        if position + 1 < len(ids) and ids[position] == pair[0] and ids[position + 1] == pair[1]:
            merged.append(new_id)
            position += 2
        else:
            merged.append(ids[position])
            position += 1
    return merged


def byte_order(tie_break: TieBreak) -> bytes:
    """The position of each byte among the 256, so that `data.translate(byte_order(rule))` numbers bytes by the rule.

    >>> byte_order("huggingface")[ord("!")], byte_order("huggingface")[0]
    (0, 188)

    Raises:
        ValueError: there is no such rule.
    """
    values = range(TOKENIZER_BASE_LENGTH)
    if tie_break == "bytes":
        return bytes(values)
    if tie_break == "huggingface":
        # Printable bytes are their own characters; the others got later ones, in the order of their values.
        return bytes(map(sorted(values, key=lambda value: (value not in PRINTABLE, value)).index, values))
    raise ValueError(f"tie_break: {tie_break!r} is unknown; use 'bytes' or 'huggingface'")


def with_byte_values(merges: list[Pair], order: bytes) -> list[Pair]:
    """Merges learned from bytes numbered by `order`, with the values of the bytes again."""
    if order == byte_order("bytes"):
        return merges
    value_of = [*map(order.index, range(TOKENIZER_BASE_LENGTH))]
    value_of += range(TOKENIZER_BASE_LENGTH, TOKENIZER_BASE_LENGTH + len(merges))
    return [(value_of[left], value_of[right]) for left, right in merges]


def train_basic(pretokens: Mapping[bytes, int], num_merges: int, tie_break: TieBreak = "bytes") -> list[Pair]:
    """Learn up to `num_merges` merges from pretokens and their counts.

    Each round merges the pair of the highest count; among equal counts the one whose left, then whose right token comes
    first in the order of `tie_break`. Nothing else matters: not the order of the pretokens, not hashing.

    Returns:
        The pairs in the order learned; the i-th becomes the token number 256 + i. Fewer than asked when no pair is
        left.
    """
    order = [*byte_order(tie_break), *range(TOKENIZER_BASE_LENGTH, TOKENIZER_BASE_LENGTH + num_merges)]
    words = [(list(pretoken), count) for pretoken, count in pretokens.items()]
    merges: list[Pair] = []
    while len(merges) < num_merges:
        counts: dict[Pair, int] = {}
        for ids, count in words:
            get_stats(ids, counts, count)
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], order[pair[0]], order[pair[1]]))
        new_id = TOKENIZER_BASE_LENGTH + len(merges)
        words = [(merge(ids, best, new_id), count) for ids, count in words]
        merges.append(best)
    return merges
