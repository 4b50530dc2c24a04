"""The training kernels learn what the plain algorithm learns, and what trainers learn that we did not write."""

import json
import os
import pydoc_data.topics
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import regex
from tokenizer.thresholds import counts_of, words_of
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer

from atomiclm.tokenizer.fast import merge_loop, why_unavailable
from atomiclm.tokenizer.fast import train as driver
from atomiclm.tokenizer.fast.count import Words
from atomiclm.tokenizer.fast.train import train_compiled
from atomiclm.tokenizer.patterns import PATTERNS
from atomiclm.tokenizer.train_basic import Pair, train_basic
from atomiclm.tokenizer.train_heap import train_heap

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))

# English prose full of code, other scripts, and runs in which the two ways to count "aaa" would differ.
TEXT = (
    Path(pydoc_data.topics.__file__).read_text(encoding="utf-8")[:300_000]
    + "Übergrößenträger naïve café, 日本語の日本人。 Ελληνικά και ελληνικά — “quotes” … Ещё одно слово. " * 3
    + "".join("-=_ a"[index % 5] * (index % 23) + "\n" for index in range(300))
)
NUM_MERGES = 4000


def train(pretokens: dict[bytes, int], *arguments: Any, **more: Any) -> list[Pair]:
    return train_compiled(words_of(pretokens), *arguments, **more)


def spelled(merges: list[Pair]) -> list[tuple[bytes, bytes]]:
    spelling = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        spelling.append(spelling[left] + spelling[right])
    return [(spelling[left], spelling[right]) for left, right in merges]


@pytest.fixture(scope="module")
def pretokens() -> dict[bytes, int]:
    """Cut by `regex`, so that only training is compared."""
    counts: dict[bytes, int] = {}
    for piece in regex.findall(PATTERNS["gpt4"], TEXT):
        counts[piece.encode()] = counts.get(piece.encode(), 0) + 1
    return counts


def random_corpus(rng: random.Random) -> dict[bytes, int]:
    """Few letters, runs and repeats, where overlaps, ties and neighbouring merges are the rule."""
    alphabet = rng.sample(range(256), rng.choice([1, 2, 2, 3, 4, 8]))
    corpus = {}
    for _ in range(rng.randrange(9)):
        word = bytes(rng.choices(alphabet, k=rng.randrange(rng.choice([2, 6, 12, 60]))))
        if rng.random() < 0.3:
            word = word[:3] * rng.randrange(1, 9)
        corpus[word] = rng.choice([1, 2, 3, rng.randrange(1, 10), rng.randrange(1, 2**40)])
    return corpus


@pytest.mark.one_in(4)
@pytest.mark.parametrize("seed", range(10))
def test_kernels_are_basic_and_heap(seed: int) -> None:
    """On 1,000 corpora, by both tie rules, whatever the thresholds."""
    rng = random.Random(seed)
    for _ in range(100):
        corpus = random_corpus(rng)
        num_merges = rng.randrange(60)
        for tie_break in ("bytes", "huggingface"):
            basic = train_basic(corpus, num_merges, tie_break)
            assert train_heap(corpus, num_merges, tie_break) == basic
            assert train(corpus, num_merges, tie_break) == basic
            few = sorted({rng.randrange(1, 2 ** rng.randrange(1, 42)) for _ in range(4)}, reverse=True)
            for thresholds in ([], few, [2**45, 30, 9, 5, 4, 3, 2]):
                assert train(corpus, num_merges, tie_break, thresholds) == basic


@pytest.mark.parametrize("tie_break", ["bytes", "huggingface"])
@pytest.mark.parametrize("thresholds", [None, [500, 100, 20], [3]])
def test_kernels_are_heap_on_text(pretokens, tie_break, thresholds) -> None:
    assert train(pretokens, NUM_MERGES, tie_break, thresholds) == train_heap(pretokens, NUM_MERGES, tie_break)


def test_all_merges_that_there_are(pretokens: dict[bytes, int]) -> None:
    some = dict(list(pretokens.items())[::10])
    merges = train(some, 10**6)
    assert merges == train_heap(some, 10**6)
    assert train(some, len(merges) + 1, thresholds=[7]) == merges  # it ends early, and says so by its length
    assert train(some, len(merges), thresholds=[7]) == merges


