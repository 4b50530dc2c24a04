"""Blocks of a stream, and characters that a border cuts."""

import pytest

from atomiclm.tokenizer.utf8 import cut_character, join_chunks


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
