"""tokenizer.json: AutoTokenizer gives our ids on any text, and theirs read here give theirs."""

import argparse
import copy
import dataclasses
import inspect
import json
import random
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from atomiclm.interop.tiktoken import ranks_of, write_ranks
from atomiclm.interop.tokenizer_json import (
    read_gpt2_files,
    read_tokenizer,
    tokenizer_config,
    tokenizer_json,
    tokenizer_of,
)
from atomiclm.tokenizer import END_OF_TEXT, PATTERNS, BasicTokenizer

TEXT = inspect.getsource(argparse) + "Übergrößenträger naïve café, 日本語の日本人。 Ελληνικά — “quotes” …\r\n\r\n  " * 5
WIDE = ("\uff11\uff12\uff13\uff14",)  # digits that are not ASCII
SPECIAL = (END_OF_TEXT, "<|user|>", "<|user|>x")
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def trained(vocab_size=700, pattern="gpt4", special=SPECIAL):
    tokenizer = BasicTokenizer(vocab_size, pattern, special)
    tokenizer.train(TEXT)
    return tokenizer


def random_texts(seed, count=150):
    """Words, blanks, digits, signs, special tokens, and characters of all planes that have a UTF-8 form."""
    generator = random.Random(seed)
    assigned = [chr(code) for code in (*range(0x250), *range(0x370, 0x600), *range(0x3040, 0x3100), 0x1F600, 0x2003)]
    pieces = ["'s", "'LL", " the", "def ", *WIDE, "12345", "\r\n", "\n\n  ", "\t", "   ", "((", "é", *SPECIAL]
    for _ in range(count):
        yield "".join(
            generator.choice(pieces) if generator.random() < 0.5 else generator.choice(assigned)
            for _ in range(generator.randrange(30))
        )


def folder_of(tokenizer, path):
    (path / "tokenizer.json").write_text(json.dumps(tokenizer_json(tokenizer)), encoding="utf-8")
    (path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(tokenizer, 128)), encoding="utf-8")
    return path


CASES = [(700, "gpt4"), (700, "cl100k"), (700, "o200k"), (700, "gpt2"), (500, "none"), (600, QWEN), (259, "gpt4")]


@pytest.mark.parametrize(("vocab_size", "pattern"), CASES)
def test_auto_tokenizer_gives_the_same_ids_and_text(vocab_size, pattern, tmp_path):
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    ours = trained(vocab_size, pattern)
    theirs = AutoTokenizer.from_pretrained(folder_of(ours, tmp_path))
    fast = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert len(theirs) == ours.vocab_size
    assert theirs.eos_token_id == theirs.bos_token_id == ours.special_tokens[END_OF_TEXT]
    seen = set()
    for text in [TEXT[:20_000], *random_texts(vocab_size)]:
        ids = ours.encode(text, allowed_special="all")
        assert theirs.encode(text) == ids
        assert fast.encode(text) == ids
        assert theirs.decode(ids) == text
        seen.update(ids)
    assert seen >= set(ours.special_tokens.values()), "special tokens were among the texts"


@pytest.mark.parametrize(("vocab_size", "pattern"), CASES)
def test_reading_it_back_gives_the_same_tokenizer(vocab_size, pattern, tmp_path):
    from transformers import AutoTokenizer

    ours = trained(vocab_size, pattern)
    back = read_tokenizer(folder_of(ours, tmp_path) / "tokenizer.json")
    assert back.merges == ours.merges
    assert back.special_tokens == ours.special_tokens
    assert back.digest() == ours.digest()
    assert tokenizer_json(back) == tokenizer_json(ours)
    # And as transformers writes it after loading it.
    AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    assert read_tokenizer(tmp_path / "again" / "tokenizer.json").merges == ours.merges


def test_the_file_is_what_tokenizers_itself_would_write():
    content = tokenizer_json(trained())
    assert json.loads(Tokenizer.from_str(json.dumps(content)).to_str()) == content


