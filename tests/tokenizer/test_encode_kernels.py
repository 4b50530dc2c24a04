"""The compiled encoder is held to the plain one: same ids for all bytes, whatever is cached and however it is cut."""

import functools
import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer.thresholds import kernels_from

from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer
from atomiclm.tokenizer.encode import PlainEncoder
from atomiclm.tokenizer.fast import encoder as encoder_module
from atomiclm.tokenizer.fast import split, train
from atomiclm.tokenizer.fast.encoder import CompiledEncoder

PATTERNS = ("gpt4", "cl100k", "gpt2", "o200k", "none", r"[ab]+|\d+")


def random_text(seed: int, size: int, alphabet: str = "abab  \n'sé日本12,.") -> str:
    return "".join(random.Random(seed).choices(alphabet, k=size))


def trained(pattern: str = "gpt4", num_merges: int = 120, text: str | None = None) -> BasicTokenizer:
    tokenizer = BasicTokenizer(257 + num_merges, pattern, algorithm="heap")
    tokenizer.train(random_text(1, 4000) if text is None else text)
    return tokenizer


@functools.cache
def trained_with(pattern: str) -> BasicTokenizer:
    return trained(pattern)


def encoder_of(tokenizer: BasicTokenizer) -> CompiledEncoder:
    return CompiledEncoder(
        tokenizer._tokens,
        tokenizer.merges,
        tokenizer._ids,
        tokenizer.whole_pretokens,
        tokenizer._split,
    )


def plain(tokenizer: BasicTokenizer, data: bytes) -> list[int]:
    encoder = PlainEncoder(
        tokenizer._tokens, tokenizer.ranks, tokenizer._ids, tokenizer.whole_pretokens, tokenizer._split, basic=True
    )
    return encoder.encode(data)


@functools.cache
def encoder_with(pattern: str) -> CompiledEncoder:
    return encoder_of(trained_with(pattern))


PIECES = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=12).map(str.encode),
    st.sampled_from([b"abab", b" ab", b"\n\n ", b"'s", "é".encode(), "日本".encode(), b"aaaaaaaaaaaaaaaa", b" " * 70]),
)


@pytest.mark.slow
@given(pieces=st.lists(PIECES, max_size=20), pattern=st.sampled_from(PATTERNS))
@settings(deadline=None, max_examples=600)
def test_same_ids_as_the_plain_encoder_and_the_bytes_come_back(pieces: list[bytes], pattern: str) -> None:
    data = b"".join(pieces)
    tokenizer = trained_with(pattern)
    expected = plain(tokenizer, data)
    for _ in range(2):  # the second time everything is cached
        ids = encoder_with(pattern).encode(data)
        assert ids.dtype == np.uint32
        assert ids.tolist() == expected
    assert tokenizer.decode_bytes(ids) == data


@pytest.mark.slow
@given(
    texts=st.lists(st.lists(PIECES, max_size=3).map(b"".join), max_size=12),
    pattern=st.sampled_from([*PATTERNS, r"\d|\D+"]),
)
@settings(deadline=None, max_examples=300)
def test_many_texts_at_a_call_are_each_as_alone(texts: list[bytes], pattern: str) -> None:
    encoder = encoder_with(pattern)
    found = encoder.encode_texts(texts)
    assert [ids.tolist() for ids in found] == [encoder.encode(text).tolist() for text in texts]
    assert all(ids.base is None for ids in found)


@pytest.mark.one_in(8)
@pytest.mark.parametrize("size", [*range(1, 40), 63, 64, 65, 66, 127, 128, 129, 4095, 4096, 4097, 5000, 270_000])
def test_a_pretoken_of_any_length(size: int) -> None:
    """Lengths around a key's 15 bytes, a block's 64 keys, the cache's 128 bytes, 64 blocks of 64, and 64^3."""
    tokenizer = trained_with("none")
    for text in (random_text(size, size, "ab"), "a" * size):
        data = text.encode()
        ids = encoder_with("none").encode(data)
        assert ids.tolist() == (plain(tokenizer, data) if size < 5000 else tokenizer._plain.encode(data))


def test_a_chain_of_merges_that_is_decided_at_its_far_end() -> None:
    """Each pair of neighbouring letters is a merge, the later the better: which letters pair up depends on the last."""
    letters = [chr(code).encode() for code in range(97, 123)]
    content = BasicTokenizer(256, "none", ()).state()
    merges = [(left[0], right[0]) for left, right in pairwise(letters)][::-1]
    content = replace(content, merges=merges, merge_ids=tuple(range(256, 256 + len(merges))), target_vocab_size=999)
    tokenizer = BasicTokenizer.from_state(content)
    for size in range(2, 27):
        for start in range(27 - size):
            data = b"".join(letters[start : start + size])
            assert encoder_of(tokenizer).encode(data).tolist() == plain(tokenizer, data)