def test_merges_are_those_of_rustbpe(pretokens: dict[bytes, int]) -> None:
    rustbpe = pytest.importorskip("rustbpe")
    theirs = rustbpe.Tokenizer()
    theirs.train_from_iterator(iter([TEXT]), 256 + NUM_MERGES, pattern=PATTERNS["gpt4"])
    ranks = sorted(theirs.get_mergeable_ranks(), key=lambda entry: entry[1])
    assert [bytes(token) for token, _ in ranks[256:]] == [
        left + right for left, right in spelled(train(pretokens, NUM_MERGES))
    ]


def test_merges_are_those_of_bpeasy(pretokens: dict[bytes, int]) -> None:
    bpeasy = pytest.importorskip("bpeasy")
    longest_token = 1000  # a limit that we do not have
    ranks = bpeasy.train_bpe(iter([TEXT]), PATTERNS["gpt4"], longest_token, 256 + NUM_MERGES)
    tokens = sorted(ranks, key=ranks.__getitem__)
    assert tokens[256:] == [left + right for left, right in spelled(train(pretokens, NUM_MERGES))]


def test_merges_are_those_of_hugging_face(pretokens: dict[bytes, int]) -> None:
    theirs = Tokenizer(BPE())
    split = Split(Regex(PATTERNS["gpt4"]), behavior="isolated")
    theirs.pre_tokenizer = Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = BpeTrainer(
        vocab_size=256 + NUM_MERGES, initial_alphabet=ByteLevel.alphabet(), special_tokens=[], show_progress=False
    )
    theirs.train_from_iterator([TEXT], trainer)
    printed = [tuple(pair) for pair in json.loads(theirs.to_str())["model"]["merges"]]

    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    byte_of = {chr(byte if byte in printable else next(others)): byte for byte in range(256)}
    expected = [tuple(bytes(byte_of[character] for character in half) for half in pair) for pair in printed]
    assert len(expected) == NUM_MERGES
    assert spelled(train(pretokens, NUM_MERGES, "huggingface")) == expected
    assert spelled(train(pretokens, NUM_MERGES, "bytes")) != expected


def test_order_of_pretokens_changes_nothing(pretokens: dict[bytes, int]) -> None:
    expected = train(pretokens, NUM_MERGES)
    for seed in range(3):
        items = list(pretokens.items())
        random.Random(seed).shuffle(items)
        words = words_of(dict(items))
        # `Words` promises an order by count only, so neither may the order among equals matter.
        order = sorted(range(len(words)), key=lambda index: (-words.counts[index], random.Random(index).random()))
        counts = counts_of(words)
        spelling = [list(counts)[index] for index in order]
        shuffled = Words(
            np.frombuffer(b"".join(spelling), np.uint8),
            np.cumsum([len(word) for word in spelling]),
            np.array([counts[word] for word in spelling]),
            words.total_bytes,
        )
        assert train_compiled(shuffled, NUM_MERGES) == expected


