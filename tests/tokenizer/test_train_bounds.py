"""The kernels on arrays whose bounds are checked: compiled code has none, so an access too far would go unnoticed.

The test runs this file as a program, in which numba compiles the same functions for NumPy arrays.
"""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizer.thresholds import counts_of

from atomiclm.tokenizer.fast import why_unavailable

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))

CORPORA = 300


@pytest.mark.slow
def test_kernels_keep_within_their_arrays() -> None:
    result = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"NUMBA_BOUNDSCHECK": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, f"{CORPORA} corpora\n"), result.stderr


def main() -> None:
    """Count and train on random corpora, with every access checked."""
    import numba
    import numpy as np

    from atomiclm.tokenizer.fast import kernel
    from atomiclm.tokenizer.fast.kernel import Kernel

    @numba.njit
    def load64(data, index):
        value = numba.uint64(0)
        for byte in range(8):
            value |= numba.uint64(data[index + byte]) << numba.uint64(8 * byte)
        return value

    kernel.load64 = load64

    from atomiclm.tokenizer.fast import count, scan, train
    from atomiclm.tokenizer.train_heap import train_heap

    called = set()

    def call_checked(self: Kernel, *arguments: Any) -> int:
        """Compiled for arrays, whose bounds numba checks."""
        called.add(self.name)
        if self._call is None:
            self._call = numba.njit(error_model="numpy")(self.function)
        given = [np.frombuffer(each, np.uint8).copy() if isinstance(each, bytes) else each for each in arguments]
        return int(self._call(*given))

    Kernel.__call__ = call_checked  # type: ignore[method-assign]
    count.flat = lambda table: [table]  # arrays instead of addresses
    count.FIRST_SLOT_BITS = 3
    count.FIRST_LONG_BYTES = 16
    for seed in range(CORPORA):
        rng = random.Random(seed)
        alphabet = rng.sample(range(256), rng.choice([1, 2, 3, 8, 200]))
        pretokens = [bytes(rng.choices(alphabet, k=rng.choice([1, 2, 3, 7, 8, 9, 15, 16, 17, 40]))) for _ in range(30)]
        counter = count.PretokenCounter()
        ends = np.cumsum([len(pretoken) for pretoken in pretokens])
        counter.add(b"".join(pretokens), ends, weight=rng.randrange(1, 9))
        words = counter.words()
        num_merges = rng.randrange(1, 80)
        train.BIRTHS_PER_MERGE = rng.choice([0, 8])
        train.OCCURRENCES_PER_POSITION = rng.choice([1, 3])
        merges = train.train_compiled(words, num_merges, thresholds=rng.choice([None, [], [9, 3], [20]]))
        assert merges == train_heap(counts_of(words), num_merges)
    assert called == {
        *("count.count", "count.refill", "count.write_words"),
        *("scan.lay_out", "scan.scan", "merge_loop.merge_loop"),
    }
    rows = np.empty(2 * 5, np.int32)  # the checks work: there is one position too few
    with pytest.raises(IndexError):
        scan.lay_out(b"abcd", np.array([4]), 1, bytes(256), rows)
    print(f"{CORPORA} corpora")


if __name__ == "__main__":
    main()