@pytest.mark.parametrize(
    ("merges", "special", "message"),
    [
        ([(97, 98), (98, 99), (256, 99), (97, 257)], (), "ids 258 and 259 both stand for b'abc'"),
        ([(97, 98)], ("ab",), r"special_tokens: 'ab' is also how .* 256"),
        ([(32, 97)], ("\u0120a",), "special_tokens: '\u0120a' is also how .* 256"),
        ([], ("\u00c3\u00a9",), r"decoded as b'\\xc3\\xa9'"),
    ],
)
def test_what_cannot_be_said_is_refused(merges, special, message):
    content = trained(259).state()
    names = {spelling: 256 + len(merges) + index for index, spelling in enumerate(special)}
    merge_ids = tuple(range(256, 256 + len(merges)))
    ours = BasicTokenizer.from_state(
        dataclasses.replace(content, target_vocab_size=300, special_tokens=names, merges=merges, merge_ids=merge_ids)
    )
    with pytest.raises(ValueError, match=message):
        tokenizer_json(ours)


def test_a_pattern_that_may_mean_something_else_is_refused():
    with pytest.raises(ValueError, match=r"tokenizer\.pattern"):
        tokenizer_json(trained(300, r"\w+|\W+"))


# ------------------------------------------------------------------------------------------------- what others write


def trained_there(pre_tokenizer, special_first=True, ignore_merges=False):
    """A tokenizer as `tokenizers` trains it; special tokens get the first ids, or the last."""
    theirs = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    theirs.pre_tokenizer, theirs.decoder = pre_tokenizer, decoders.ByteLevel()
    special = list(SPECIAL) if special_first else []
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    theirs.train_from_iterator(
        TEXT.splitlines(keepends=True),
        trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, special_tokens=special, show_progress=False),
    )
    if not special_first:
        theirs.add_special_tokens(list(SPECIAL))
    return theirs


def split_by(expression, behavior="isolated", invert=False):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(expression), behavior, invert), byte_level])


def there_and_back(theirs, tmp_path, pattern):
    """Import, save, load, export, load there: equal ids all along."""
    (tmp_path / "theirs.json").write_text(theirs.to_str(), encoding="utf-8")
    ours = read_tokenizer(tmp_path / "theirs.json")
    assert ours.pattern == pattern
    ours.save(tmp_path / "ours.json")
    loaded = BasicTokenizer.load(tmp_path / "ours.json")
    assert loaded.digest() == ours.digest()
    content = tokenizer_json(loaded)
    again = Tokenizer.from_str(json.dumps(content))
    special = loaded.special_tokens
    original = json.loads(theirs.to_str())
    assert content["model"]["merges"] == original["model"]["merges"]
    assert content["model"]["ignore_merges"] == original["model"]["ignore_merges"]
    assert content["model"]["vocab"] | special == original["model"]["vocab"] | special
    assert special == {token["content"]: token["id"] for token in original["added_tokens"]}
    for text in [TEXT, *random_texts(len(pattern), 200)]:
        ids = theirs.encode(text).ids
        assert loaded.encode(text, allowed_special="all") == again.encode(text).ids == ids
        assert loaded.decode(ids) == theirs.decode(ids, skip_special_tokens=False) == text
    return loaded


BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)


@pytest.mark.one_in(8)
@pytest.mark.parametrize("special_first", [True, False])
@pytest.mark.parametrize(
    ("pre_tokenizer", "pattern"),
    [
        (BYTE_LEVEL, "gpt2"),
        (pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), "none"),
        (pre_tokenizers.Sequence([BYTE_LEVEL]), "gpt2"),
        (split_by(PATTERNS["gpt4"]), "gpt4"),
        (split_by(PATTERNS["gpt4"], "removed", True), "gpt4"),
        (split_by(PATTERNS["cl100k"]), "cl100k"),
        (split_by(PATTERNS["o200k"]), "o200k"),
        (split_by(QWEN), QWEN),
    ],
)
def test_what_their_trainer_writes_is_read(pre_tokenizer, pattern, special_first, tmp_path):
    loaded = there_and_back(trained_there(pre_tokenizer, special_first), tmp_path, pattern)
    first = 0 if special_first else 700
    assert loaded.special_tokens == {token: first + index for index, token in enumerate(SPECIAL)}
    assert (loaded.tie_break, loaded.trained_on, loaded.whole_pretokens) == (None, None, False)


