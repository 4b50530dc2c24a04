"""The tokenizer as its users see it: round trips, special tokens, mistakes, identity, files."""

import doctest
import functools
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer.thresholds import kernels_from

import atomiclm.tokenizer as package
from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer, Tokenizer, train_basic
from atomiclm.tokenizer import encode as encode_module
from atomiclm.tokenizer.pretokenize import to_bytes

CORPUS = "The cat sat on the mat; the cats sat on the mats.\n\n  It's 12345 o'clock, naïve café 日本語 日本 ééé\n" * 3


@pytest.fixture(scope="module")
def tokenizer() -> BasicTokenizer:
    """Trained, with special tokens of which one is a prefix of another."""
    trained = BasicTokenizer(256 + 40 + 3, special_tokens=(END_OF_TEXT, "<|pad|>", "<|pad|>+"))
    trained.train(CORPUS)
    return trained


ALGORITHMS = {
    r"\w+": "heap",
    "bytes": "compiled",
    "cl100k": "heap",
    "gpt2": "basic",
    "gpt4": "heap",
    "none": "heap",
    "o200k": "heap",
}
"""How the tokenizer of each pattern is trained; that of bytes has no merges and no pattern."""


@functools.cache
def trained_with(name: str) -> BasicTokenizer:
    size, pattern = (257, "none") if name == "bytes" else (320, name)
    tokenizer = BasicTokenizer(size, pattern=pattern, algorithm=ALGORITHMS[name])
    tokenizer.train(CORPUS)
    return tokenizer


@given(data=st.binary(max_size=200), text=st.text(max_size=100), name=st.sampled_from(sorted(ALGORITHMS)))
@settings(deadline=None, max_examples=400)
def test_encode_decode_roundtrip(data: bytes, text: str, name: str) -> None:
    tokenizer = trained_with(name)

    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert sum(tokenizer.token_bytes()[token] for token in ids) == len(text.encode())
    assert max(ids, default=0) < 256 + len(tokenizer.merges)  # no special token out of ordinary text

    # Arbitrary bytes, also those that are not UTF-8, as they are and in Python's spelling of them.
    ids = tokenizer.encode(data)
    assert tokenizer.encode(data.decode("utf-8", "surrogateescape")) == ids
    assert tokenizer.decode_bytes(ids) == data
    assert tokenizer.decode(ids) == data.decode("utf-8", "replace")


@given(
    pieces=st.lists(st.sampled_from([" the", "cat", "é", "日本", "\n\n", "   ", "12345", "'s", CORPUS]), max_size=30)
)
@settings(deadline=None)
def test_roundtrip_of_text_that_the_merges_know(pieces: list[str]) -> None:
    text = "".join(pieces)
    for tokenizer in map(trained_with, ALGORITHMS):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_merges_shorten_the_text_they_were_learned_from(tokenizer: BasicTokenizer) -> None:
    assert len(tokenizer.encode(CORPUS)) < 0.6 * len(CORPUS.encode())


def test_ids_are_bytes_then_merges_then_special_tokens(tokenizer: BasicTokenizer) -> None:
    assert tokenizer.vocab_size == tokenizer.target_vocab_size == 256 + 40 + 3
    assert tokenizer.special_tokens == {END_OF_TEXT: 296, "<|pad|>": 297, "<|pad|>+": 298}
    assert [tokenizer.decode_bytes([value]) for value in range(256)] == [bytes([value]) for value in range(256)]
    for rank, (left, right) in enumerate(tokenizer.merges):
        assert tokenizer.ranks[left, right] == rank
        assert tokenizer.decode_bytes([256 + rank]) == tokenizer.decode_bytes([left, right])
    lengths = tokenizer.token_bytes()
    assert lengths[:296] == [len(tokenizer.decode_bytes([token])) for token in range(296)]
    assert lengths[296:] == [0, 0, 0]


def test_no_two_tokens_stand_for_the_same_bytes(tokenizer: BasicTokenizer) -> None:
    assert len({tokenizer.decode_bytes([token]) for token in range(tokenizer.vocab_size)}) == tokenizer.vocab_size


def test_every_token_encodes_to_itself() -> None:
    trained = trained_with("none")
    for token in range(256, 256 + len(trained.merges)):
        text = trained.decode_bytes([token]).decode("utf-8", "surrogateescape")
        assert trained.encode(text) == [token]


# ------------------------------------------------------------------------------------------------------ special tokens


