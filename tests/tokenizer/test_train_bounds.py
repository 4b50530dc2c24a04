"""The kernels on arrays whose bounds are checked: compiled code has none, so an access too far would go unnoticed.

The test runs this file as a program, in which numba compiles the same functions for NumPy arrays.
"""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from atomiclm.tokenizer.compiled import why_unavailable

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))

CORPORA = 300


@pytest.mark.slow
def test_kernels_keep_within_their_arrays() -> None:
    result = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"NUMBA_BOUNDSCHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, f"{CORPORA} corpora\n"), result.stderr


def arrays_in(value: Any, depth: int) -> Iterator[Any]:
    """The arrays that a local variable is or holds."""
    if type(value).__name__ == "ndarray":
        yield value
    elif depth and hasattr(value, "__dict__"):
        for part in vars(value).values():
            yield from arrays_in(part, depth - 1)


def main() -> None:
    """Count and train on random corpora, with every access checked."""
    import importlib

    import numba
    import numpy as np

    from atomiclm.tokenizer import count_compiled, train_compiled
    from atomiclm.tokenizer.compiled import language
    from atomiclm.tokenizer.train_heap import train_heap

    @numba.njit
    def load64(data, index):
        value = numba.uint64(0)
        for byte in range(8):
            value |= numba.uint64(data[index + byte]) << numba.uint64(8 * byte)
        return value

    language.load64 = load64

    def load_checked(name: str) -> Callable[..., int]:
        module, _, function = name.partition(".")
        kernel = getattr(importlib.import_module(f"atomiclm.tokenizer.compiled.{module}"), function or module)
        types = [kind for argument, kind in kernel.__annotations__.items() if argument != "return"]
        checked = numba.njit(error_model="numpy")(kernel)

        def call(*arguments: Any) -> int:
            """The driver passes addresses; the arrays are among its variables."""
            arrays: dict[int, Any] = {}
            for variable in sys._getframe(1).f_locals.values():
                for array in arrays_in(variable, 2):
                    known = arrays.setdefault(array.ctypes.data, array)
                    if array.size > known.size:
                        arrays[array.ctypes.data] = array
            given = []
            for argument, kind in zip(arguments, types, strict=True):
                if isinstance(argument, bytes):
                    given.append(np.frombuffer(argument, np.uint8).copy())
                else:
                    given.append(argument if kind is language.int64 else arrays[argument])
            return int(checked(*given))

        return call

    kernels: dict[str, Callable[..., int]] = {}

    def load_once(name: str) -> Callable[..., int]:
        return kernels[name] if name in kernels else kernels.setdefault(name, load_checked(name))

    count_compiled.load_kernel = train_compiled.load_kernel = load_once  # type: ignore[assignment]
    count_compiled.FIRST_WORDS = 4
    count_compiled.FIRST_LONG_BYTES = 16
    for seed in range(CORPORA):
        rng = random.Random(seed)
        alphabet = rng.sample(range(256), rng.choice([1, 2, 3, 8, 200]))
        pretokens = [bytes(rng.choices(alphabet, k=rng.choice([1, 2, 3, 7, 8, 9, 15, 16, 17, 40]))) for _ in range(30)]
        counter = count_compiled.PretokenCounter()
        ends = np.cumsum([len(pretoken) for pretoken in pretokens])
        counter.add(b"".join(pretokens), ends, len(ends), weight=rng.randrange(1, 9))
        words = counter.words()
        num_merges = rng.randrange(1, 80)
        train_compiled.BIRTHS_A_MERGE = rng.choice([0, 8])
        train_compiled.OCCURRENCES_A_PLACE = rng.choice([1, 3])
        merges = train_compiled.train_compiled(words, num_merges, thresholds=rng.choice([None, [], [9, 3], [20]]))
        assert merges == train_heap(words.to_counts(), num_merges)
    assert set(kernels) == {
        *("count", "count.refill", "count.spell"),
        *("places.lay_out", "scan.scan_bytes", "scan", "merge_loop"),
    }
    ends, rows = np.array([4]), np.empty(2 * 5, np.int32)  # the checks work: there is one place too few
    with pytest.raises(IndexError):
        kernels["places.lay_out"](b"abcd", ends.ctypes.data, 1, bytes(256), rows.ctypes.data)
    print(f"{CORPORA} corpora")


if __name__ == "__main__":
    main()
