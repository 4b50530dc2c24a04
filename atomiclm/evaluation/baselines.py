"""Baselines: what programs that are not neural networks reach on the same validation bytes, in bits per byte.

A run records them as `anchors`. All five treat the training bytes as known and the validation bytes as their
continuation; documents are not told apart.

uniform     8 bits, by definition
bigram      one byte of context, 5-gram four; interpolated Witten-Bell (Witten and Bell, IEEE Trans. Inf. Theory 37(4),
            1991; the recursion as in Chen and Goodman, TR-10-98, 1998, section 2). With C(h) the training count of
            context h, C(h c) of h followed by c, T(h) the number of distinct bytes that followed h, and h' the
            context without its oldest byte, down to the empty context, which backs off to 1/256,

                P(c | h) = (C(h c) + T(h) P(c | h')) / (C(h) + T(h)),    P(c | h) = P(c | h') if h was never seen
bz2, xz     8 (|compress(train + validation)| - |compress(train)|) / |validation|, at bzip2 -9 and xz -9e, which look
            back 900 kB and 64 MiB

Of longer training text the last NGRAM_TRAIN_BYTES, BZ2_TRAIN_BYTES and XZ_TRAIN_BYTES are taken, to bound the time.
"""

import bz2
import lzma
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

NGRAM_TRAIN_BYTES = 64 << 20
BZ2_TRAIN_BYTES = 16 << 20  # many blocks, so that it matters little where in a block the validation text begins
XZ_TRAIN_BYTES = 16 << 20  # xz -9e takes more than half a second of CPU time a MiB, and there are two texts
COUNT_CHUNK_BYTES = 4 << 20  # sorted at a time: bounds memory to some 200 MB beside the distinct n-grams
COMPRESSOR_CHUNK_BYTES = 1 << 18  # taken at a time; the output is the same, and those who wait hear of it

Keys = npt.NDArray[np.int64]


def baselines(train: bytes, validation: bytes, working_on: Callable[[str], None] = lambda _: None) -> dict[str, float]:
    """Bits per byte on `validation` by name: uniform, bigram, 5-gram, bz2, xz. Raises ValueError if it is empty.

    working_on: called now and then, from any thread, with the name of what is being worked on.
    """
    working_on("n-grams")
    bigram, five_gram = ngram_bits_per_byte(train[-NGRAM_TRAIN_BYTES:], validation, orders=(2, 5))
    found = {"uniform": 8.0, "bigram": bigram, "5-gram": five_gram}
    bzip2, xz = partial(bz2.BZ2Compressor, 9), partial(lzma.LZMACompressor, preset=9 | lzma.PRESET_EXTREME)
    for name, start, last_bytes in (("bz2", bzip2, BZ2_TRAIN_BYTES), ("xz", xz, XZ_TRAIN_BYTES)):
        found[name] = compressor_bits_per_byte(start, train[-last_bytes:], validation, partial(working_on, name))
    return found


def notes(num_train_bytes: int) -> list[str]:
    """What to say of a training text of that size, of which some baselines get a part."""
    caps = {"bigram and 5-gram": NGRAM_TRAIN_BYTES, "bz2": BZ2_TRAIN_BYTES, "xz": XZ_TRAIN_BYTES}
    return [
        f"{name}: given the last {cap >> 20} MiB of {num_train_bytes / (1 << 20):,.0f} MiB of training text"
        for name, cap in caps.items()
        if num_train_bytes > cap
    ]


def compressor_bits_per_byte(
    start: Callable[[], Any], train: bytes, validation: bytes, report: Callable[[], None] = lambda: None
) -> float:
    """Bits that a compressor, such as `start` makes, adds for each validation byte after the training bytes.

    report: called now and then, from two threads
    """
    _check(validation)

    def length(raw: bytes) -> int:
        compressor, total = start(), 0
        for first in range(0, len(raw), COMPRESSOR_CHUNK_BYTES):
            total += len(compressor.compress(raw[first : first + COMPRESSOR_CHUNK_BYTES]))
            report()
        return total + len(compressor.flush())

    with ThreadPoolExecutor(max_workers=2) as pool:  # compressors release the interpreter lock
        with_validation, without = pool.map(length, (train + validation, train))
    return 8.0 * (with_validation - without) / len(validation)


def ngram_bits_per_byte(train: bytes, validation: bytes, orders: tuple[int, ...]) -> list[float]:
    """Bits per validation byte of interpolated Witten-Bell byte n-grams, one figure for each order (1 to 7)."""
    _check(validation)
    if not orders or min(orders) < 1 or max(orders) > 7:  # 8 bytes do not fit in a positive int64 key
        raise ValueError(f"orders must be between 1 and 7, they are {orders}; give some, as (2, 5)")
    history = train[-(max(orders) - 1) :] if max(orders) > 1 else b""
    stream = np.frombuffer(history + validation, dtype=np.uint8)
    probability = np.full(len(validation), 1 / 256)
    found: dict[int, float] = {}
    for order in range(1, max(orders) + 1):
        # Where the training text is shorter than the context, the first bytes keep their shorter one.
        lacking = max(0, order - 1 - len(history))
        keys = _keys(stream[max(0, len(history) - (order - 1)) :], order)
        probability[lacking:] = _interpolated(train, order, keys, probability[lacking:])
        found[order] = float(-np.log2(probability).sum() / len(validation))
    return [found[order] for order in orders]


def _keys(stream: npt.NDArray[np.uint8], order: int) -> Keys:
    """(len(stream) - order + 1,) each n-gram as one number, oldest byte first."""
    length = max(0, len(stream) - order + 1)
    keys = np.zeros(length, dtype=np.int64)
    for offset in range(order):
        keys <<= 8
        keys |= stream[offset : offset + length]
    return keys


def _summed(keys: Keys, counts: npt.NDArray[Any]) -> tuple[Keys, npt.NDArray[np.float64]]:
    """Distinct keys, sorted, and for each the sum of its counts."""
    distinct, at = np.unique(keys, return_inverse=True)
    return distinct, np.bincount(at, counts)


def _interpolated(train: bytes, order: int, keys: Keys, shorter: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """P(c | h) of each key h c, given P(c | h') in `shorter`."""
    stream = np.frombuffer(train, dtype=np.uint8)
    parts = [
        np.unique(_keys(stream[first : first + COUNT_CHUNK_BYTES + order - 1], order), return_counts=True)
        for first in range(0, max(1, len(stream)), COUNT_CHUNK_BYTES)
    ]
    grams, counts = _summed(*map(np.concatenate, zip(*parts, strict=True)))
    gram = _looked_up(grams, counts, keys)
    total = _looked_up(*_summed(grams >> 8, counts), keys >> 8)
    distinct = _looked_up(*_summed(grams >> 8, np.ones_like(counts)), keys >> 8)
    seen = total > 0
    probability = shorter.copy()
    probability[seen] = (gram[seen] + distinct[seen] * shorter[seen]) / (total[seen] + distinct[seen])
    return probability


def _looked_up(table: Keys, values: npt.NDArray[np.float64], keys: Keys) -> npt.NDArray[np.float64]:
    """values[i] where table[i] == key, 0 where no entry does."""
    if len(table) == 0:
        return np.zeros(len(keys))
    indices = np.searchsorted(table, keys)
    indices[indices == len(table)] = 0
    return np.where(table[indices] == keys, values[indices], 0)


def _check(validation: bytes) -> None:
    if not validation:
        raise ValueError("validation must hold at least one byte; bits per byte of nothing is undefined")