def test_special_tokens_need_permission(tokenizer: BasicTokenizer) -> None:
    text = f"a{END_OF_TEXT}b<|pad|>"
    plain = tokenizer.encode(text)
    assert not set(plain) & set(tokenizer.special_tokens.values())
    assert tokenizer.encode(text, {END_OF_TEXT}) == [97, 296, 98, *tokenizer.encode("<|pad|>")]
    assert tokenizer.encode(text, "all") == [97, 296, 98, 297]
    for allowed in (frozenset(), {END_OF_TEXT}, "all"):
        assert tokenizer.decode(tokenizer.encode(text, allowed)) == text


def test_the_longest_special_token_wins(tokenizer: BasicTokenizer) -> None:
    assert tokenizer.encode("<|pad|>+", "all") == [298]
    assert tokenizer.encode("<|pad|>-", "all") == [297, ord("-")]
    assert tokenizer.encode("<|pad|>+", {"<|pad|>"}) == [297, ord("+")]


def test_special_tokens_divide_the_text_before_the_pattern_does(tokenizer: BasicTokenizer) -> None:
    # The two blanks belong to no word once the token is cut out.
    assert tokenizer.encode(f"the  {END_OF_TEXT}cat", "all") == [
        *tokenizer.encode("the  "),
        296,
        *tokenizer.encode("cat"),
    ]


@pytest.mark.parametrize("allowed", [{"<|other|>"}, END_OF_TEXT, {END_OF_TEXT, "x"}])
def test_unknown_permissions_are_refused(tokenizer: BasicTokenizer, allowed: set[str] | str) -> None:
    with pytest.raises(ValueError, match="allowed_special"):
        tokenizer.encode("text", allowed)


def test_special_tokens_are_never_learned() -> None:
    tokenizer = BasicTokenizer(300, pattern="none")
    tokenizer.train(("ab" + END_OF_TEXT) * 100)
    assert tokenizer.merges == [(97, 98)]
    leaky = BasicTokenizer(300, pattern="none", special_tokens=())
    leaky.train(("ab" + END_OF_TEXT) * 100)
    # The same text without the registration: the spelling is learned.
    assert b"ab<|endoftext|>" in [leaky.decode_bytes([token]) for token in range(leaky.vocab_size)]


# ------------------------------------------------------------------------------------------------------------ training


def test_training_stops_when_no_pair_is_left() -> None:
    tokenizer = BasicTokenizer(4096)
    tokenizer.train("hug hugs")
    assert (tokenizer.vocab_size, tokenizer.target_vocab_size) == (256 + 4 + 1, 4096)
    assert tokenizer.special_tokens[END_OF_TEXT] == tokenizer.vocab_size - 1
    assert tokenizer.encode("hug hugs") == [257, 259]


def test_training_again_replaces_what_was_learned() -> None:
    tokenizer = BasicTokenizer(300)
    tokenizer.train("aaaa aaaa")
    tokenizer.encode("bbbb")  # remembered, and must be forgotten
    tokenizer.train("bbbb bbbb")
    again = BasicTokenizer(300)
    again.train("bbbb bbbb")
    assert tokenizer.merges == again.merges
    assert tokenizer.encode("bbbb") == again.encode("bbbb") != list(b"bbbb")


def test_bytes_tokenizer_reads_nothing_and_maps_bytes_to_themselves() -> None:
    tokenizer = BasicTokenizer(257, pattern="none")
    tokenizer.train_from_iterator(iter(lambda: 1 / 0, None))  # would raise if it were read
    assert tokenizer.vocab_size == 257
    assert tokenizer.encode("Aé" + END_OF_TEXT, "all") == [65, 0xC3, 0xA9, 256]


def test_text_and_bytes_are_the_same_stream() -> None:
    by_text, by_bytes, by_letters = (BasicTokenizer(330) for _ in range(3))
    by_text.train(CORPUS)
    by_bytes.train(CORPUS.encode())
    by_letters.train_from_iterator(CORPUS)
    assert by_text.merges == by_bytes.merges == by_letters.merges


def test_an_imported_tokenizer_is_not_trained_again() -> None:
    content = replace(BasicTokenizer(300).state(), tie_break=None)
    with pytest.raises(ValueError, match=r"tie_break: this tokenizer was imported .* train a new BasicTokenizer"):
        BasicTokenizer.from_state(content).train(CORPUS)


def test_a_chunk_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r"chunks: .* got int"):
        BasicTokenizer(300).train_from_iterator(b"bytes iterate as integers")


