"""Decoding one id at a time gives what decoding all of them gives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomiclm.tokenizer import BasicTokenizer, IncrementalDecoder


@pytest.fixture(scope="module")
def tokenizer() -> BasicTokenizer:
    trained = BasicTokenizer(300)
    trained.train("日本語 日本 naïve café " * 5)
    return trained


@pytest.mark.slow
@given(data=st.data())
@settings(deadline=None, max_examples=500)
def test_pieces_join_to_the_whole(tokenizer: BasicTokenizer, data: st.DataObject) -> None:
    some = st.one_of(st.sampled_from(tokenizer.encode("日é𝄞 ")), st.integers(0, tokenizer.vocab_size - 1))
    ids = data.draw(st.lists(some))
    decoder = IncrementalDecoder(tokenizer)
    for _ in range(2):  # after finish() it is as new
        pieces = [decoder.push(token) for token in ids]
        assert "".join(pieces) + decoder.finish() == tokenizer.decode(ids)


def test_an_unfinished_character_is_held_back(tokenizer: BasicTokenizer) -> None:
    decoder = IncrementalDecoder(tokenizer)
    assert [decoder.push(byte) for byte in "é𝄞".encode()] == ["", "é", "", "", "", "𝄞"]
    assert decoder.push(0xE6) == ""
    assert decoder.finish() == "\ufffd"
    assert decoder.finish() == ""


def test_unknown_ids_are_refused(tokenizer: BasicTokenizer) -> None:
    with pytest.raises(ValueError, match="5000 is not an id"):
        IncrementalDecoder(tokenizer).push(5000)
