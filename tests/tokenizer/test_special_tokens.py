"""Special tokens in a stream: found wherever the blocks are cut, the longest first, and nothing else lost."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomiclm.tokenizer.pretokenize import segments, special_finder

TOKENS = st.lists(st.text(st.sampled_from("ab|"), min_size=1, max_size=4), max_size=4, unique=True)


def joined(blocks: list[str], tokens: list[str]) -> list[str]:
    """The complete segments of a stream."""
    result = [b""]
    whole = b""
    for data, ends, token in segments([block.encode() for block in blocks], [token.encode() for token in tokens]):
        result[-1] += data
        whole += data + token
        assert ends or not token
        if ends:
            result.append(b"")
    assert result.pop() == b""
    assert whole.decode() == "".join(blocks)
    return [data.decode() for data in result]


@pytest.mark.slow
@given(tokens=TOKENS, blocks=st.lists(st.text(st.sampled_from("ab|"), max_size=6), max_size=8))
@settings(deadline=None, max_examples=1000)
def test_where_blocks_are_cut_changes_nothing(tokens: list[str], blocks: list[str]) -> None:
    text = "".join(blocks)
    longest_first = sorted(tokens, key=len, reverse=True)
    expected = re.split("|".join(map(re.escape, longest_first)), text) if tokens else [text]
    assert joined(blocks, tokens) == expected


def test_a_shorter_token_waits_for_the_longer_one() -> None:
    tokens = ["<|a|>", "<|a|>b"]
    assert joined(["x<|a|>", "by"], tokens) == ["x", "y"]
    assert joined(["x<|a|>", "cy"], tokens) == ["x", "cy"]
    assert joined(["x<|a", "|>"], tokens) == ["x", ""]


def test_only_what_could_be_a_token_is_held_back() -> None:
    parts = segments([b"text <|end", b"less"], [b"<|endoftext|>"])
    assert next(parts) == (b"text ", False, b"")


def test_a_token_that_no_longer_one_begins_with_is_not_held_back() -> None:
    assert next(segments([b"text<|a|>", b"more"], [b"<|a|>", b"<|b|>"])) == (b"text", True, b"<|a|>")


def test_tokens_are_literal_text() -> None:
    finder = special_finder([b"a.c", b"(", b"[x]*"])
    assert finder is not None
    assert finder.findall(b"abc a.c ( xx [x]*") == [b"a.c", b"(", b"[x]*"]
    assert special_finder([]) is None