# ------------------------------------------------------------------------------------------------------------ encoding


def test_encode_batch_is_encode_of_each(tokenizer: BasicTokenizer) -> None:
    texts = ["the cat", "", f"a{END_OF_TEXT}"]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(texts, "all") == [tokenizer.encode(text, "all") for text in texts]


@pytest.mark.parametrize("algorithm", ["compiled", "heap"])  # a stream is compiled whatever its size
def test_encoding_in_blocks_is_encoding_whole(tokenizer, tmp_path, monkeypatch, algorithm: str) -> None:
    kernels_from(0, monkeypatch)
    text = (CORPUS + " \n\t 's'll " + END_OF_TEXT + "日本🙂\ud800") * 2 + "\udce6"
    path = tmp_path / "text"
    path.write_bytes(to_bytes(text))
    bytes_alone = BasicTokenizer(257).state()
    tokenizers = [BasicTokenizer.from_state(each, algorithm) for each in (tokenizer.state(), bytes_alone)]
    for used, allowed in product(tokenizers, (frozenset(), {END_OF_TEXT})):
        whole = used.encode(text, allowed)
        for block in (1, 7, 64, 10**6):
            pieces = [text[start : start + block] for start in range(0, len(text), block)]
            assert np.concatenate(list(used.encode_stream(pieces, allowed, block))).tolist() == whole
            assert np.concatenate(list(used.encode_file(path, allowed, block))).tolist() == whole


def test_cache_is_bounded_and_forgetting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = BasicTokenizer(330)
    tokenizer.train(CORPUS)
    words = [f" word{index}" for index in range(50)] + [" " + "long" * 40]
    expected = [tokenizer.encode(word) for word in words]
    monkeypatch.setattr(encode_module, "CACHE_ENTRIES", 8)
    cache = tokenizer._plain._ids_of
    cache.clear()
    for _ in range(2):
        for word, ids in zip(words, expected, strict=True):
            assert tokenizer.encode(word) == ids
            assert len(cache) <= 8
    assert all(len(pretoken) <= 128 for pretoken in cache)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("text", ["a" * 100_000, " " * 100_000 + "x", "\n " * 50_000, "ab" * 50_000, "日" * 30_000])
def test_long_pretokens(text: str) -> None:
    tokenizer = BasicTokenizer(300)
    tokenizer.train(text)  # one pretoken of 100,000 bytes is no problem for training either
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) < 100


def test_surrogates() -> None:
    tokenizer = BasicTokenizer(257)
    assert tokenizer.encode("\udc80\udcff") == [0x80, 0xFF]  # escaped bytes are the bytes
    assert tokenizer.encode("\ud800") == tokenizer.encode("\udfff") == list("\ufffd".encode())  # others are replaced
    assert tokenizer.encode("a\ud83dé\udc80") == [97, *"\ufffdé".encode(), 0x80]
    for algorithm in ("heap", "basic"):
        trained = BasicTokenizer(300, algorithm=algorithm)
        trained.train("ab\ud800ab\udc80")
        assert trained.decode(trained.encode("ab\ud800")) == "ab\ufffd"


def test_escaped_bytes_that_make_a_character_are_that_character() -> None:
    split = BasicTokenizer(300, pattern="gpt4")
    split.train("éa éa éa")  # a letter to the splitter, where the two escaped bytes by themselves would be none
    assert split.encode("\udcc3\udca9a") == split.encode("éa") == split.encode("éa".encode())


