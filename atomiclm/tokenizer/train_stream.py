"""From a cut stream to merges, by kernels: count what passes, then learn from the counts."""

from collections.abc import Iterable

import numpy as np

from atomiclm.tokenizer.bpe_ops import Pair
from atomiclm.tokenizer.count_compiled import PretokenCounter
from atomiclm.tokenizer.pretokens import Block
from atomiclm.tokenizer.tie_break import TieBreak
from atomiclm.tokenizer.train_compiled import train_compiled


def train_stream(
    blocks: Iterable[Block], num_merges: int, tie_break: TieBreak = "bytes"
) -> tuple[list[Pair], dict[str, int]]:
    """Learn up to `num_merges` merges from a stream.

    Returns:
        The merges, and the bytes, pretokens and distinct pretokens of the stream.

    Raises:
        ValueError: the stream, weights included, counts more than 2^63 - 1 bytes.
    """
    counter = PretokenCounter()
    num_pretokens = 0
    for data, ends, weight, _ in blocks:
        counter.add(data, np.asarray(ends, np.int64), len(ends), weight=weight)
        num_pretokens += len(ends) * weight
    words = counter.words()
    trained_on = {"bytes": words.total_bytes, "pretokens": num_pretokens, "distinct_pretokens": len(words)}
    return train_compiled(words, num_merges, tie_break), trained_on
