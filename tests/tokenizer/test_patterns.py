"""What each pattern makes of text."""

import functools
import itertools
import random

import pytest
import regex
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from atomiclm.tokenizer.patterns import _STAND_INS, PATTERNS, SPELLINGS, on_the_pinned_table, split_pattern
from atomiclm.tokenizer.unicode_table import CATEGORIES, CODE_POINTS, categories

NAMES = ["gpt4", "cl100k", "gpt2", "o200k"]
CHARACTERS = "aZé日\u017fs'dlvert 0\uff19Ⅷ!<|>-_/\n\r\t\u00a0\u3000\u200d\u0301\x00"
AWKWARD = st.text(st.sampled_from(CHARACTERS + "\udc80"), max_size=40)
# With characters that other versions of Unicode put elsewhere, and without what has no UTF-8.
SHARED = st.text(st.sampled_from(CHARACTERS + "ǅʰЖж\u0295\U000323b0\U00010d50\U00011db5"), max_size=40)


@pytest.mark.parametrize(
    ("name", "text", "pieces"),
    [
        ("gpt4", "It's 12345 o'CLOCK", ["It", "'s", " ", "123", "45", " o", "'CLOCK"]),
        ("gpt4", "I'LL (you)", ["I", "'LL", " (", "you", ")"]),
        ("gpt4", "end.\n\nA  b", ["end", ".\n\n", "A", " ", " b"]),
        ("gpt4", "x \n \n  y", ["x", " \n \n", " ", " y"]),
        ("gpt4", "foo\n  ", ["foo", "\n", "  "]),  # the classic pattern; tiktoken 0.14 makes "\n  " one piece
        ("cl100k", "foo\n  ", ["foo", "\n  "]),
        ("cl100k", "x \n \n  y", ["x", " \n \n", " ", " y"]),
        ("cl100k", "It's 12345 o'CLOCK", ["It", "'s", " ", "123", "45", " o", "'CLOCK"]),
        ("gpt2", "It's 12345 o'CLOCK", ["It", "'s", " 12345", " o", "'", "CLOCK"]),
        ("gpt2", "end.\n\nA  b", ["end", ".", "\n", "\n", "A", " ", " b"]),
        ("o200k", "fooBar FOOBar HTTPs", ["foo", "Bar", " FOOBar", " HTTPs"]),
        ("o200k", "It's they'LL'd", ["It's", " they'LL", "'d"]),
        ("o200k", "日本ABC日本ABc", ["日本ABC日本ABc"]),
        ("o200k", "日本ABC!", ["日本", "ABC", "!"]),
        ("o200k", "\u0301ABC", ["\u0301", "ABC"]),  # a mark is tried as a word before upper case alone is
        ("o200k", "-ABC a/b;\n//c\n /d", ["-ABC", " a", "/b", ";\n//", "c", "\n", " /", "d"]),
        ("o200k", "1234 \n x", ["123", "4", " \n", " x"]),
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


@pytest.mark.slow
@given(text=AWKWARD, spelling=st.sampled_from(sorted(SPELLINGS)))
@settings(deadline=None, max_examples=1000)
def test_other_spellings_split_the_same_way(text: str, spelling: str) -> None:
    assert split_pattern(spelling).name == SPELLINGS[spelling]
    assert split_pattern(SPELLINGS[spelling]).split(text) == regex.findall(spelling, text)


@pytest.mark.slow
@given(text=SHARED, name=st.sampled_from(sorted(PATTERNS)))
@settings(deadline=None, max_examples=1500)
@example(text="foo\n  ", name="cl100k")
@example(text="a\n\nb\n\n", name="cl100k")
@example(text="\uff11\uff12\uff13\uff14\uff15", name="cl100k")
def test_hugging_face_cuts_where_we_do(text: str, name: str) -> None:
    """Oniguruma reads our text of each pattern with our meaning, and its Unicode table is the pinned one."""
    splitter = pre_tokenizers.Split(Regex(PATTERNS[name]), behavior="isolated")
    assert [piece for piece, _ in splitter.pre_tokenize_str(text)] == split_pattern(name).split(text)


@functools.cache
def encoding_of_pairs(spelling: str) -> tiktoken.Encoding:
    """An encoding whose vocabulary is all pairs of bytes: nearly every cut in a text shows in its ids."""
    pairs = [bytes(pair) for pair in itertools.product(range(256), repeat=2)]
    random.Random(0).shuffle(pairs)
    ranks = {token: rank for rank, token in enumerate([*(bytes([value]) for value in range(256)), *pairs])}
    return tiktoken.Encoding("pairs", pat_str=spelling, mergeable_ranks=ranks, special_tokens={})


@pytest.mark.slow
@given(text=SHARED, spelling=st.sampled_from([*PATTERNS.values(), *SPELLINGS]))
@settings(deadline=None, max_examples=1500)
def test_tiktoken_cuts_where_we_do(text: str, spelling: str) -> None:
    """With our text of each pattern, and with its own spelling of it."""
    encoding = encoding_of_pairs(spelling)
    pieces = split_pattern(spelling).split(text)
    assert encoding.encode_ordinary(text) == [id_ for piece in pieces for id_ in encoding._encode_single_piece(piece)]


@pytest.mark.slow
def test_the_installed_regex_sees_the_pinned_table() -> None:
    """Every code point of a category is one for the engine too, once it went through `on_the_pinned_table`."""
    table = categories()
    for index, name in enumerate(CATEGORIES):
        members = "".join(chr(point) for point in range(CODE_POINTS) if table[point] == index)
        seen = on_the_pinned_table(members)
        assert len(seen) == len(members)
        property_of = {"other": r"[^\s\p{L}\p{N}\p{M}]", "space": r"[^\S\r\n]", "newline": r"[\r\n]"}
        assert regex.fullmatch(property_of.get(name, rf"\p{{{name}}}") + "+", seen), name
        assert CATEGORIES[table[ord(_STAND_INS[name])]] == name


def test_text_that_nobody_disputes_is_left_alone() -> None:
    for text in ["plain", "Größe 日本語 ①", ""]:
        assert on_the_pinned_table(text) is text


@pytest.mark.parametrize("name", NAMES)
def test_characters_that_a_later_unicode_added_are_signs(name: str) -> None:
    """U+323B0 became a letter in Unicode 17; pieces hold the character itself, not what it was replaced by."""
    later = "\U000323b0"
    assert split_pattern(name).split(f"ab{later}{later} 1") == ["ab", later * 2, *split_pattern(name).split(" 1")]
    assert split_pattern(r"\p{L}+").split(f"ab{later}c") == ["ab", later, "c"]


def test_custom_patterns_keep_the_gaps() -> None:
    pattern = split_pattern(r"\w+")
    assert (pattern.name, pattern.text, pattern.code) == ("custom", r"\w+", None)
    assert pattern.split("..ab, cd") == ["..", "ab", ", ", "cd"]


def test_the_text_of_a_named_pattern_is_that_pattern() -> None:
    for name, text in PATTERNS.items():
        assert split_pattern(text).name == split_pattern(name).name == name
        assert split_pattern(text).text == split_pattern(name).text == text
        assert split_pattern(text).pieces_in_doubt == split_pattern(name).pieces_in_doubt
        assert split_pattern(text).code == split_pattern(name).code
    assert len({split_pattern(name).code for name in PATTERNS}) == len(PATTERNS)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", NAMES)
def test_pieces_in_doubt_are_enough_and_not_too_many(name: str) -> None:
    """Of every text of up to five characters, one of each kind, and of every beginning of it."""
    pattern = split_pattern(name)
    doubt = pattern.pieces_in_doubt
    assert doubt is not None
    fewer_would_do = True
    known: dict[str, list[str]] = {"": []}
    for length in range(1, 6):
        for characters in itertools.product("aA日\u03011 \n!'l", repeat=length):
            text = "".join(characters)
            pieces = known[text] = pattern.split(text)
            for end in range(1, length):
                begun = known[text[:end]]
                settled = begun[: max(0, len(begun) - doubt)]
                assert pieces[: len(settled)] == settled, (text, end)
                bold = begun[: len(begun) - doubt + 1]
                fewer_would_do = fewer_would_do and pieces[: len(bold)] == bold
    assert not fewer_would_do


@pytest.mark.parametrize(
    "pattern", ["(?:a{9999}){9999}", "a{99999999999}", "(?:a{,200}){200,}", "(?:" * 2000, "a|" * 4000]
)
def test_patterns_that_would_fill_the_memory_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern: "):
        split_pattern(pattern)


SLOW = r"(?:a|aa)+c|[^c]"
BACKTRACKS = "begun x " + "a" * 30 + "b c"


@pytest.mark.slow
def test_a_pattern_that_backtracks_is_told_where_and_gives_the_same_pieces(monkeypatch, caplog) -> None:
    plain = split_pattern(SLOW).split(BACKTRACKS)
    caplog.clear()
    monkeypatch.setattr("atomiclm.tokenizer.patterns.SLOW_SECONDS", 0.01)
    assert split_pattern(SLOW).split(BACKTRACKS) == plain
    (told,) = [record.getMessage() for record in caplog.records]
    assert "tokenizer.pattern: '(?:a|aa)+c|[^c]' has looked for one piece for 0.01 s" in told
    assert "at character 8 of 41 of the document that begins 'begun x aaaa" in told
    assert "Ctrl-C stops it" in told


@pytest.mark.parametrize("pattern", [r"\w+|x*", r"(?<=a)b|c", r"^a|\b\w", r"\w*?|x", r"(?=b)|a+"])
def test_a_long_text_is_cut_the_same_however_often_the_time_is_up(pattern, monkeypatch) -> None:
    text = "abc abb axb cab\n" * 4000
    plain = split_pattern(pattern).split(text)
    monkeypatch.setattr("atomiclm.tokenizer.patterns.SLOW_SECONDS", 0.001)
    assert split_pattern(pattern).split(text) == plain