@pytest.mark.parametrize("algorithm", ["compiled", "heap"])
def test_arrays_are_of_uint32(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels_from(0, monkeypatch)
    tokenizer = BasicTokenizer(257, algorithm=algorithm)
    for text in ("", "the cat"):
        [array] = tokenizer.encode_arrays([text])
        assert (array.dtype, array.tolist()) == (np.uint32, list(text.encode()))
        assert all(ids.dtype == np.uint32 for ids in tokenizer.encode_stream([text, END_OF_TEXT], "all"))


def test_much_text_in_small_pieces_is_worth_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels_from(1 << 18, monkeypatch)
    tokenizer = BasicTokenizer(260)
    tokenizer.train(CORPUS)
    for _ in range(4):
        assert tokenizer._encoders is None
        assert tokenizer.encode("xy" * 40_000) == [120, 121] * 40_000
    assert tokenizer._encoders is not None


def test_permissions_and_spellings_that_can_be_read_only_once() -> None:
    tokenizer = BasicTokenizer(special_tokens=iter(["<|a|>", "<|b|>"]))
    assert list(tokenizer.special_tokens) == ["<|a|>", "<|b|>"]
    assert tokenizer.encode("<|a|>", (token for token in ["<|a|>"])) == [256]
    assert tokenizer.encode_batch(["<|a|>"] * 2, iter(["<|a|>"])) == [[256]] * 2


@pytest.mark.parametrize("threads", [0, True, 1.5])
def test_arrays_want_a_number_of_threads_too(tokenizer: BasicTokenizer, threads: object) -> None:
    with pytest.raises(ValueError, match="threads"):
        tokenizer.encode_arrays(["text"], threads=threads)


def test_a_block_has_a_size(tokenizer: BasicTokenizer) -> None:
    with pytest.raises(ValueError, match="block_bytes: 0 must be at least 1"):
        list(tokenizer.encode_stream(["text"], block_bytes=0))


def test_what_is_neither_text_nor_bytes_is_refused(tokenizer: BasicTokenizer) -> None:
    with pytest.raises(ValueError, match=r"text: expected str or bytes, got list; .*"):
        tokenizer.encode(["text"])


# ------------------------------------------------------------------------------------------------------------ decoding


def test_broken_characters_become_replacement_characters(tokenizer: BasicTokenizer) -> None:
    assert tokenizer.decode([0xE6, 0x97]) == "\ufffd"
    assert tokenizer.decode([97, 0xFF, 98]) == "a\ufffdb"
    assert tokenizer.decode_bytes([97, 0xFF, 98]) == b"a\xffb"


def test_ids_in_arrays_and_tensors(tokenizer: BasicTokenizer) -> None:
    ids = tokenizer.encode("the cat")
    for several in (np.array(ids), np.array(ids, np.uint32), torch.tensor(ids), tuple(ids), iter(ids)):
        assert tokenizer.decode(several) == "the cat"


@given(ids=st.lists(st.integers(0, 298)))
@settings(deadline=None)
def test_decode_never_fails_on_valid_ids(tokenizer: BasicTokenizer, ids: list[int]) -> None:
    assert tokenizer.decode(ids) == tokenizer.decode_bytes(iter(ids)).decode("utf-8", "replace")


@pytest.mark.parametrize("unknown", [299, -1, 10**30])
def test_unknown_ids_are_named_with_the_range(tokenizer: BasicTokenizer, unknown: int) -> None:
    for decode in (tokenizer.decode, tokenizer.decode_bytes):
        with pytest.raises(ValueError, match=rf"{unknown} is not an id .* 0 to 298"):
            decode([97, unknown])


# ----------------------------------------------------------------------------------------- construction and identity


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 256}, r"vocab_size: 256 .* at least 257"),
        ({"vocab_size": 300.0}, r"vocab_size: 300.0 .* integer"),
        ({"vocab_size": True}, r"vocab_size: True"),
        ({"vocab_size": 2**21 + 1}, r"vocab_size: 2097153 is more than 2097152"),
        ({"special_tokens": ["a", "a"]}, r"special_tokens: 'a' is given twice"),
        ({"special_tokens": [""]}, r"special_tokens: .* empty"),
        ({"special_tokens": "<|endoftext|>"}, r"special_tokens: .* write \['<\|endoftext\|>'\]"),
        ({"special_tokens": [1]}, r"special_tokens: 1 is not a string"),
        ({"special_tokens": ["\ud800"]}, r"special_tokens: .* surrogate"),
        ({"special_tokens": ["a\udfffb"]}, r"special_tokens: .* surrogate"),
        ({"pattern": "gpt5"}, r"pattern: 'gpt5' is unknown; use gpt4, cl100k, gpt2, o200k, none"),
        ({"pattern": "["}, r"pattern: '\[' is not a valid regular expression"),
        ({"pattern": "(a)|b"}, r"pattern: .* capturing group; write \(\?:"),
        ({"algorithm": "fast"}, r"algorithm: 'fast' is unknown; use 'compiled', 'heap', 'basic'"),
        ({"tie_break": "first"}, r"tie_break: 'first' is unknown; use 'bytes' or 'huggingface'"),
    ],
)
def test_mistakes_name_the_argument_and_the_fix(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BasicTokenizer(**arguments)


def test_every_argument_changes_the_settings_but_the_algorithm() -> None:
    base = BasicTokenizer().settings()
    assert json.loads(json.dumps(base)) == base
    for change in ({"vocab_size": 4097}, {"pattern": "gpt2"}, {"special_tokens": ()}, {"tie_break": "huggingface"}):
        assert BasicTokenizer(**change).settings() != base
    assert BasicTokenizer(algorithm="basic").settings() == base
    trained = BasicTokenizer()
    trained.train(CORPUS)
    assert trained.settings() == base
    assert BasicTokenizer(pattern=package.PATTERNS["gpt4"]).settings() == base  # the name and what it names are one


def test_digest_changes_with_everything_that_decides_encoding() -> None:
    def digest(text: str = CORPUS, **arguments: object) -> str:
        tokenizer = BasicTokenizer(**({"vocab_size": 300} | arguments))
        tokenizer.train(text)
        return tokenizer.digest()

    base = digest()
    assert digest() == digest(algorithm="basic") == digest(algorithm="heap") == base
    others = [
        digest(CORPUS[::-1]),
        digest(vocab_size=301),
        digest(pattern="gpt2"),
        digest(special_tokens=()),
        digest(special_tokens=("<|other|>",)),
    ]
    assert len({base, *others}) == 1 + len(others)
    # Ids of another's making, and whether merging is skipped for whole tokens, change no merge, but they change ids.
    trained = BasicTokenizer(300)
    trained.train(CORPUS)
    content = trained.state()
    for change in (
        {"byte_ids": content.byte_ids[::-1]},
        {"merge_ids": content.merge_ids[::-1]},
        {"whole_pretokens": True},
    ):
        assert BasicTokenizer.from_state(replace(content, **change)).digest() != base
    # The pattern by itself, with no merges that would differ too.
    assert BasicTokenizer().digest() != BasicTokenizer(pattern="gpt2").digest()


def test_another_unicode_table_is_another_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = BasicTokenizer()
    before = (tokenizer.digest(), tokenizer.settings())
    monkeypatch.setattr("atomiclm.tokenizer.tokenizer.UNICODE_SHA256", "another")
    assert tokenizer.digest() != before[0]
    assert tokenizer.settings() != before[1]


def test_save_and_load(tokenizer: BasicTokenizer, tmp_path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    loaded = BasicTokenizer.load(str(path))
    assert loaded.digest() == tokenizer.digest()
    assert loaded.settings() == tokenizer.settings()
    assert (loaded.merges, loaded.special_tokens) == (tokenizer.merges, tokenizer.special_tokens)
    assert (loaded.pattern, loaded.target_vocab_size) == ("gpt4", tokenizer.target_vocab_size)
    assert loaded.encode(CORPUS + END_OF_TEXT, "all") == tokenizer.encode(CORPUS + END_OF_TEXT, "all")


def test_a_pickled_copy_encodes_the_same(tokenizer: BasicTokenizer) -> None:
    copy = pickle.loads(pickle.dumps(trained_with("gpt2")))
    assert copy.encode(CORPUS) == trained_with("gpt2").encode(CORPUS)
    assert copy.algorithm == trained_with("gpt2").algorithm == "basic"


# ------------------------------------------------------------------------------------------------------------- package


def test_the_interface_is_abstract() -> None:
    assert issubclass(BasicTokenizer, Tokenizer)
    with pytest.raises(TypeError, match="abstract"):
        Tokenizer()


@pytest.mark.parametrize("module", [package, train_basic], ids=lambda module: module.__name__)
def test_worked_examples_in_docstrings(module: object) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.fixture
def run_python() -> Callable[[str], str]:
    return lambda code: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_importing_costs_no_heavy_library(run_python: Callable[[str], str]) -> None:
    code = "import sys, atomiclm.tokenizer as _; print(sorted({'torch', 'numpy', 'hydra'} & sys.modules.keys()))"
    assert run_python(code).strip() == "[]"


def test_unused_ids_are_those_that_cannot_be_decoded():
    tokenizer = BasicTokenizer(vocab_size=300, special_tokens=["<|endoftext|>", "<s>"])
    tokenizer.train_from_iterator(["ababab"])
    assert tokenizer.vocab_size < 300
    unused = tokenizer.unused_ids(300)
    assert unused == list(range(tokenizer.vocab_size, 300))
    tokenizer.decode_bytes(id for id in range(300) if id not in unused)
    for id in unused:
        with pytest.raises(ValueError, match="is not an id of this tokenizer"):
            tokenizer.decode_bytes([id])
    assert tokenizer.unused_ids(5) == []
