"""The figures about a tokenizer, against figures worked out by hand."""

import pytest

from atomiclm.tokenizer import BasicTokenizer
from atomiclm.tokenizer.report import (
    compression_by_size,
    describe,
    fertility_by_script,
    longest_tokens,
    show,
)


@pytest.fixture(scope="module")
def hug() -> BasicTokenizer:
    """Merges: "hu", "hug", " hug"; one special token."""
    tokenizer = BasicTokenizer(260)
    tokenizer.train("hug hug hugs")
    return tokenizer


def test_longest_tokens_without_their_parts(hug: BasicTokenizer) -> None:
    assert longest_tokens(hug) == [b" hug"]
    both = BasicTokenizer(400, "none", ())
    both.train_from_iterator([("xyz", 3), ("ab", 2)])
    assert longest_tokens(both) == [b"xyz", b"ab"]
    assert longest_tokens(both, 1) == [b"xyz"]
    assert longest_tokens(BasicTokenizer()) == []


def test_compression_is_that_of_a_tokenizer_that_stopped_earlier(hug: BasicTokenizer) -> None:
    assert compression_by_size(hug, b"hug hug") == {257: 1.0, 260: 3.5}
    text = "the cat sat on the mat, and the cats sat on the mats. " * 9
    tokenizers = {size: BasicTokenizer(size) for size in (257, 512, 600)}
    for tokenizer in tokenizers.values():
        tokenizer.train("".join(f"{index}{text[index:]}" for index in range(400)))
    data = text[7:].encode()
    assert compression_by_size(tokenizers[600], data) == {
        size: len(data) / len(tokenizer.encode(data)) for size, tokenizer in tokenizers.items()
    }
    assert compression_by_size(BasicTokenizer(257), b"abc") == {257: 1.0}


def test_fertility_by_script(hug: BasicTokenizer) -> None:
    # "hug", " hug", "!": a blank is a quarter of its token; the other three bytes are the other three quarters.
    rows = {row.script: row for row in fertility_by_script(hug, b"hug hug!")}
    assert list(rows) == ["Latin", "numbers, signs, blanks"]
    latin, other = rows.values()
    assert (latin.share, latin.bytes_per_token, latin.tokens_per_character) == pytest.approx(
        (6 / 8, 6 / 1.75, 1.75 / 6)
    )
    assert (other.share, other.bytes_per_token, other.tokens_per_character) == pytest.approx(
        (2 / 8, 2 / 1.25, 1.25 / 2)
    )


def test_every_byte_is_in_one_row() -> None:
    # Characters of one to four bytes, and bytes of none; the most common first.
    data = "aé日日日日🙂߿ࠀǅ".encode() + b"\xff\xe6\x97 1"
    rows = fertility_by_script(BasicTokenizer(257), data)
    assert [row.script for row in rows] == ["Han", "numbers, signs, blanks", "Latin", "other letters"]
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert [round(row.share * len(data)) for row in rows] == [12, 4 + 2 + 3 + 2, 1 + 2 + 2, 3]
    assert [row.bytes_per_token for row in rows] == [1.0] * 4
    assert [row.tokens_per_character for row in rows] == pytest.approx([3, 11 / 7, 5 / 3, 3])


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (b" the", "' the'"),
        (b" " * 40, "' ' x 40"),
        (b"----", "'----'"),
        ("日本".encode(), "'日本'"),
        (b"\xff\xe6", "'??'"),
        (b"ab" * 60, "'" + "ab" * 18 + "..."),
    ],
)
def test_a_token_for_people(token: bytes, shown: str) -> None:
    assert show(token) == shown


def test_the_tables(hug: BasicTokenizer) -> None:
    lines = list(describe(hug, b"hug hug"))
    assert lines[0] == "longest tokens  ' hug'"
    assert [line.split() for line in lines[2:4]] == [
        ["257", "ids", "1.000", "bytes/token", "#" * 11],
        ["260", "ids", "3.500", "bytes/token", "#" * 40],
    ]
    assert lines[5].split() == ["Latin", "85.7%", "3.429", "0.292"]


def test_no_text_has_no_figures(hug: BasicTokenizer) -> None:
    """A corpus whose validation split holds nothing but special tokens must not end `prepare` with an exception."""
    assert next(iter(describe(hug, b""))) == "longest tokens  ' hug'"