def test_a_pretoken_that_is_a_token_is_not_merged_where_the_file_says_so(tmp_path):
    """With the merges (a b) (b c) (a bc), `abc` alone is the token of it only if it is taken whole."""
    for whole in (False, True):
        content = tokenizer_json(trained(256, special=()))
        content["model"]["ignore_merges"] = whole
        content["model"]["vocab"] |= {"ab": 256, "bc": 257, "abc": 258}
        content["model"]["merges"] = [["a", "b"], ["b", "c"], ["a", "bc"]]
        theirs = Tokenizer.from_str(json.dumps(content))
        assert theirs.encode("abc abc").ids == [*([258] if whole else [256, 99]), 32, 256, 99]
        assert there_and_back(theirs, tmp_path, "gpt4").whole_pretokens == whole


def test_merges_are_listed_in_all_the_ways_by_the_converter_from_tiktoken(tmp_path):
    from transformers.convert_slow_tokenizer import TikTokenConverter

    ours = trained()
    write_ranks(ranks_of(ours), tmp_path / "ours.tiktoken")
    converter = TikTokenConverter(
        vocab_file=str(tmp_path / "ours.tiktoken"), pattern=PATTERNS["gpt4"], extra_special_tokens=list(SPECIAL)
    )
    content = json.loads(converter.converted().to_str())
    assert len(content["model"]["merges"]) > len(ours.merges)
    theirs = Tokenizer.from_str(json.dumps(content))
    back = tokenizer_of(content, "here")
    assert (back.merges, back.special_tokens, back.whole_pretokens) == (ours.merges, ours.special_tokens, True)
    for text in [TEXT, *random_texts(3, 200)]:
        assert back.encode(text, allowed_special="all") == theirs.encode(text).ids
    content["model"]["merges"].append(content["model"]["merges"][0])
    with pytest.raises(ValueError, match=r"field 'model\.merges': make a token more than once"):
        tokenizer_of(content, "here")


def test_the_two_files_of_gpt2(tmp_path):
    theirs = trained_there(BYTE_LEVEL)
    vocab, merges = map(Path, theirs.model.save(str(tmp_path)))
    ours = read_gpt2_files(vocab, merges, SPECIAL)
    assert ours.special_tokens == {token: index for index, token in enumerate(SPECIAL)}
    for text in [TEXT, *random_texts(9, 100)]:
        assert ours.encode(text, allowed_special="all") == theirs.encode(text).ids
    with pytest.raises(ValueError, match=r"vocab\.json.*is neither a byte, nor made by a merge"):
        read_gpt2_files(vocab, merges)
    with pytest.raises(ValueError, match=r"vocab\.json: has no '<x>'"):
        read_gpt2_files(vocab, merges, ["<x>"])
    merges.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"merges\.txt: not a text file"):
        read_gpt2_files(vocab, merges, SPECIAL)


TIKTOKENS = PATTERNS["cl100k"].replace("{1,3}", "{1,3}+")


def split_of(content):
    return content["pre_tokenizer"]["pretokenizers"][0]


