"""The counting kernels count what `collections.Counter` counts."""

import random
import subprocess
import sys
from collections import Counter
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer.thresholds import counts_of

from atomiclm.tokenizer.fast import why_unavailable
from atomiclm.tokenizer.fast.count import PretokenCounter, Words

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))


def cut(pretokens: list[bytes]) -> tuple[bytes, np.ndarray]:
    """Pretokens as text, and where each of them ends."""
    return b"".join(pretokens), np.array(list(accumulate(map(len, pretokens))), np.int64)


def oracle(parts: list[tuple[list[bytes], int]]) -> dict[bytes, int]:
    counts: Counter[bytes] = Counter()
    for pretokens, weight in parts:
        for pretoken in pretokens:
            counts[pretoken] += weight
    return dict(counts)


def count(parts: list[tuple[list[bytes], int]]) -> Words:
    counter = PretokenCounter()
    for pretokens, weight in parts:
        data, ends = cut(pretokens)
        counter.add(data, ends, weight)
    assert counter.total_bytes == sum(weight * sum(map(len, pretokens)) for pretokens, weight in parts)
    return counter.words()


def random_pretoken(rng: random.Random) -> bytes:
    """Of all lengths around 8, 15 and 24, where keys change their form, and often equal to another or nearly so."""
    length = rng.choice([1, 2, 3, 7, 8, 9, 14, 15, 16, 17, 23, 24, 25, 40, 255, 256, 300])
    pretoken = bytearray(rng.choice([b"\0", b"a", b"\xff"]) * length)
    if rng.random() < 0.7:
        pretoken[rng.randrange(length)] = rng.choice(b"\0ab\xff")
    return bytes(pretoken)


@pytest.mark.parametrize("seed", range(20))
def test_counts_are_those_of_counter(seed: int) -> None:
    rng = random.Random(seed)
    parts = []
    for _ in range(30):
        pretokens = [random_pretoken(rng) for _ in range(rng.randrange(60))]
        parts.append((pretokens, rng.choice([1, 1, 2, 2**33])))
    assert counts_of(count(parts)) == oracle(parts)


@given(st.lists(st.tuples(st.lists(st.binary(min_size=1, max_size=20)), st.integers(1, 2**40))))
@settings(deadline=None, max_examples=300)
def test_counts_of_any_bytes(parts: list[tuple[list[bytes], int]]) -> None:
    assert counts_of(count(parts)) == oracle(parts)


def test_the_end_of_the_text_is_like_its_middle() -> None:
    """A short pretoken is read eight bytes at a time, but not where the text ends."""
    for length in range(1, 40):
        pretoken = bytes(range(1, length + 1))
        assert counts_of(count([([pretoken, b" " * 40], 1), ([pretoken], 2)])) == {pretoken: 3, b" " * 40: 1}


def test_a_pretoken_is_not_one_with_zeros_behind_it() -> None:
    pretokens = [b"a" + bytes(number) for number in range(30)] + [bytes(number) for number in range(1, 30)]
    assert counts_of(count([(pretokens, 1)])) == dict.fromkeys(pretokens, 1)


def test_more_words_than_there_was_room_for() -> None:
    pretokens = [b"%d" % number for number in range(50_000)]
    words = count([(pretokens, 1), (pretokens[:7], 1), (pretokens[::-1], 1)])
    assert counts_of(words) == {pretoken: 2 + (number < 7) for number, pretoken in enumerate(pretokens)}


def test_more_long_words_than_there_was_room_for() -> None:
    pretokens = [b"a pretoken of many bytes %d" % number for number in range(5000)] + [b"x" * 300_000]
    assert counts_of(count([(pretokens * 2, 1)])) == dict.fromkeys(pretokens, 2)


def test_only_what_is_asked_for_is_counted() -> None:
    data, ends = cut([b"one", b" two", b" three"])
    counter = PretokenCounter()
    counter.add(data, ends[:2])
    counter.add(data, ends[:0])
    counter.add(data[3:], ends[1:] - 3, weight=3)
    counter.add(data, np.array([0, 0, 3, 3]))  # the empty ones are none
    assert (len(counter), counter.total_bytes) == (3, 7 + 30 + 3)
    assert counts_of(counter.words()) == {b"one": 2, b" two": 4, b" three": 3}


def test_the_most_frequent_come_first() -> None:
    words = count([([b"rare", b"often", b"often", b"x" * 20], 1)])
    assert words.counts.tolist() == [2, 1, 1]
    assert words.data[: words.ends[0]].tobytes() == b"often"
    assert words.total_bytes == 34
    assert counts_of(count([])) == {}


def test_counts_are_of_64_bits() -> None:
    assert counts_of(count([([b"ab"], 2**60), ([b"ab"], 2**60)])) == {b"ab": 2**61}


