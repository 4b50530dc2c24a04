"""The two rules for ties, in the plain trainers; `test_train_compiled.py` holds the compiled one to these."""

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from atomiclm.tokenizer.train_basic import byte_order, train_basic
from atomiclm.tokenizer.train_heap import train_heap


def test_orders_are_permutations() -> None:
    assert sorted(byte_order("huggingface")) == list(range(256))
    assert byte_order("bytes") == bytes(range(256))


def test_the_order_of_hugging_face_is_that_of_gpt2s_characters() -> None:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    character_of = bytes_to_unicode()
    assert sorted(character_of.values()) == sorted(ByteLevel.alphabet())
    order = byte_order("huggingface")
    assert sorted(range(256), key=order.__getitem__) == sorted(range(256), key=character_of.__getitem__)


@pytest.mark.parametrize("train", [train_basic, train_heap])
def test_ties(train) -> None:
    # A blank is smaller than a letter by value, and larger by character; so is 0xA0 than 0xFF.
    corpus = {b" a": 1, b"bc": 1, b"\xa0a": 1, b"\xffa": 1}
    assert train(corpus, 4, "bytes") == [(32, 97), (98, 99), (0xA0, 97), (0xFF, 97)]
    assert train(corpus, 4, "huggingface") == [(98, 99), (0xFF, 97), (32, 97), (0xA0, 97)]
    # The right token decides when the left is the same.
    assert train({b"a ": 1, b"ab": 1}, 2, "bytes") == [(97, 32), (97, 98)]
    assert train({b"a ": 1, b"ab": 1}, 2, "huggingface") == [(97, 98), (97, 32)]
    # A merge comes after all bytes, by both rules: of (256, c) and (blank, d) the latter is taken first.
    for rule in ("bytes", "huggingface"):
        assert train({b"abc": 1, b"ab": 1, b" d": 1}, 3, rule) == [(97, 98), (32, 100), (256, 99)]
    # And the count before everything.
    assert train({b" a": 2, b"bc": 1}, 2, "huggingface") == [(32, 97), (98, 99)]
