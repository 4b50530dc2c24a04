"""Our ids beside those of tiktoken, given the same merges and the same pattern."""

import functools
import inspect
import textwrap
import unicodedata
import unittest.mock

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer

SPECIAL = (END_OF_TEXT, "<|pad|>", "<|pad|>+")
TEXT = inspect.getsource(textwrap) + "naïve café 日本語 日本 Ελληνικά 12345 1234 ...  \n\n\t x'll I'M don't\r\n" * 4

# The engines bring Unicode tables of different ages, so only characters that were assigned in the oldest of them.
ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"]).filter(lambda c: unicodedata.category(c) != "Cn")
FUZZ = st.lists(
    st.one_of(
        ASSIGNED,
        st.sampled_from([*"abst'dlvre0123 \n\r\t.-_<|>", "  ", "\r\n", " the", "日本", "'LL", "\u017f", "é", *SPECIAL]),
    ),
    max_size=60,
).map("".join)


@functools.cache
def pair(pattern: str, vocab_size: int) -> tuple[BasicTokenizer, tiktoken.Encoding]:
    """Our tokenizer, and tiktoken's built from it."""
    ours = BasicTokenizer(vocab_size, pattern, SPECIAL)
    ours.train(TEXT)
    theirs = tiktoken.Encoding(
        name="ours",
        pat_str=ours.settings()["pattern"],
        mergeable_ranks={ours.decode_bytes([token]): token for token in range(256 + len(ours.merges))},
        special_tokens=ours.special_tokens,
    )
    return ours, theirs


KEYS = [(pattern, size) for pattern in ("gpt2", "gpt4", "none") for size in (270, 900)]


@given(text=FUZZ, key=st.sampled_from(KEYS))
@settings(deadline=None, max_examples=1200)
def test_ids_are_tiktokens(text: str, key: tuple[str, int]) -> None:
    ours, theirs = pair(*key)
    assert ours.encode(text) == theirs.encode_ordinary(text)
    assert ours.encode(text, {END_OF_TEXT}) == theirs.encode(text, allowed_special={END_OF_TEXT}, disallowed_special=())


@given(ids=st.lists(st.integers(0, 269)))
@settings(deadline=None, max_examples=300)
def test_texts_are_tiktokens(ids: list[int]) -> None:
    ours, theirs = pair("gpt4", 270)
    assert ours.decode_bytes(ids) == theirs.decode_bytes(ids)
    assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_ids_of_real_text_are_tiktokens(key: tuple[str, int]) -> None:
    ours, theirs = pair(*key)
    for text in (TEXT, inspect.getsource(unittest.mock)):
        assert ours.encode(text) == theirs.encode_ordinary(text)


@pytest.mark.parametrize(
    "text", ["a" * 5000, "ab" * 3000, " \n" * 2000, "x" + " " * 3000 + "y", "日" * 2000, "1" * 5000]
)
def test_ids_of_long_pretokens_are_tiktokens(text: str) -> None:
    for ours, theirs in (pair(*key) for key in KEYS):
        assert ours.encode(text) == theirs.encode_ordinary(text)
