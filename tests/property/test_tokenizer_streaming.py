"""Law: where a stream is cut changes nothing, be it in a character, a special token or a run of blanks."""

import re
from collections import Counter
from itertools import pairwise

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atomiclm.tokenizer import PATTERNS, BasicTokenizer
from atomiclm.tokenizer.fast.split import CompiledSplitter
from atomiclm.tokenizer.patterns import split_pattern
from atomiclm.tokenizer.pretokenize import (
    RegexSplitter,
    count_pretokens,
    join_chunks,
    segments,
    split_stream,
    to_bytes,
)

SPECIAL = ("<|e|>", "<|e|>!", "|>")
SPECIAL_BYTES = [token.encode() for token in SPECIAL]
ATOMS = st.sampled_from(
    [
        *"aZsltvedmr'1234 \n\r\t.,<|>!",
        "<|e|>",
        "<|e",
        "'ll",
        "'S",
        "  ",
        " \n \n",
        "\r\n",
        "é",
        "日",
        "\u017f",
        "\u3000",
        "\u00a0",
    ]
)
TEXTS = st.lists(ATOMS, max_size=30).map("".join)
NAMES = st.sampled_from(sorted(PATTERNS))


def oracle(text: str, pattern: str) -> dict[bytes, int]:
    """The pretokens of a text that is there whole."""
    documents = re.split("|".join(map(re.escape, sorted(SPECIAL, key=len, reverse=True))), text)
    return dict(Counter(piece.encode() for document in documents for piece in regex.findall(pattern, document)))


def cut[T: (str, bytes)](stream: T, cuts: list[int]) -> list[T]:
    borders = [0, *sorted(position % (len(stream) + 1) for position in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(borders)]


def counted(
    chunks: list[str] | list[bytes], splitter: RegexSplitter, block: int, together: bool = False
) -> Counter[bytes]:
    counts: Counter[bytes] = Counter()
    parts = segments(join_chunks(chunks, 1), SPECIAL_BYTES)
    for data, ends, token in split_stream(parts, splitter, block, together):
        assert not (together and token)
        counts.update(data[start:end] for start, end in pairwise([0, *ends]))
    return counts


@pytest.mark.slow
@given(text=TEXTS, cuts=st.lists(st.integers(0, 200)), name=NAMES, block=st.integers(1, 40), as_bytes=st.booleans())
@settings(deadline=None, max_examples=1500)
@example(text="x  <|e|>", cuts=[6], name="gpt4", block=1, as_bytes=False)
@example(text=" \n  \n", cuts=[2, 4], name="gpt4", block=1, as_bytes=False)
@example(text="a'll", cuts=[1, 2, 3], name="gpt2", block=1, as_bytes=False)
def test_cuts_change_nothing(text: str, cuts: list[int], name: str, block: int, as_bytes: bool) -> None:
    chunks = cut(text.encode(), cuts) if as_bytes else cut(text, cuts)
    pattern = split_pattern(name)
    expected = oracle(text, PATTERNS[name])
    assert count_pretokens(chunks, pattern, SPECIAL_BYTES, block) == expected
    for splitter in (CompiledSplitter(pattern), RegexSplitter(pattern)):
        together = counted(chunks, splitter, block, together=True)
        assert counted(chunks, splitter, block) == together == expected


@given(text=TEXTS, cuts=st.lists(st.integers(0, 200)), block=st.integers(1, 12))
@settings(deadline=None, max_examples=300)
def test_custom_patterns_too(text: str, cuts: list[int], block: int) -> None:
    pattern = r"(?<=a)\w+(?=.*!)|\b\w{2}|[\s\S]"  # looks back, and ahead without end
    assert count_pretokens(cut(text, cuts), split_pattern(pattern), SPECIAL_BYTES, block) == oracle(text, pattern)


@given(data=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60)), block=st.integers(1, 5))
@settings(deadline=None, max_examples=500)
@example(data="é𝄞".encode() + b"\xed\xa0\x80\xe2\x82A\xf0\x90", cuts=list(range(16)), block=1)
def test_bytes_that_are_not_utf8_are_cut_anywhere_too(data: bytes, cuts: list[int], block: int) -> None:
    whole = split_pattern(r"[\s\S]")  # each character, and each byte that is no part of one
    characters = Counter(map(to_bytes, data.decode("utf-8", "surrogateescape")))
    assert count_pretokens(cut(data, cuts), whole, block_bytes=block) == characters
    by_gpt2 = count_pretokens([data], split_pattern("gpt2"))
    assert count_pretokens(cut(data, cuts), split_pattern("gpt2"), block_bytes=block) == by_gpt2


@pytest.mark.parametrize("splitter", [CompiledSplitter, RegexSplitter])
def test_texts_cut_together_end_where_they_ended(splitter: type[RegexSplitter]) -> None:
    # The first ends in half a character and its blanks, the second begins with what could go on from there.
    text = b"ab  \xe6<|e|>\x97\xa5 cd 12<|e|>3 <|e|><|e|> e" + b"f" * 50
    for name in PATTERNS:
        expected = Counter[bytes]()
        for document in text.split(b"<|e|>"):
            expected.update(count_pretokens([document], split_pattern(name)))
        for border in range(len(text)):
            for block in (1, 6, 20):
                assert counted(cut(text, [border]), splitter(split_pattern(name)), block, together=True) == expected


@given(text=st.text(st.sampled_from("aé日 𝄞"), max_size=30), cuts=st.lists(st.integers(0, 60)), pick=st.randoms())
@settings(deadline=None, max_examples=200)
def test_chunks_of_text_and_bytes_can_alternate(text: str, cuts: list[int], pick) -> None:
    chunks = [piece.encode() if pick.random() < 0.5 else piece for piece in cut(text, cuts)]
    assert b"".join(join_chunks(chunks, 4)).decode() == text


@given(text=TEXTS, cuts=st.lists(st.integers(0, 200)), name=NAMES)
@settings(deadline=None, max_examples=100)
def test_merges_are_the_same_however_the_stream_is_cut(text: str, cuts: list[int], name: str) -> None:
    whole, pieces = (BasicTokenizer(290, name, SPECIAL) for _ in range(2))
    whole.train(text)
    pieces.train_from_iterator(cut(text.encode(), cuts))
    assert whole.digest() == pieces.digest()
