"""Byte-pair training in its simplest form: count everything, join the best pair, start over.

It is slow (each round reads every pretoken again) and obviously right, which makes it the oracle of `train_heap.py` and
`train_compiled.py`.
"""

from collections.abc import Mapping

from atomiclm.tokenizer.bpe_ops import Pair, get_stats, merge
from atomiclm.tokenizer.constants import TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.tie_break import TieBreak, byte_order


def train_basic(pretokens: Mapping[bytes, int], num_merges: int, tie_break: TieBreak = "bytes") -> list[Pair]:
    """Learn up to `num_merges` merges from pretokens and their counts.

    Each round merges the pair with the highest count; among pairs of equal count the one whose left token comes first,
    and among those the one whose right token does. Tokens stand in the order of their numbers, but that `tie_break`
    orders the 256 bytes among themselves (see `tie_break.py`). Counts are those of `get_stats`. The rule depends on
    nothing but the counts: not on the order of the pretokens, not on hashing.

    Returns:
        The pairs in the order learned; the i-th becomes the token number 256 + i. Fewer than asked when no pair is
        left.

    Raises:
        ValueError: `tie_break` is no rule.
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
