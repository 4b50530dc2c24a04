"""Laws of training: the fast algorithm is the simple one, and nothing but the text decides the merges."""

import inspect
import os
import random
import subprocess
import sys
import textwrap

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atomiclm.tokenizer import BasicTokenizer, get_stats, merge
from atomiclm.tokenizer.encode import encode_basic, encode_heap
from atomiclm.tokenizer.train_basic import train_basic
from atomiclm.tokenizer.train_heap import train_heap

# Few letters and long runs, where overlaps (a a a), ties and neighbouring merges are the rule.
CORPORA = st.dictionaries(
    st.one_of(
        st.text(st.sampled_from("ab"), max_size=24),
        st.text(st.sampled_from("abcd"), max_size=12),
        st.integers(1, 40).map(lambda length: "a" * length),
        st.tuples(st.text(st.sampled_from("abc"), min_size=1, max_size=3), st.integers(1, 9)).map(
            lambda p: p[0] * p[1]
        ),
    ).map(str.encode),
    st.one_of(st.integers(1, 4), st.integers(1, 2**40)),
    max_size=8,
)


@given(pretokens=CORPORA, num_merges=st.integers(0, 60))
@settings(deadline=None, max_examples=1000)
@example(pretokens={b"aaa": 1, b"aaaa": 1, b"aaaaa": 1}, num_merges=9)
@example(pretokens={b"abababab": 1, b"babab": 3}, num_merges=9)
@example(pretokens={b"aab": 1, b"baa": 1, b"abaab": 2}, num_merges=9)
def test_heap_is_basic(pretokens: dict[bytes, int], num_merges: int) -> None:
    assert train_heap(pretokens, num_merges) == train_basic(pretokens, num_merges)


@pytest.mark.parametrize("seed", range(3))
def test_heap_is_basic_on_bytes_of_all_values(seed: int) -> None:
    rng = random.Random(seed)
    pretokens = {rng.randbytes(rng.randrange(40)): rng.randrange(1, 5) for _ in range(60)}
    assert train_heap(pretokens, 10_000) == train_basic(pretokens, 10_000)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["gpt4", "gpt2"])
def test_heap_is_basic_on_real_text(pattern: str) -> None:
    text = inspect.getsource(textwrap)
    heap, basic = (BasicTokenizer(256 + 400, pattern, (), algorithm) for algorithm in ("heap", "basic"))
    heap.train(text)
    basic.train(text)
    assert len(heap.merges) == 400
    assert heap.merges == basic.merges


@given(pretokens=CORPORA)
@settings(deadline=None, max_examples=300)
def test_every_merge_is_the_smallest_of_the_most_frequent_pairs(pretokens: dict[bytes, int]) -> None:
    words = [(list(pretoken), count) for pretoken, count in pretokens.items()]
    for new_id, best in enumerate(train_heap(pretokens, 20), start=256):
        counts: dict[tuple[int, int], int] = {}
        for ids, count in words:
            get_stats(ids, counts, count)
        most = max(counts.values())
        assert best == min(pair for pair, count in counts.items() if count == most)
        words = [(merge(ids, best, new_id), count) for ids, count in words]


@pytest.mark.parametrize("train", [train_basic, train_heap])
def test_the_tie_rule(train) -> None:
    # Highest count first ...
    assert train({b"ba": 2, b"ab": 1}, 9) == [(98, 97), (97, 98)]
    # ... then the smallest left id, then the smallest right id, in whatever order the text has them.
    assert train({b"zb": 1, b"az": 1, b"ac": 1, b"za": 1}, 9) == [(97, 99), (97, 122), (122, 97), (122, 98)]
    # A merge has a larger id than any byte, whatever it spells: of (256, c) and (d, e) the latter is taken first.
    assert train({b"abc": 1, b"ab": 1, b"de": 1}, 9) == [(97, 98), (100, 101), (256, 99)]
    # Each adjacency counts: (a, a) three times in "aaaa", so it comes before the two of (b, c).
    assert train({b"aaaa": 1, b"bc": 2}, 2) == [(97, 97), (98, 99)]


def test_counts_do_not_overflow() -> None:
    # Trainers that count in 32 bits lose the most frequent pair here.
    assert train_heap({b"ab": 2**31 + 1, b"cd": 2**31, b"ef": 2**70}, 3) == [(101, 102), (97, 98), (99, 100)]


@given(pretokens=CORPORA, seed=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=200)
def test_order_of_pretokens_changes_nothing(pretokens: dict[bytes, int], seed: random.Random) -> None:
    shuffled = list(pretokens.items())
    seed.shuffle(shuffled)
    assert train_heap(dict(shuffled), 30) == train_heap(pretokens, 30)


@pytest.mark.slow
@given(
    pretokens=CORPORA, other=st.dictionaries(st.text(st.sampled_from("abc"), max_size=60).map(str.encode), st.just(1))
)
@settings(deadline=None, max_examples=300)
def test_encoding_with_a_heap_is_encoding_simply(pretokens: dict[bytes, int], other: dict[bytes, int]) -> None:
    ranks = {pair: rank for rank, pair in enumerate(train_heap(pretokens, 40))}
    for pretoken in [*pretokens, *other]:
        assert encode_heap(pretoken, ranks) == encode_basic(pretoken, ranks)


@given(pretokens=CORPORA, num_merges=st.integers(1, 30))
@settings(deadline=None, max_examples=200)
def test_training_and_encoding_agree(pretokens: dict[bytes, int], num_merges: int) -> None:
    """What training made of a pretoken, encoding makes of it again."""
    merges = train_heap(pretokens, num_merges)
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    for pretoken in pretokens:
        ids = list(pretoken)
        for new_id, pair in enumerate(merges, start=256):
            ids = merge(ids, pair, new_id)
        assert encode_heap(pretoken, ranks) == ids


@pytest.mark.slow
@given(data=st.data())
@settings(deadline=None, max_examples=50)
def test_heap_is_basic_in_encoding_with_any_valid_merges(data: st.DataObject) -> None:
    """Also with merges that no training would give, as a file may hold."""
    ranks: dict[tuple[int, int], int] = {}
    ids = [97, 98]
    for new_id in range(256, 270):
        pair = (data.draw(st.sampled_from(ids)), data.draw(st.sampled_from(ids)))
        if pair not in ranks:
            ranks[pair] = len(ranks)
            ids.append(255 + len(ranks))
        assert new_id >= ids[-1]
    pretoken = data.draw(st.text(st.sampled_from("ab"), max_size=80)).encode()
    assert encode_heap(pretoken, ranks) == encode_basic(pretoken, ranks)


def test_hash_seed_changes_nothing() -> None:
    code = """
import inspect, textwrap
from atomiclm.tokenizer import BasicTokenizer
tokenizer = BasicTokenizer(600, special_tokens=("<|a|>", "<|b|>", "<|a|>b"))
tokenizer.train(inspect.getsource(textwrap) + "<|a|>b")
print(tokenizer.digest(), tokenizer.encode(inspect.getsource(textwrap) + "<|a|>b<|b|>", "all"))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1
    assert outputs.pop().strip()
