"""The driver of the counting kernels: cut text goes in, each different pretoken with its count comes out.

How it is counted is told in `compiled/count.py`. Memory grows with the different pretokens alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from atomiclm.tokenizer.compiled import counter_fields as field
from atomiclm.tokenizer.compiled import load_kernel
from atomiclm.user_error import UserError

MOST = 2**63 - 1
"""Counts, and the bytes of all that is counted, fit in 64 bits."""

FIRST_WORDS = 1 << 14
FIRST_LONG_BYTES = 1 << 16


@dataclass(frozen=True)
class Words:
    """Different pretokens and how often each occurs, the most frequent first; of equally frequent ones, in any order.

    Attributes:
        data: their bytes, one behind the other.
        ends: where each of them ends in `data`.
        counts: how often each occurs, at least once.
        total_bytes: the bytes of all, each as often as it occurs.
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]
    counts: NDArray[np.int64]
    total_bytes: int

    def __len__(self) -> int:
        return len(self.counts)

    @classmethod
    def from_counts(cls, pretokens: Mapping[bytes, int]) -> Self:
        """The same as a mapping from pretoken to count. Empty pretokens hold nothing to learn and are left out.

        Raises:
            ValueError: a count is less than 1, or the bytes counted are more than 2^63 - 1.
        """
        if lowest := [pretoken for pretoken, count in pretokens.items() if count < 1]:
            raise ValueError(
                f"pretokens: {lowest[0]!r:.80} has the count {pretokens[lowest[0]]}, which must be at least 1; "
                f"leave out what is not to be counted"
            )
        total = sum(len(pretoken) * count for pretoken, count in pretokens.items())
        _check_total(total, "pretokens")
        spelled = sorted((pretoken for pretoken in pretokens if pretoken), key=lambda each: (-pretokens[each], each))
        return cls(
            np.frombuffer(b"".join(spelled), np.uint8),
            np.cumsum([len(pretoken) for pretoken in spelled], dtype=np.int64),
            np.array([pretokens[pretoken] for pretoken in spelled], np.int64),
            total,
        )

    def to_counts(self) -> dict[bytes, int]:
        """The same as a dictionary from pretoken to count."""
        data = self.data.tobytes()
        starts = [0, *self.ends.tolist()]
        return {
            data[start:end]: count for start, end, count in zip(starts, starts[1:], self.counts.tolist(), strict=False)
        }


class PretokenCounter:
    """Counts pretokens, in 64 bits. For one thread; counters of several threads can be added up."""

    def __init__(self) -> None:
        self._count = load_kernel("count")
        self._total = 0
        self._clear()

    def _clear(self) -> None:
        self._keys = np.empty(2 * FIRST_WORDS, np.uint64)
        self._counts = np.empty(FIRST_WORDS, np.int64)
        self._slots = np.zeros(2 * FIRST_WORDS, np.uint64)
        self._long_words = np.empty(FIRST_LONG_BYTES, np.uint8)
        self._fields = np.zeros(field.NUM_FIELDS, np.int64)

    def __len__(self) -> int:
        """How many different pretokens were counted."""
        return int(self._fields[field.NUM_WORDS])

    @property
    def total_bytes(self) -> int:
        """The bytes of all that was counted, each as often as it counts."""
        return self._total

    def add(self, data: bytes, ends: NDArray[np.int64], num_pretokens: int, begin: int = 0, weight: int = 1) -> None:
        """Count pretokens that stand one behind the other in `data`.

        Args:
            data: the text.
            ends: where each pretoken ends; ascending, none beyond `data`.
            num_pretokens: how many of the ends are to be read.
            begin: where the first pretoken begins.
            weight: how many times the text occurs in the corpus.

        Raises:
            ValueError: `weight` is less than 1, or the bytes counted come to more than 2^63 - 1.
        """
        if not num_pretokens:
            return
        if weight < 1:
            raise ValueError(f"weight: {weight} must be at least 1; leave out text that is not to be counted")
        last = int(ends[num_pretokens - 1])
        assert 0 <= begin <= last <= len(data) and num_pretokens <= len(ends)
        assert ends.dtype == np.int64 and ends.flags.c_contiguous, "a kernel gets the bare address"
        total = self._total + (last - begin) * weight
        _check_total(total, "weight")
        self._add(data, len(data), ends, num_pretokens, begin, np.array([weight], np.int64), step=0)
        self._total = total

    def add_words(self, words: Words) -> None:
        """Count what another counter counted.

        Raises:
            ValueError: the bytes counted come to more than 2^63 - 1.
        """
        if not len(words):
            return
        total = self._total + words.total_bytes
        _check_total(total, "words")
        self._add(words.data.ctypes.data, len(words.data), words.ends, len(words), 0, words.counts, step=1)
        self._total = total

    def _add(
        self,
        data: bytes | int,
        size: int,
        ends: NDArray[np.int64],
        num_pretokens: int,
        begin: int,
        weights: NDArray[np.int64],
        step: int,
    ) -> None:
        fields = self._fields
        fields[field.BEGIN] = begin
        done = 0
        while True:
            done = self._count(
                data, size, ends.ctypes.data, num_pretokens, done, weights.ctypes.data, step,
                self._slots.ctypes.data, len(self._slots), self._keys.ctypes.data, self._counts.ctypes.data,
                len(self._counts), self._long_words.ctypes.data, len(self._long_words), fields.ctypes.data,
            )  # fmt: skip
            if done == num_pretokens:
                return
            if len(self) == len(self._counts):
                self._make_room_for_words()
            else:
                length = int(ends[done] - fields[field.BEGIN])
                room = max(2 * len(self._long_words), int(fields[field.LONG_USED]) + length + field.LENGTH_BYTES)
                self._long_words = _longer(self._long_words, room)

    def _make_room_for_words(self) -> None:
        room = 2 * len(self._counts)
        self._keys = _longer(self._keys, 2 * room)
        self._counts = _longer(self._counts, room)
        self._slots = np.zeros(2 * room, np.uint64)
        load_kernel("count.refill")(self._keys.ctypes.data, len(self), self._slots.ctypes.data, len(self._slots))

    def words(self) -> Words:
        """All pretokens counted, with their counts. The counter is empty afterwards, and its memory free."""
        num_words = len(self)
        keys, counts, long_words = self._keys, self._counts[:num_words], self._long_words
        num_bytes = int(self._fields[field.NUM_BYTES])
        total, self._total = self._total, 0
        self._clear()
        order = np.argsort(-counts, kind="stable")
        words = Words(np.empty(num_bytes, np.uint8), np.empty(num_words, np.int64), counts[order], total)
        load_kernel("count.spell")(
            keys.ctypes.data, order.ctypes.data, num_words, long_words.ctypes.data,
            words.data.ctypes.data, words.ends.ctypes.data,
        )  # fmt: skip
        return words


def _check_total(total: int, name: str) -> None:
    if total > MOST:
        raise UserError(f"{name}: {total} bytes are counted, more than 2^63 - 1; divide all weights by a common number")


def _longer[T: np.generic](array: NDArray[T], size: int) -> NDArray[T]:
    """A copy with more room behind it."""
    longer = np.empty(size, array.dtype)
    longer[: len(array)] = array
    return longer
