"""Byte-pair training told simply: count everything, join the best pair, start over.

It is slow (each round reads every pretoken again) and obviously right, which makes it the oracle of `train_heap.py`.
"""

from collections.abc import Mapping

from atomiclm.tokenizer.bpe_ops import Pair, get_stats, merge
from atomiclm.tokenizer.constants import TOKENIZER_BASE_LENGTH


def train_basic(pretokens: Mapping[bytes, int], num_merges: int) -> list[Pair]:
    """Learn up to `num_merges` merges from pretokens and their counts.

    Each round merges the pair with the highest count; among pairs of equal count the one with the smallest left id, and
    among those the one with the smallest right id. (Ids below 256 are bytes, so ties between bytes go to the smaller
    bytes.) Counts are those of `get_stats`. The rule depends on nothing but the counts: not on the order of the
    pretokens, not on hashing.

    Returns:
        The pairs in the order learned; the i-th becomes the id 256 + i. Fewer than asked when no pair is left.
    """
    words = [(list(pretoken), count) for pretoken, count in pretokens.items()]
    merges: list[Pair] = []
    while len(merges) < num_merges:
        counts: dict[Pair, int] = {}
        for ids, count in words:
            get_stats(ids, counts, count)
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        new_id = TOKENIZER_BASE_LENGTH + len(merges)
        words = [(merge(ids, best, new_id), count) for ids, count in words]
        merges.append(best)
    return merges
