"""The two operations that byte-pair encoding is made of: count the neighbours, join one pair of them.

Everything else in this package makes these two fast, or decides what they are applied to.
Source: Sennrich, Haddow and Birch (2016), arXiv 1508.07909, section 3.2; on bytes: Radford et al. (2019), "GPT-2".
"""

from collections.abc import Sequence
from itertools import pairwise

type Pair = tuple[int, int]
"""The ids of a left and a right neighbour."""


def get_stats(ids: Sequence[int], counts: dict[Pair, int] | None = None, weight: int = 1) -> dict[Pair, int]:
    """Count how often each pair of ids stands side by side.

    Every adjacency counts: `a a a` holds the pair (a, a) twice although only one of the two can be merged. That is how
    every trainer we compare with counts (Hugging Face `tokenizers`, rustbpe, bpeasy), and changing it would change
    merges.

    Args:
        ids: the sequence.
        counts: counts to add to; a new dictionary when None.
        weight: how many times `ids` occurs in the corpus.

    Returns:
        `counts`, in the order in which the pairs were first seen.

    >>> get_stats([1, 2, 3, 1, 2])
    {(1, 2): 2, (2, 3): 1, (3, 1): 1}
    """
    counts = {} if counts is None else counts
    for pair in pairwise(ids):
        counts[pair] = counts.get(pair, 0) + weight
    return counts


def merge(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """Replace each occurrence of `pair` by `new_id`, from left to right and without overlaps: `a a a` becomes `X a`.

    >>> merge([1, 2, 3, 1, 2], (1, 2), 4)
    [4, 3, 4]
    """
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