@pytest.mark.parametrize("block", [1, 2, 7])
def test_blocks_of_pretokens_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "BLOCK_PRETOKENS", block)
    data = random_text(2, 500).encode()
    for tokenizer in map(trained_with, PATTERNS):
        assert encoder_of(tokenizer).encode(data).tolist() == plain(tokenizer, data)


def test_a_full_cache_begins_again_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "CACHE_BYTES", 3000)
    monkeypatch.setattr(encoder_module, "CACHE_IDS", 900)
    rng = random.Random(3)
    words = ["".join(rng.choices("abxyz", k=rng.randint(1, 40))) for _ in range(3000)]
    data = " ".join(words + words).encode()
    encoder = encoder_of(trained_with("gpt4"))
    ids = encoder.encode(data)
    assert ids.tolist() == trained_with("gpt4")._plain.encode(data)


def test_more_different_words_than_rows() -> None:
    data = " ".join(str(number) + "ab" for number in range(100_000, 160_000)).encode()
    data += random_text(4, 50_000, "abcdefgh ").encode()
    encoder = encoder_of(trained_with("gpt2"))
    assert encoder.encode(data).tolist() == trained_with("gpt2")._plain.encode(data)


def test_random_vocabularies_of_overlapping_merges() -> None:
    for seed in range(150):
        rng = random.Random(seed)
        alphabet = "ab" if seed % 2 else "abc"
        tokenizer = trained("none", rng.randint(1, 60), random_text(seed, rng.randint(10, 400), alphabet))
        encoder = encoder_of(tokenizer)
        for size in (3, 17, 70, 200):
            data = random_text(seed + size, size, alphabet).encode()
            assert encoder.encode(data).tolist() == plain(tokenizer, data), (seed, size)


def unreachable(whole_pretokens: bool, num_halvings: int = 0) -> BasicTokenizer:
    """`bc` is merged before `ab`, so merging never makes `abc` out of `ab c`; a long one likewise."""
    merges = [(98, 99), (97, 98), (257, 99)]
    for _ in range(num_halvings):
        merges.append((255 + len(merges), 255 + len(merges)))
    content = replace(
        BasicTokenizer(257, "gpt4").state(),
        merges=merges,
        merge_ids=tuple(range(1000, 1000 + len(merges))),
        byte_ids=tuple(range(255, -1, -1)),
        special_tokens={END_OF_TEXT: 999},
        target_vocab_size=5000,
        whole_pretokens=whole_pretokens,
    )
    return BasicTokenizer.from_state(content)


@pytest.mark.parametrize("whole", [True, False])
def test_a_pretoken_that_is_a_token_may_become_it_as_a_whole(whole: bool) -> None:
    tokenizer = unreachable(whole, 8)
    long_token = tokenizer._tokens[-1]
    assert len(long_token) > 2 * 128
    for pretoken, token_id in ((b"abc", 1002), (long_token, 1000 + len(tokenizer.merges) - 1)):
        expected = plain(tokenizer, pretoken)
        assert (expected == [token_id]) is whole
        assert encoder_of(tokenizer).encode(pretoken).tolist() == expected
        assert tokenizer.decode_bytes(expected) == pretoken
    assert encoder_of(tokenizer).encode(b"abcx").tolist() == plain(tokenizer, b"abcx") == [158, 1000, 135]