def adding(token):
    special = {token: {"id": token, "ids": [697], "tokens": [token]}}
    return {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": special}


def sequence(*processors):
    return {"type": "Sequence", "processors": list(processors)}


def broken(change):
    content = copy.deepcopy(tokenizer_json(trained()))
    change(content)
    return content


@pytest.mark.one_in(6)
@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda content: content["model"].update(type="Unigram"), "model.type"),
        (lambda content: content.pop("model"), "model.type"),
        (lambda content: content.update(model=[]), "model.type"),
        (lambda content: content["model"].update(byte_fallback=True), "model.byte_fallback"),
        (lambda content: content["model"].update(dropout=0.1), "model.dropout"),
        (lambda content: content["model"].update(unk_token="?"), "model.unk_token"),
        (lambda content: content["model"].update(continuing_subword_prefix="##"), "model.continuing_subword_prefix"),
        (lambda content: content["model"].update(ignore_merges=1), "model.ignore_merges"),
        (lambda content: content.update(normalizer={"type": "NFC"}), "normalizer"),
        (lambda content: content.update(truncation={"max_length": 3}), "truncation"),
        (lambda content: content.update(decoder={"type": "Metaspace"}), "decoder"),
        (lambda content: content.update(post_processor={"type": "BertProcessing"}), "post_processor"),
        (lambda content: content.update(post_processor=adding(END_OF_TEXT)), "post_processor"),
        (lambda content: content.update(post_processor=sequence(adding(END_OF_TEXT))), "post_processor"),
        (lambda content: content.update(post_processor=sequence(None)), "post_processor"),
        (lambda content: content.update(pre_tokenizer=None), "pre_tokenizer"),
        (lambda content: content.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer"),
        (lambda content: content["pre_tokenizer"].update(pretokenizers=3), "pre_tokenizer"),
        (lambda content: split_of(content).update(behavior="Removed"), "pre_tokenizer"),
        (lambda content: split_of(content).update(invert=True), "pre_tokenizer"),
        (lambda content: split_of(content).update(pattern={"String": " "}), "pre_tokenizer"),
        (lambda content: split_of(content).update(pattern={"Regex": r"\w+|\W+"}), "pre_tokenizer"),
        (lambda content: split_of(content).update(pattern={"Regex": TIKTOKENS}), "pre_tokenizer"),
        (
            lambda content: split_of(content).update(pattern={"Regex": QWEN}, behavior="Removed", invert=True),
            "pre_tokenizer",
        ),
        (lambda content: content["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True), "pre_tokenizer"),
        (lambda content: content["pre_tokenizer"]["pretokenizers"][1].update(use_regex=True), "pre_tokenizer"),
        (lambda content: content["model"]["merges"].reverse(), r"model.merges\[\d+\]"),
        (lambda content: content["model"]["merges"].append("a b c"), r"model.merges\[441\]"),
        (lambda content: content["model"]["merges"].append(["", ""]), r"model.merges\[441\]"),
        (lambda content: content["model"]["merges"].append(["a", "€"]), r"model.merges\[441\]"),
        (lambda content: content["model"]["merges"].append(["Q", "Z"]), "model.merges"),
        (lambda content: content["model"]["merges"].pop(), "model.vocab"),
        (lambda content: content["model"]["vocab"].pop("!"), "model.vocab"),
        (lambda content: content["model"]["vocab"].update({"!": 34}), "model.vocab"),
        (lambda content: content["model"]["vocab"].update({"!": -1}), "model.vocab"),
        (lambda content: content["model"]["vocab"].update({"!": 1 << 22}), "model.vocab"),
        (lambda content: content["model"]["vocab"].update({"!": True}), "model.vocab"),
        (lambda content: content["model"]["vocab"].update({"QZ": 900}), "model.vocab"),
        (lambda content: content["model"]["vocab"].update({END_OF_TEXT: 900}), "added_tokens"),
        (lambda content: content["added_tokens"][0].update(lstrip=True), "added_tokens"),
        (lambda content: content["added_tokens"][0].update(special=False), "added_tokens"),
        (lambda content: content["added_tokens"][0].update(normalized=True), "added_tokens"),
        (lambda content: content["added_tokens"][0].update(id=698), "added_tokens"),
        (lambda content: content["added_tokens"][0].update(id=33), "added_tokens"),
        (lambda content: content["added_tokens"][0].update(id=1 << 22), "added_tokens"),
        (lambda content: content["added_tokens"][0].update(content=""), "model.vocab"),
        (lambda content: content["added_tokens"][0].update(content="\ud800"), "model.vocab"),
        (lambda content: content["added_tokens"].append(content["added_tokens"][0]), "added_tokens"),
        (lambda content: content.update(added_tokens={}), "added_tokens"),
    ],
)
def test_a_foreign_file_is_refused_by_the_field_that_differs(change, field):
    with pytest.raises(ValueError, match=f"here: field '{field}'"):
        tokenizer_of(broken(change), "here")


def test_printable_characters_are_those_of_gpt2():
    from tokenizers.pre_tokenizers import ByteLevel

    assert sorted(tokenizer_json(trained(256, special=()))["model"]["vocab"]) == sorted(ByteLevel.alphabet())
