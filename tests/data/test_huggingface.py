"""Datasets through the `datasets` library: a folder of Parquet, by the code that reads the Hub's."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from atomiclm.data import HuggingFace, SourceError, TextFiles, prepare
from atomiclm.tokenizer import BasicTokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """A folder with two files of a training split and one of a test split; the texts of the former in order."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr("atomiclm.data.huggingface.SPAN_ROWS", 70)
    folder = tmp_path / "stories"
    folder.mkdir()
    texts = [f"story {number} of größe\n" * (number % 7) for number in range(300)]
    for name, some in {"train-0": texts[:120], "train-1": texts[120:], "test-0": ["held"] * 9}.items():
        table = pyarrow.table({"id": range(len(some)), "story": some})
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet", row_group_size=50)
    return folder, [text for text in texts if text]


@pytest.mark.parametrize("streaming", [False, True])
def test_the_rows_are_the_documents_of_the_same_files(dataset, tmp_path, streaming):
    folder, texts = dataset
    source = HuggingFace(str(folder), column="story", streaming=streaming, validation_fraction=0.1)
    assert source.faults() == []
    assert [document.text for document in source.documents()] == texts
    spans = source.spans()
    assert len(spans) == (2 if streaming else 5)
    assert [document.text for span in spans for document in span.documents()] == texts
    there = prepare(source, BasicTokenizer(vocab_size=300), tmp_path / "there")
    files = TextFiles(f"{folder}/train-*.parquet", text_key="story")
    here = prepare(files, BasicTokenizer(vocab_size=300), tmp_path / "here")
    assert there.manifest["files"] == here.manifest["files"]


def test_two_workers_make_the_shards_of_one(dataset, tmp_path):
    folder, _ = dataset
    source = HuggingFace(str(folder), column="story", validation_fraction=0.1)
    alone, shared = (
        prepare(source, BasicTokenizer(vocab_size=300), tmp_path / str(workers), workers=workers) for workers in (1, 2)
    )
    assert shared.manifest == alone.manifest


def test_config_and_split_choose_what_is_read(dataset):
    folder, texts = dataset
    read = [document.text for document in HuggingFace(str(folder), split="test", column="story").documents()]
    assert read == ["held"] * 9
    some = HuggingFace(str(folder), split="train[:50]", column="story")
    assert [document.text for document in some.documents()] == [text for text in texts if text in texts[:50]][:42]


@pytest.mark.parametrize("revision", [None, "main", "master"])
def test_a_branch_is_refused_since_it_moves(revision):
    [(argument, message)] = HuggingFace("nobody/nothing", revision=revision).faults()
    assert argument == "revision"
    assert "a branch moves" in message


def test_what_is_not_there_is_named(dataset):
    folder, _ = dataset
    for settings, argument, words in (
        ({"column": "text"}, "column", "has no column 'text'; its columns: ['id', 'story']"),
        ({"column": "id"}, "column", "'id' holds int; name a column of text"),
        ({"column": "story", "split": "dev"}, "name", "check name, config, split and revision"),
    ):
        with pytest.raises(SourceError) as raised:
            list(HuggingFace(str(folder), **settings).documents())
        assert raised.value.argument == argument
        assert words in raised.value.message


def test_the_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert HuggingFace("a/b", COMMIT).faults() == [
        ("name", "needs the package datasets: pip install 'atomiclm[huggingface]'")
    ]


def test_a_commit_needs_not_be_read_again_and_a_tag_does():
    stamps = [HuggingFace("a/b", COMMIT).stamp(), HuggingFace("a/b", COMMIT, split="test").stamp()]
    assert None not in stamps
    assert len(set(stamps)) == 2
    assert HuggingFace("a/b", "v1.0").stamp() is None


@pytest.mark.slow
def test_without_a_network_the_message_says_what_to_do(tmp_path):
    script = f"""
from atomiclm.data import HuggingFace
list(HuggingFace("nobody/nothing", "{COMMIT}").documents())
"""
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=offline, capture_output=True, text=True)
    assert "name: nobody/nothing cannot be read (" in done.stderr
    assert "Without a network give a folder with its files" in done.stderr


@pytest.mark.parametrize("preset", ["fineweb_edu", "tinystories", "wikitext"])
def test_a_preset_names_a_commit(preset):
    node = yaml.safe_load((Path(__file__).parents[2] / "conf" / "data" / f"{preset}.yaml").read_text())
    assert node.pop("_target_") == "atomiclm.data.HuggingFace"
    source = HuggingFace(**node)
    assert source.faults() == []
    assert source.stamp() is not None, "the revision is a commit"
