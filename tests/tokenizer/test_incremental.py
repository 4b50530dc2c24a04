"""Decoding one id at a time gives what decoding all of them gives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomiclm.tokenizer import BasicTokenizer, IncrementalDecoder

TOKENIZER = BasicTokenizer(300)
TOKENIZER.train("日本語 日本 naïve café " * 5)


@given(ids=st.lists(st.one_of(st.sampled_from(TOKENIZER.encode("日é𝄞 ")), st.integers(0, TOKENIZER.vocab_size - 1))))
@settings(deadline=None, max_examples=500)
def test_pieces_join_to_the_whole(ids: list[int]) -> None:
    decoder = IncrementalDecoder(TOKENIZER)
    for _ in range(2):  # after finish() it is as new
        pieces = [decoder.push(token) for token in ids]
        assert "".join(pieces) + decoder.finish() == TOKENIZER.decode(ids)


def test_an_unfinished_character_is_held_back() -> None:
    decoder = IncrementalDecoder(TOKENIZER)
    assert [decoder.push(byte) for byte in "é𝄞".encode()] == ["", "é", "", "", "", "𝄞"]
    assert decoder.push(0xE6) == ""
    assert decoder.finish() == "\ufffd"
    assert decoder.finish() == ""


def test_unknown_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="5000 is not an id"):
        IncrementalDecoder(TOKENIZER).push(5000)
