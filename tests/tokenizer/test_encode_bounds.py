"""The kernels that cut and encode, with a page that may not be touched behind every array and every text.

Compiled code checks no bounds, so an access too far would go unnoticed. The test runs this file as a program, which the
system ends at such an access.
"""

import ctypes
import faulthandler
import mmap
import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import count, islice
from typing import Any

import pytest

from atomiclm.tokenizer.fast import why_unavailable

pytestmark = [
    pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable())),
    pytest.mark.skipif(os.name != "posix", reason="pages are protected by mprotect"),
]

VOCABULARIES = 120
MULTIPLIER, OTHER_MULTIPLIER = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F  # those of `pretoken_keys.py`


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_kernels_keep_within_their_arrays() -> None:
    result = run()
    assert (result.returncode, result.stdout) == (0, f"{VOCABULARIES} vocabularies\n"), result.stderr


def test_the_guard_works() -> None:
    assert run("too far").returncode < 0


def main() -> None:
    """Encode random text with random vocabularies, every array and text with a guard behind it."""
    import numpy as np

    from atomiclm.tokenizer import BasicTokenizer
    from atomiclm.tokenizer.fast import encoder, scan, split
    from atomiclm.tokenizer.fast.kernel import Kernel

    faulthandler.enable()
    libc = ctypes.CDLL(None, use_errno=True)

    def guarded(size: int, kind: Any) -> Any:
        """An array of arbitrary content that ends where a protected page begins."""
        num_bytes = size * np.dtype(kind).itemsize
        before = -(-max(num_bytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        memory = mmap.mmap(-1, before + mmap.PAGESIZE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        assert libc.mprotect(ctypes.c_void_p(address + before), mmap.PAGESIZE, 0) == 0
        array = np.frombuffer(memory, np.uint8, num_bytes, before - num_bytes)
        array[:] = 0xA5
        return array.view(kind)

    class Numpy:
        """`numpy` for the drivers."""

        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

        def empty(self, size: int, kind: Any) -> Any:
            return guarded(size, kind)

        def full(self, size: int, value: int, kind: Any) -> Any:
            array = guarded(size, kind)
            array[:] = value
            return array

        def zeros(self, size: int, kind: Any) -> Any:
            return self.full(size, 0, kind)

    call_kernel = Kernel.__call__

    def call_guarded(self: Kernel, *arguments: Any) -> int:
        return call_kernel(self, *[guarded_copy(given) if isinstance(given, bytes) else given for given in arguments])

    def guarded_copy(data: bytes) -> Any:
        array = guarded(len(data), np.uint8)
        array[:] = np.frombuffer(data, np.uint8)
        return array

    Kernel.__call__ = call_guarded  # type: ignore[method-assign]

    if sys.argv[1:]:
        rows = guarded(2 * 5, np.int32)  # there is one position too few
        scan.lay_out(b"abcd", np.array([4]), 1, bytes(256), rows)
        return

    def unreachable(tokenizer: BasicTokenizer, num_doublings: int, whole_pretokens: bool) -> BasicTokenizer:
        """Tokens `abab...` that merging never makes, because it makes `ba` first: as many ids as half their bytes."""
        merges = [(98, 97), (97, 98)]
        merges += [(number, number) for number in range(257, 257 + num_doublings)]
        content = replace(
            tokenizer.state(),
            merges=merges,
            merge_ids=tuple(range(256, 256 + len(merges))),
            target_vocab_size=999,
            whole_pretokens=whole_pretokens,
        )
        return BasicTokenizer.from_state(content)

    def encoder_of(tokenizer: BasicTokenizer) -> encoder.CompiledEncoder:
        return encoder.CompiledEncoder(
            tokenizer._tokens, tokenizer.merges, tokenizer._ids, tokenizer.whole_pretokens,
            tokenizer._split,
        )  # fmt: skip

    for module in (encoder, split):
        module.np = Numpy()  # type: ignore[attr-defined, assignment]
    encoder_of(unreachable(BasicTokenizer(256, "none", ()), 19, whole_pretokens=False))  # a token of a megabyte
    for seed in range(VOCABULARIES):
        rng = random.Random(seed)
        split.BLOCK_PRETOKENS = rng.choice([1, 3, 64, 65, 1000])
        encoder.CACHE_BYTES, encoder.CACHE_IDS = rng.choice([130, 5000]), rng.choice([130, 5000])
        encoder.BLOCK_BYTES = 1
        atoms = rng.sample(
            ["a", "b", "ab", " ", "é", "日", "\n", "1", "'s", "\udcff", "\udce6"], rng.choice([1, 2, 4, 11])
        )
        pattern = ("gpt4", "cl100k", "gpt2", "o200k", "none", r"[ab]+|\d")[seed % 6]
        tokenizer = BasicTokenizer(256 + rng.choice([0, 1, 30, 300]), pattern, (), algorithm="heap")
        tokenizer.train("".join(rng.choices(atoms, k=1000)))
        if seed % 3 == 0:
            tokenizer = unreachable(tokenizer, rng.randrange(9), whole_pretokens=seed % 2 == 0)
        compiled = encoder_of(tokenizer)
        encoder.BLOCK_BYTES = 300
        for size in (1, 2, 9, 70, 400):
            text = "".join(rng.choices(atoms, k=size)).encode("utf-8", "surrogateescape")
            words = b" ".join(bytes(rng.choices(b"abcd", k=rng.randrange(1, 50))) for _ in range(size // 9))
            for data in (text, words, rng.choice(tokenizer._tokens), text[: rng.randrange(len(text) + 1)]):
                expected = tokenizer._plain.encode(data)
                assert compiled.encode(data).tolist() == expected, (seed, data)
                [*many, empty] = compiled.encode_texts([data, data, b""])
                assert [ids.tolist() for ids in many] == [expected, expected], (seed, data)
                assert len(empty) == 0
    # Pretokens whose search begins in the last row, and goes on in the first.
    compiled = encoder_of(BasicTokenizer(256, "gpt2", ()))
    last = (1 << compiled._cache.row_bits) - 1
    words = b" ".join(islice((word for word in map(b"%d".__mod__, count()) if first_row(b" " + word) == last), 4))
    for _ in range(2):
        assert compiled.encode(b" " + words).tolist() == list(b" " + words)
    print(f"{VOCABULARIES} vocabularies")


def first_row(pretoken: bytes) -> int:
    """Where the search for a pretoken of at most 8 bytes begins in a table of 2^16 rows."""
    whole = (1 << 64) - 1
    low, high = int.from_bytes(pretoken, "little"), len(pretoken) << 56
    return (low * MULTIPLIER + high * OTHER_MULTIPLIER & whole) >> 48


if __name__ == "__main__":
    main()