def test_whole_tokens_outlive_a_full_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the cache knows of them, and what it is born with must never be lost."""
    monkeypatch.setattr(encoder_module, "CACHE_BYTES", 3000)
    tokenizer = unreachable(True, 8)
    token = tokenizer._tokens[-1]
    data = " ".join(f"long-{number}-word" * 2 for number in range(900)).replace("-", "x").encode()
    expected = tokenizer._plain.encode(data)
    first = encoder_of(tokenizer)
    first.encode(data)
    for encoder in (first, encoder_of(tokenizer)):
        for _ in range(2):
            assert encoder.encode(token).tolist() == plain(tokenizer, token) == [1000 + len(tokenizer.merges) - 1]
            assert encoder.encode(data).tolist() == expected


def test_long_pretokens_between_short_ones() -> None:
    tokenizer = trained("gpt4", 10)
    encoder = encoder_of(tokenizer)
    for seed in range(5):
        data = b" 1 ".join(random_text(seed, size, "ab").encode() for size in (3, 300_000, 100, 5))
        assert encoder.encode(data).tolist() == tokenizer._plain.encode(data)


def test_a_vocabulary_larger_than_the_smallest_cache() -> None:
    merges = [(left, right) for left in range(256) for right in range(256)][:60_000]
    content = replace(
        BasicTokenizer(256, "none", ()).state(),
        merges=merges,
        merge_ids=tuple(range(256, 256 + len(merges))),
        target_vocab_size=1 << 17,
    )
    tokenizer = BasicTokenizer.from_state(content)
    data = random.Random(0).randbytes(2000)
    assert encoder_of(tokenizer).encode(data).tolist() == tokenizer._plain.encode(data)


def test_ids_that_do_not_fit_into_16_bits_or_start_anywhere() -> None:
    tokenizer = unreachable(False)
    data = bytes(range(256)) * 3 + b"abcbcab"
    assert encoder_of(tokenizer).encode(data).tolist() == plain(tokenizer, data)
    assert tokenizer.vocab_size == 1003
    assert tokenizer.token_bytes()[256:1003] == [0] * 744 + [2, 2, 3]
    with pytest.raises(ValueError, match="256 is not an id"):
        tokenizer.decode([256])


def test_threads_give_the_ids_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = trained()
    tokenizer.algorithm = "compiled"
    kernels_from(1 << 18, monkeypatch)
    texts = [random_text(seed, 9000) for seed in range(60)] + [""]
    expected = [tokenizer._plain.encode(text.encode()) for text in texts]
    assert sum(map(len, texts)) > 1 << 18
    for threads in (1, 2, 5):
        assert tokenizer.encode_batch(texts, threads=threads) == expected
    assert tokenizer._encoders._idle
    assert [ids.tolist() for ids in tokenizer.encode_arrays(texts, threads=3)] == expected
    for threads in (0, True, 1.5):
        with pytest.raises(ValueError, match="threads"):
            tokenizer.encode_batch(texts, threads=threads)


def test_special_tokens_among_compiled_text(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = trained()
    tokenizer.algorithm = "compiled"
    kernels_from(1 << 18, monkeypatch)
    texts = [random_text(7, 1 << 18) + END_OF_TEXT + "ab" + END_OF_TEXT]
    [ids] = tokenizer.encode_batch(texts, {END_OF_TEXT})
    assert ids == [*tokenizer._plain.encode(texts[0][: 1 << 18].encode()), 376, *tokenizer.encode("ab"), 376]
    assert 376 not in tokenizer.encode(texts[0])
    [array] = tokenizer.encode_arrays(texts, "all")
    assert (array.dtype, array.tolist()) == (np.uint32, ids)


@pytest.mark.parametrize("pattern", ["gpt4", "gpt2", "o200k", "cl100k"])
def test_same_ids_as_tiktoken(pattern: str) -> None:
    text = random_text(8, 60_000, "the quick brown fox's \n\t jumped, over 12345 lazy dogs; naïve Δδ 日本語 🙂") * 2
    tokenizer = trained(pattern, 700, text[:30_000])
    theirs = tiktoken.Encoding(
        "test",
        pat_str=tokenizer._split.text,
        mergeable_ranks={token: number for number, token in enumerate(tokenizer._tokens)},
        special_tokens={},
    )
    assert encoder_of(tokenizer).encode(text.encode()).tolist() == theirs.encode_ordinary(text)


@pytest.mark.slow
def test_only_text_worth_it_loads_kernels_and_without_them_the_ids_are_the_same() -> None:
    code = (
        "import sys, random; from atomiclm.tokenizer import BasicTokenizer\n"
        "text = ''.join(random.Random(1).choices('ab cd\\n', k={size}))\n"
        "t = BasicTokenizer(300); t.train(text); ids = t.encode(text)\n"
        "print(t.digest(), sum(ids), len(ids), 'numba' in sys.modules)"
    )

    def run(size: int, **environment: str) -> tuple[list[str], str]:
        result = subprocess.run(
            [sys.executable, "-c", code.replace("{size}", str(size))],
            capture_output=True, text=True, check=True, env=os.environ | environment,
        )  # fmt: skip
        return result.stdout.split(), result.stderr

    small, _ = run(1_000_000)
    assert small[3:] == ["False"]
    for kernel in (*train.KERNELS, *encoder_module.KERNELS):
        kernel._load()  # compiles what has not been compiled
    large, _ = run(1 << 20)
    assert large[3:] == ["True"]
    without, message = run(1 << 20, NUMBA_DISABLE_JIT="1")
    assert without[:3] == large[:3]
    assert without[3:] == ["False"]
    assert message.count("NUMBA_DISABLE_JIT is set, so tokenizing runs in plain Python: same ids") == 1


def test_neighbours_in_the_cache_are_told_apart() -> None:
    """Pretokens that share their first eight bytes, their length or their padding are different pretokens."""
    tokenizer = trained_with("gpt4")
    words = [b"a" * size for size in range(1, 20)] + [b"a" * size + b"\0" * zeros for size, zeros in ((3, 2), (8, 3))]
    words += [bytes(pair) * 9 for pair in pairwise(range(97, 120))]
    for word in words * 2:
        assert encoder_with("gpt4").encode(word).tolist() == plain(tokenizer, word)
