"""How much text is worth a kernel: the sizes are for users, tests choose their own. And what kernels counted."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from atomiclm.tokenizer.fast.count import Words


def kernels_from(num_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use kernels for texts of `num_bytes` and more, compiled already or not."""
    monkeypatch.setattr("atomiclm.tokenizer.tokenizer.COMPILED_FROM_BYTES", num_bytes)
    monkeypatch.setattr("atomiclm.tokenizer.fast.worth_from", lambda task: num_bytes)


def counts_of(words: "Words") -> dict[bytes, int]:
    """The pretokens and their counts as a dictionary."""
    data, starts = words.data.tobytes(), [0, *words.ends.tolist()]
    return {
        data[start:end]: count for start, end, count in zip(starts, starts[1:], words.counts.tolist(), strict=False)
    }


def words_of(counts: Mapping[bytes, int]) -> "Words":
    """The same from a dictionary."""
    from atomiclm.tokenizer.fast.count import PretokenCounter

    counter = PretokenCounter()
    for pretoken, count in counts.items():
        counter.add(pretoken, np.array([len(pretoken)]), count)
    return counter.words()
