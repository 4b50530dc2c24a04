"""What each pattern makes of text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomiclm.tokenizer import PATTERNS
from atomiclm.tokenizer.patterns import split_pattern

MINBPE = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
AWKWARD = st.text(st.sampled_from("aZé日\u017fs'dlvert 0\uff19Ⅷ!<|>-_\n\r\t\u00a0\u3000\u200d\x00\udc80"), max_size=40)


@pytest.mark.parametrize(
    ("name", "text", "pieces"),
    [
        ("gpt4", "It's 12345 o'CLOCK", ["It", "'s", " ", "123", "45", " o", "'CLOCK"]),
        ("gpt4", "I'LL (you)", ["I", "'LL", " (", "you", ")"]),
        ("gpt4", "end.\n\nA  b", ["end", ".\n\n", "A", " ", " b"]),
        ("gpt4", "x \n \n  y", ["x", " \n \n", " ", " y"]),
        ("gpt4", "foo\n  ", ["foo", "\n", "  "]),  # the classic pattern; tiktoken 0.14 makes "\n  " one piece
        ("gpt2", "It's 12345 o'CLOCK", ["It", "'s", " 12345", " o", "'", "CLOCK"]),
        ("gpt2", "end.\n\nA  b", ["end", ".", "\n", "\n", "A", " ", " b"]),
        ("none", "any text\nat all", ["any text\nat all"]),
        ("none", "", []),
    ],
)
def test_named_patterns(name: str, text: str, pieces: list[str]) -> None:
    assert split_pattern(name).split(text) == pieces


@given(text=AWKWARD, pattern=st.sampled_from([*PATTERNS, r"\w+", r"a|\s*", r"(?=a)|b"]))
@settings(deadline=None, max_examples=500)
def test_splitting_loses_nothing(text: str, pattern: str) -> None:
    pieces = split_pattern(pattern).split(text)
    assert "".join(pieces) == text
    assert "" not in pieces


@given(text=AWKWARD)
@settings(deadline=None, max_examples=1000)
def test_our_spelling_of_gpt4_splits_as_minbpe_does(text: str) -> None:
    assert split_pattern("gpt4").split(text) == split_pattern(MINBPE).split(text)


def test_custom_patterns_keep_the_gaps() -> None:
    pattern = split_pattern(r"\w+")
    assert (pattern.name, pattern.text) == ("custom", r"\w+")
    assert pattern.split("..ab, cd") == ["..", "ab", ", ", "cd"]


def test_the_text_of_a_named_pattern_is_that_pattern() -> None:
    for name, text in PATTERNS.items():
        assert split_pattern(text) == split_pattern(name) or split_pattern(text).name == name
        assert split_pattern(text).pieces_in_doubt == split_pattern(name).pieces_in_doubt


@pytest.mark.parametrize(
    "pattern", ["(?:a{9999}){9999}", "a{99999999999}", "(?:a{,200}){200,}", "(?:" * 2000, "a|" * 4000]
)
def test_patterns_that_would_fill_the_memory_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern: "):
        split_pattern(pattern)