def test_more_than_64_bits_are_refused() -> None:
    counter = PretokenCounter()
    data, ends = cut([b"ab"])
    counter.add(data, ends, weight=2**62 - 1)
    with pytest.raises(ValueError, match=r"weight: .* bytes are counted, more than 2\^63 - 1; divide all weights"):
        counter.add(data, ends)
    assert counts_of(counter.words()) == {b"ab": 2**62 - 1}  # what was refused was not counted


@pytest.mark.parametrize("weight", [0, -1])
def test_weights_below_one_are_refused(weight: int) -> None:
    data, ends = cut([b"ab"])
    with pytest.raises(ValueError, match=f"weight: {weight} must be at least 1; leave out text"):
        PretokenCounter().add(data, ends, weight)


def mix(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """`pretoken_keys.mix`, to find what it confuses."""
    value = (low ^ high >> np.uint64(32)) * np.uint64(0x9E3779B97F4A7C15)
    value ^= value >> np.uint64(32)
    value = (value ^ high) * np.uint64(0xC2B2AE3D27D4EB4F)
    return value ^ value >> np.uint64(29)


@pytest.mark.parametrize("tail_bytes", [7, 8])
def test_long_pretokens_of_the_same_hash_are_told_apart(tail_bytes: int) -> None:
    front = b"sixteen letters."
    state = np.array([len(front) + tail_bytes], np.uint64)
    for chunk in np.frombuffer(front, np.uint64):
        state = mix(state, np.array([chunk]))
    # Tails whose upper halves give equal upper halves of `value ^ high`; the lower halves then make all of it equal.
    upper = np.arange(1 << 20, dtype=np.uint64)
    value = (state ^ upper) * np.uint64(0x9E3779B97F4A7C15)
    value ^= value >> np.uint64(32)
    meeting = value >> np.uint64(32) ^ upper
    order = np.argsort(meeting)
    same = np.flatnonzero(np.diff(meeting[order]) == 0)
    one, other = order[same[0]], order[same[0] + 1]
    low = (value[one] ^ value[other]) & np.uint64(0xFFFFFFFF)
    tails = np.array([upper[one] << np.uint64(32), upper[other] << np.uint64(32) | low], np.uint64)
    assert len(set(mix(state, tails).tolist())) == 1

    pretokens = [front + tail.tobytes()[:tail_bytes] for tail in tails]
    assert pretokens[0] != pretokens[1]
    counter = PretokenCounter()
    data, ends = cut([pretokens[0], pretokens[1], pretokens[0]])
    counter.add(data, ends)
    assert counter._table.rows[3] == counter._table.rows[6]  # the hashes
    assert counts_of(counter.words()) == {pretokens[0]: 2, pretokens[1]: 1}


def test_similar_words_do_not_crowd_together() -> None:
    """Numbers, words that differ in one letter, runs: no word is further than a few steps from its slot."""
    families = [
        [b"%d" % number for number in range(12_000)],
        [b" word%05d" % number for number in range(12_000)],
        [bytes([number & 255, number >> 8]) for number in range(12_000)],
        [bytes(8) + bytes([number & 255, number >> 8]) for number in range(12_000)],
        [b"a longer pretoken with number %d" % number for number in range(12_000)],
    ]
    for family in families:
        counter = PretokenCounter()
        data, ends = cut(family)
        counter.add(data, ends)
        slots = counter._table.slots
        taken = np.flatnonzero(slots)
        assert len(taken) == len(family)
        # The longest row of taken slots bounds every search. Random hashes give 20 to 50 at this load (0.37).
        runs = np.split(taken, np.flatnonzero(np.diff(taken) > 1) + 1)
        assert max(map(len, runs)) < 100


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_nothing_behind_the_text_is_read() -> None:
    """The text ends where a page ends, and the next page kills who reads it."""
    code = """
import ctypes, mmap
import numpy as np
from atomiclm.tokenizer.fast.count import PretokenCounter
pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
for length in range(1, 40):
    text = bytes(range(1, length + 1))
    pages[mmap.PAGESIZE - length:mmap.PAGESIZE] = text
    for split in range(length):
        ends = np.array([end for end in (split, length) if end], np.int64)
        counter = PretokenCounter()
        counter.add(np.frombuffer(pages, np.uint8, length, mmap.PAGESIZE - length), ends)
        words = counter.words()
        parts = [text[:split], text[split:]] if split else [text]
        first = int(words.ends[0])
        found = [words.data[:first].tobytes(), words.data[first:].tobytes()]
        assert sorted(found)[-len(parts) :] == parts
print("read", ctypes.string_at(address + mmap.PAGESIZE - 1, 1))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, 'read b"\'"\n'), result.stderr
