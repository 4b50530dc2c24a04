"""A pseudo-random permutation of range(size) that is computed, not stored.

A Feistel network permutes the numbers of 2h bits whatever its round function is; those that fall outside
range(size) are sent through again until they fall inside ("cycle walking": Black and Rogaway, Ciphers with arbitrary
finite domains, CT-RSA 2002). The domain is less than four times `size`, so an index walks less than four steps on
average. Memory is that of the indices asked for, and any of them costs the same. (Not every permutation is equally
likely: a Feistel network's are even. Where each number lands is uniform, which is what a sampling order needs.)
"""

import hashlib

import numpy as np
import numpy.typing as npt

NUM_ROUNDS = 8  # 4 are enough in theory (Luby and Rackoff 1988); small domains want more


def derived_uint64(count: int, *parts: int | str) -> npt.NDArray[np.uint64]:
    """(count,) numbers of 64 bits that depend on `parts` alone, whatever the machine and the NumPy version."""
    raw = hashlib.shake_256(repr(parts).encode()).digest(8 * count)
    return np.frombuffer(raw, dtype="<u8").astype(np.uint64)


def permuted(indices: npt.NDArray[np.int64], size: int, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The images (count,) of `indices` (count,) under the permutation of range(size) that `keys` (rounds,) pick."""
    assert size >= 1
    assert len(indices) == 0 or (indices.min() >= 0 and indices.max() < size)
    half_bits = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    values = _feistel(indices.astype(np.uint64), half_bits, keys)
    outside = np.flatnonzero(values >= size)
    while len(outside):
        values[outside] = _feistel(values[outside], half_bits, keys)
        outside = outside[values[outside] >= size]
    return values.astype(np.int64)


def _feistel(
    values: npt.NDArray[np.uint64], half_bits: np.uint64, keys: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = values >> half_bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & mask)
    return (left << half_bits) | right


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scatter 64 bits: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, Stafford's variant 13)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
