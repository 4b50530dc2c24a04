"""Counting a stream: memory stays small, and the stream is read piece by piece."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from atomiclm.tokenizer.patterns import split_pattern
from atomiclm.tokenizer.pretokenize import (
    RegexSplitter,
    count_pretokens,
    cut_character,
    join_chunks,
    segments,
    split_stream,
)


def test_counts_are_of_bytes() -> None:
    counts = count_pretokens(["é é\n", "é".encode()], split_pattern("gpt4"))
    assert counts == {"é".encode(): 2, " é".encode(): 1, b"\n": 1}


def test_two_spellings_of_the_same_bytes_are_one_pretoken() -> None:
    assert count_pretokens(["\ud800|\ufffd"], split_pattern(r"[^|]+")) == {"\ufffd".encode(): 2, b"|": 1}


def test_pieces_are_handed_on_before_the_stream_ends() -> None:
    read = 0

    def chunks() -> Iterator[str]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield "some words here "

    stream = split_stream(segments(join_chunks(chunks(), 32), []), RegexSplitter(split_pattern("gpt4")), 32)
    first = next(stream)
    assert first.data[: first.ends[2]] == b"some words here"
    assert read <= 3


def test_a_pretoken_longer_than_a_block_is_not_split_over_and_over() -> None:
    pattern = split_pattern("gpt4")
    seen = 0

    def counting(text: str) -> list[str]:
        nonlocal seen
        seen += len(text)
        return pattern.split(text)

    watched = RegexSplitter(replace(pattern, split=counting))
    blocks = list(split_stream(segments(join_chunks(["a" * 10] * 1000, 10), []), watched, 10))
    assert [block.data[:end] for block in blocks for end in block.ends] == [b"a" * 10_000]
    assert seen < 5 * 10_000  # 1,000 blocks of 10: reading all that waits at each block would be 5,000,000


def test_text_after_half_a_character_loses_neither() -> None:
    whole = split_pattern("none")
    assert count_pretokens([b"a\xe6\x97", "b", "é".encode(), b"\xe6"], whole) == {b"a\xe6\x97b\xc3\xa9\xe6": 1}


def test_a_stream_of_nothing() -> None:
    assert count_pretokens([], split_pattern("gpt4"), [b"<|endoftext|>"]) == {}
    assert count_pretokens(["", b"", "<|endoftext|>"], split_pattern("none"), [b"<|endoftext|>"]) == {}


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match=r"chunks: .* got NoneType"):
        count_pretokens(["a", None], split_pattern("gpt4"))


def test_a_weighted_document_stands_apart_and_counts_as_often_as_it_says() -> None:
    pattern = split_pattern("gpt4")
    chunks = ["on", ("one", 3), "e t", "wo", (b"two", 2**40)]
    assert count_pretokens(chunks, pattern) == {b"on": 1, b"one": 3, b"e": 1, b" two": 1, b"two": 2**40}


@pytest.mark.parametrize("chunk", [("text", 0), ("text", 1.5), ("text", True), ("text",), ("text", 1, 1)])
def test_a_weight_is_a_positive_integer(chunk: tuple) -> None:
    with pytest.raises(ValueError, match=r"chunks: a pair must be a document and a positive integer"):
        count_pretokens([chunk], split_pattern("gpt4"))


@pytest.mark.parametrize("character", ["a", "é", "日", "🙂", "\U0010ffff"])
def test_a_character_that_may_still_be_completed(character: str) -> None:
    data = character.encode()
    for size in range(len(data)):
        for before in (b"", b"x", "é".encode(), "🙂".encode(), b"\xff"):
            assert cut_character(before + data[:size]) == size
    assert cut_character(data) == 0


@pytest.mark.parametrize("data", [b"\x80", b"\xff", b"\xe6x", b"\xf0\x80", b"\xf4\x90\x80", b"\xc1"])
def test_bytes_that_nothing_can_complete(data: bytes) -> None:
    assert cut_character(data) == 0


def test_blocks_are_of_the_size_asked_for() -> None:
    assert list(join_chunks(["ab"] * 5, 4)) == [b"abab", b"abab", b"ab"]
    assert list(join_chunks([], 4)) == [b""]