def test_hash_seed_changes_nothing() -> None:
    code = """
from tokenizer.thresholds import words_of
from atomiclm.tokenizer.fast.train import train_compiled
words = "the order of a set depends on the hash seed and the merges must not".split()
print(train_compiled(words_of({word.encode(): len(word) % 3 + 1 for word in set(words)}), 30))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[1])},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1
    assert outputs.pop().strip().startswith("[(")


def test_counts_are_of_64_bits() -> None:
    # Trainers that count in 32 bits lose the most frequent pair here.
    assert train({b"ab": 2**31 + 1, b"cd": 2**31, b"ef": 2**33}, 3) == [(101, 102), (97, 98), (99, 100)]
    large = 2**60
    assert train({b"ab": large, b"cd": large + 1}, 2) == [(99, 100), (97, 98)]
    # Counts that differ only beyond the 53 bits of a float.
    assert train({b"ab": 2**53, b"cd": 2**53 + 1}, 1) == [(99, 100)]


def test_an_unknown_tie_rule_is_refused() -> None:
    for trainer in (train, train_heap, train_basic):
        with pytest.raises(ValueError, match="tie_break: 'first' is unknown; use 'bytes' or 'huggingface'"):
            trainer({b"ab": 2}, 1, "first")


def test_nothing_to_learn() -> None:
    assert train({}, 5) == train({b"": 3}, 5) == train({b"a": 3, b"b": 1}, 5) == train({b"ab": 1}, 0) == []
    assert train({b"a": 3, b"ab": 1}, 5) == [(97, 98)]


@pytest.mark.parametrize(
    "pretoken",
    [
        b"a" * 20_000,
        b" " * 19_999 + b"x",
        b"\n " * 10_000,
        b"aab" * 6_000,
        bytes(random.Random(1).choices(b"ACGT", k=20_000)),
        bytes(random.Random(2).choices(range(97, 123), k=20_000)),
        "".join(map(chr, random.Random(3).choices(range(0x4E00, 0x9FA5), k=7_000))).encode(),
    ],
    ids=["a", "blanks", "lines", "aab", "ACGT", "letters", "ideographs"],
)
def test_one_long_pretoken(pretoken: bytes) -> None:
    assert train({pretoken: 1}, 300) == train_heap({pretoken: 1}, 300)


def test_a_pretoken_of_a_million_bytes() -> None:
    """Were the time not linear, this would not end."""
    merges = train({b"a" * 2**20: 1}, 100)
    assert merges == [(97, 97), *((token, token) for token in range(256, 256 + 19))]
    letters = bytes(random.Random(4).choices(range(97, 123), k=10**6))
    assert len(train({letters: 1}, 20_000)) == 20_000


def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What each call of the merge kernel returns from now on."""
    seen: list[int] = []
    merge = driver.merge_loop

    def watched(*arguments: Any) -> int:
        seen.append(merge(*arguments))
        return seen[-1]

    monkeypatch.setattr(driver, "merge_loop", watched)
    return seen


@pytest.mark.parametrize(("constant", "value"), [("BIRTHS_PER_MERGE", 0), ("OCCURRENCES_PER_POSITION", 1)])
def test_room_runs_out(constant: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    corpus = {bytes(rng.choices(range(32), k=100)): rng.randrange(1, 9) for _ in range(1500)}
    expected = train_heap(corpus, 1000)
    seen = outcomes(monkeypatch)
    assert train(corpus, 1000, thresholds=[]) == expected
    assert seen == [merge_loop.FINISHED]
    monkeypatch.setattr(driver, constant, value)
    seen.clear()
    assert train(corpus, 1000, thresholds=[]) == expected
    assert seen.count(merge_loop.NO_ROOM) >= 1
    assert seen[-1] == merge_loop.FINISHED


def test_the_first_threshold_suffices_for_text(pretokens, monkeypatch) -> None:
    """Chosen too high it would cost a second scan; chosen as 1, memory."""
    seen = outcomes(monkeypatch)
    for num_merges in (500, 1000, 2000):
        first = next(iter(driver._thresholds(words_of(pretokens), num_merges)))
        assert first > 1
        train(pretokens, num_merges)
        assert seen == [merge_loop.FINISHED]
        seen.clear()


def test_more_places_than_int32_can_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "MAX_POSITIONS", 7)
    assert train({b"abc": 2, b"d": 1}, 1) == [(97, 98)]  # 4 bytes, 2 behind and 1 in front
    with pytest.raises(ValueError, match=r"pretokens: .* have 5 bytes, more than 2\^31 positions; train on less text"):
        train({b"abc": 2, b"de": 1}, 1)


def weights_of_many_groups() -> Iterator[dict[bytes, int]]:
    rng = random.Random(6)
    yield {bytes(rng.choices(b"abc", k=rng.randrange(1, 9))): weight for weight in range(1, 300)}  # a word a group
    yield {bytes(rng.choices(b"abc", k=rng.randrange(2, 9))): 1 + weight % 2 for weight in range(300)}  # two groups


def test_weights_are_found_by_place() -> None:
    for corpus in weights_of_many_groups():
        assert train(corpus, 100) == train_heap(corpus, 100)
