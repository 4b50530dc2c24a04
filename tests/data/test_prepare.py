"""From text to shards: the account of bytes, the split, the cache, and several runs at once."""

import hashlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from atomiclm.data import END_OF_TEXT, Document, TextFiles, TextSource, prepare
from atomiclm.data.prepare import pieces
from atomiclm.tokenizer import BasicTokenizer


class Texts(TextSource):
    """Documents from a list: a source without files, as somebody might write one."""

    def __init__(self, texts, validation_fraction=0.3):
        super().__init__(validation_fraction)
        self.texts = texts
        self.passes = 0

    def source_faults(self):
        return []

    def documents(self):
        self.passes += 1
        for number, text in enumerate(self.texts):
            yield Document(f"text {number}", text)

    def describe(self):
        return "texts"


def stored(shard, separator=256):
    """The documents of a shard of byte tokens."""
    parts = np.split(shard.tokens, np.flatnonzero(shard.tokens == separator))
    assert len(parts[0]) == 0  # a separator comes first
    return [bytes(part[1:].tolist()) for part in parts[1:]]


def test_shards_hold_the_documents_and_every_byte_is_accounted_for(corpus_folder, byte_tokenizer, tmp_path, stages):
    corpus = prepare(TextFiles(str(corpus_folder), 0.3), byte_tokenizer(), tmp_path / "cache", progress=stages)
    train, validation = stored(corpus.train), stored(corpus.validation)
    files = [path.read_bytes() for path in sorted(corpus_folder.iterdir())]
    assert sorted(train + validation) == sorted(files)
    assert train == [raw for raw in files if raw in train]  # in order
    assert min(len(train), len(validation)) >= 5
    for shard, texts, name in ((corpus.train, train, "train"), (corpus.validation, validation, "validation")):
        facts = corpus.manifest[name]
        assert facts["documents"] == shard.num_documents == len(texts)
        assert facts["bytes"] == shard.num_bytes == sum(map(len, texts)) == int((shard.tokens < 256).sum())
        assert facts["tokens"] == shard.num_tokens == len(shard.tokens) == shard.num_bytes + len(texts)
        assert corpus.raw_bytes(name) == b"".join(texts)
        assert corpus.raw_bytes(name, 100) == b"".join(texts)[-100:]
        assert corpus.raw_bytes(name, 10**9) == b"".join(texts)
        assert shard.tokens.dtype == np.uint16
        assert not shard.tokens.flags.writeable
    assert corpus.manifest["validation_sha256"] == hashlib.sha256(b"".join(validation)).hexdigest()
    assert corpus.manifest["split"] == {"rule": "by a hash of each document", "validation_fraction": 0.3}
    json.dumps(corpus.manifest)
    assert stages.names() == ["reading", "training tokenizer", "encoding"]
    total = corpus.train.num_bytes + corpus.validation.num_bytes
    assert [call for call in stages if call[0] == "encoding"][-1] == ("encoding", total, total)


def test_a_tokenizer_that_learns_nothing_is_not_said_to_be_trained(tmp_path, stages):
    prepare(Texts(["one text", "another text"] * 40), BasicTokenizer(257, pattern="none"), tmp_path, progress=stages)
    assert stages.names() == ["reading", "encoding"]


def test_the_tail_of_a_split_of_tiny_documents_reaches_over_their_separators(byte_tokenizer, tmp_path):
    texts = [chr(97 + number % 26) + str(number) for number in range(60)]
    corpus = prepare(Texts(texts), byte_tokenizer(), tmp_path)
    whole = b"".join(stored(corpus.train))
    assert all(corpus.raw_bytes("train", count) == whole[len(whole) - count :] for count in range(len(whole) + 1))


def test_the_tokenizer_is_trained_on_the_training_split_alone_with_separators(corpus_folder, byte_tokenizer, tmp_path):
    untrained = byte_tokenizer()
    corpus = prepare(TextFiles(str(corpus_folder), 0.3), untrained, tmp_path / "cache")
    assert corpus.tokenizer.trained_on == END_OF_TEXT.join(raw.decode() for raw in stored(corpus.train))
    assert untrained.trained_on is None


def test_a_single_document_is_cut_and_its_halves_are_documents(byte_tokenizer, tmp_path):
    (tmp_path / "a.txt").write_bytes("ü\r\n".encode() * 100)
    corpus = prepare(TextFiles(str(tmp_path / "a.txt")), byte_tokenizer(), tmp_path / "cache")
    text = "ü\r\n" * 100
    assert stored(corpus.train) == [text[:270].encode()]
    assert stored(corpus.validation) == [text[270:].encode()]
    assert corpus.manifest["split"]["rule"] == "by position in the only document"
    assert corpus.tokenizer.trained_on == text[:270]


def test_documents_longer_than_a_piece_stay_one_document(byte_tokenizer, tmp_path, monkeypatch):
    module = sys.modules["atomiclm.data.prepare"]  # the package's name for it is the function
    monkeypatch.setattr(module, "pieces", lambda text: pieces(text, 50))
    monkeypatch.setattr(module, "PIECE_CHARACTERS", 70)
    texts = ["words and more words\n" * number for number in range(1, 20)]
    corpus = prepare(Texts(texts), byte_tokenizer(), tmp_path)
    assert sorted(stored(corpus.train) + stored(corpus.validation)) == sorted(text.encode() for text in texts)


def test_the_text_of_a_special_token_in_a_document_is_text(byte_tokenizer, tmp_path):
    texts = [f"a {END_OF_TEXT} b {number}" for number in range(10)]
    corpus = prepare(Texts(texts), byte_tokenizer(), tmp_path)
    assert sorted(stored(corpus.train) + stored(corpus.validation)) == [text.encode() for text in texts]


@pytest.mark.parametrize(("vocab_size", "kind"), [(65536, np.uint16), (65537, np.uint32)])
def test_a_large_vocabulary_is_stored_in_32_bits(byte_tokenizer, tmp_path, vocab_size, kind):
    fillers = [f"<{number}>" for number in range(vocab_size - 257)]
    tokenizer = byte_tokenizer(special_tokens=[*fillers, END_OF_TEXT])
    assert tokenizer.vocab_size == vocab_size
    corpus = prepare(Texts(["abc" * 10]), tokenizer, tmp_path)
    assert corpus.train.tokens.dtype == kind
    assert stored(corpus.train, separator=vocab_size - 1) == [b"abc" * 7]


def test_a_second_time_nothing_is_built_and_nothing_is_read(
    corpus_folder, byte_tokenizer, tmp_path, stages, monkeypatch
):
    monkeypatch.setattr("atomiclm.data.source.SETTLED_SECONDS", 0.0)
    source = TextFiles(str(corpus_folder), 0.3)
    first = prepare(source, byte_tokenizer(), tmp_path / "cache")
    monkeypatch.setattr(TextFiles, "documents", lambda self: pytest.fail("the corpus was read again"))
    second = prepare(source, byte_tokenizer(), tmp_path / "cache", progress=stages)
    assert stages == []
    assert second.manifest == first.manifest
    assert second.folder == first.folder
    np.testing.assert_array_equal(second.train.tokens, first.train.tokens)


def test_files_touched_just_now_are_read_but_not_built_again(corpus_folder, byte_tokenizer, tmp_path, stages):
    source = TextFiles(str(corpus_folder), 0.3)
    first = prepare(source, byte_tokenizer(), tmp_path / "cache")
    second = prepare(source, byte_tokenizer(), tmp_path / "cache", progress=stages)
    assert stages.names() == ["reading"]
    assert second.manifest == first.manifest


def test_a_damaged_memory_of_the_corpus_is_not_believed(corpus_folder, byte_tokenizer, tmp_path, stages, monkeypatch):
    monkeypatch.setattr("atomiclm.data.source.SETTLED_SECONDS", 0.0)
    source = TextFiles(str(corpus_folder), 0.3)
    first = prepare(source, byte_tokenizer(), tmp_path / "cache")
    [memory] = (tmp_path / "cache" / "surveys").iterdir()
    for broken in ("", "[]", "{", "{}"):
        memory.write_text(broken)
        assert prepare(source, byte_tokenizer(), tmp_path / "cache", progress=stages).manifest == first.manifest
    assert stages.names() == ["reading"]


def test_what_decides_the_result_decides_the_folder(corpus_folder, byte_tokenizer, tmp_path):
    cache = tmp_path / "cache"
    folders = [
        prepare(TextFiles(str(corpus_folder), 0.3), byte_tokenizer(), cache).folder,
        prepare(TextFiles(str(corpus_folder), 0.5), byte_tokenizer(), cache).folder,
        prepare(TextFiles(str(corpus_folder), 0.3), byte_tokenizer(name="other"), cache).folder,
    ]
    (corpus_folder / "00.txt").write_text("changed")
    folders.append(prepare(TextFiles(str(corpus_folder), 0.3), byte_tokenizer(), cache).folder)
    assert len(set(folders)) == 4


def test_the_same_text_elsewhere_is_the_same_corpus(corpus_folder, byte_tokenizer, tmp_path):
    first = prepare(TextFiles(str(corpus_folder), 0.3), byte_tokenizer(), tmp_path / "cache")
    corpus_folder.rename(tmp_path / "moved")
    second = prepare(TextFiles(str(tmp_path / "moved"), 0.3), byte_tokenizer(), tmp_path / "cache")
    assert second.folder == first.folder


def test_a_new_document_leaves_the_others_where_they_were(corpus_folder, byte_tokenizer, tmp_path):
    before = prepare(TextFiles(str(corpus_folder), 0.3), byte_tokenizer(), tmp_path / "cache")
    (corpus_folder / "05b.txt").write_text("a document more")
    after = prepare(TextFiles(str(corpus_folder), 0.3), byte_tokenizer(), tmp_path / "cache")
    assert set(stored(before.train)) <= set(stored(after.train))
    assert set(stored(before.validation)) <= set(stored(after.validation))


@pytest.mark.parametrize("part", ["train.bin", "validation.bin", "manifest.json", "tokenizer.json"])
@pytest.mark.parametrize("harm", ["truncate", "flip", "remove"])
def test_a_damaged_cache_is_rebuilt_and_said(corpus_folder, byte_tokenizer, tmp_path, stages, part, harm):
    source = TextFiles(str(corpus_folder), 0.3)
    first = prepare(source, byte_tokenizer(), tmp_path / "cache")
    train = np.array(first.train.tokens)
    [path] = (tmp_path / "cache").glob(f"{'tokenizers' if part == 'tokenizer.json' else 'shards'}/*/{part}")
    raw = path.read_bytes()
    if harm == "remove":
        path.unlink()
    else:
        path.write_bytes(raw[: len(raw) // 2] if harm == "truncate" else bytes([raw[0] ^ 1]) + raw[1:])
    again = prepare(source, byte_tokenizer(), tmp_path / "cache", progress=stages)
    np.testing.assert_array_equal(again.train.tokens, train)
    assert again.manifest == first.manifest
    assert len([stage for stage in stages.names() if stage.startswith("rebuilding")]) == 1


def test_a_text_that_changes_underway_is_refused(byte_tokenizer, tmp_path):
    class Changing(Texts):
        def documents(self):
            yield from super().documents()
            self.texts = [*self.texts, "more"]

    with pytest.raises(ValueError, match=r"^path: the corpus \(texts\) changed while .* run again"):
        prepare(Changing([f"document {number}" for number in range(20)]), byte_tokenizer(), tmp_path)
    assert not list((tmp_path / "shards").glob("*/train.bin"))


def test_a_text_that_is_not_the_remembered_one_is_refused_and_nothing_is_kept(byte_tokenizer, tmp_path):
    """Files whose stamp did not tell that they changed."""

    class Stamped(Texts):
        def stamp(self):
            return "unchanged"

    texts = [f"document {number}" for number in range(20)]
    prepare(Stamped(texts), byte_tokenizer(), tmp_path)
    source = Stamped([*texts, "more"])
    with pytest.raises(ValueError, match=r"^path: the corpus \(texts\) changed while .* run again"):
        prepare(source, byte_tokenizer(name="other"), tmp_path)
    assert len(list((tmp_path / "shards").glob("*/train.bin"))) == 1
    assert prepare(source, byte_tokenizer(name="other"), tmp_path).manifest["num_documents"] == 21


def test_a_tokenizer_that_loses_bytes_is_noticed(byte_tokenizer, tmp_path):
    with pytest.raises(AssertionError, match="end after"):
        prepare(Texts(["a\nb\nc\nd\ne\nf"]), byte_tokenizer(lossy=True), tmp_path)


def test_mistakes_are_refused_before_anything_is_written(corpus_folder, byte_tokenizer, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(ValueError, match=r"validation_fraction: must lie strictly between 0 and 1"):
        prepare(TextFiles(str(corpus_folder), 1.0), byte_tokenizer(), cache)
    with pytest.raises(ValueError, match="path: no file or folder"):
        prepare(TextFiles(str(tmp_path / "nowhere")), byte_tokenizer(), cache)
    with pytest.raises(ValueError, match=r"special_tokens: \[\] must hold '<\|endoftext\|>'"):
        prepare(TextFiles(str(corpus_folder)), byte_tokenizer(special_tokens=()), cache)
    with pytest.raises(ValueError, match="validation_fraction: the validation split is empty"):
        prepare(Texts(["a", "b"], 1e-6), byte_tokenizer(), cache)
    assert not cache.exists()


def test_progress_can_stop_the_work_and_leaves_nothing(corpus_folder, byte_tokenizer, tmp_path):
    def stop(stage, done_bytes, total_bytes):
        if stage == "encoding":
            raise KeyboardInterrupt

    source = TextFiles(str(corpus_folder), 0.3)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, byte_tokenizer(), tmp_path / "cache", progress=stop)
    assert [path.suffix for path in (tmp_path / "cache" / "shards").iterdir()] == [".lock"]
    prepare(source, byte_tokenizer(), tmp_path / "cache")


# What a process of its own runs: conftest.py's tokenizer, slow, leaving a mark whenever it is trained.
CHILD = """
import importlib.util, os, signal, sys, time
from pathlib import Path
from atomiclm.data import TextFiles, prepare

conftest, corpus, work, mode = sys.argv[1:]
spec = importlib.util.spec_from_file_location("helpers", conftest)
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)

class Slow(helpers.ByteTokenizer):
    def train_from_iterator(self, chunks, num_bytes=None):
        super().train_from_iterator(chunks)
        (Path(work) / f"trained-{os.getpid()}").touch()
        if mode == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.5)

(Path(work) / f"ready-{os.getpid()}").touch()
while len(list(Path(work).glob("ready-*"))) < (2 if mode == "race" else 1):
    time.sleep(0.005)
said = []
corpus = prepare(TextFiles(corpus, 0.3), Slow(), Path(work) / "cache", progress=lambda stage, *_: said.append(stage))
print(corpus.manifest["files"], corpus.manifest["validation_sha256"], corpus.tokenizer.digest(), corpus.folder.name)
print("waited" if any(stage.startswith("waiting") and "tokenizers" in stage for stage in said) else "built")
"""


def child(corpus_folder, work, mode):
    script = work / "child.py"
    script.write_text(textwrap.dedent(CHILD))
    command = [
        sys.executable,
        str(script),
        str(Path(__file__).with_name("conftest.py")),
        str(corpus_folder),
        str(work),
        mode,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_two_processes_that_want_the_same_build_it_once(corpus_folder, tmp_path):
    children = [child(corpus_folder, tmp_path, "race") for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0].splitlines() for process in children]
    assert [process.returncode for process in children] == [0, 0]
    assert outputs[0][0] == outputs[1][0]
    assert sorted(output[1] for output in outputs) == ["built", "waited"]
    assert len(list(tmp_path.glob("trained-*"))) == 1


def test_a_process_killed_in_the_middle_stops_nobody(corpus_folder, byte_tokenizer, tmp_path, stages):
    process = child(corpus_folder, tmp_path, "die")
    process.communicate(timeout=300)
    assert process.returncode == -9
    [orphan] = (tmp_path / "cache" / "tokenizers").glob(".*")
    corpus = prepare(TextFiles(str(corpus_folder), 0.3), byte_tokenizer(), tmp_path / "cache", progress=stages)
    assert not orphan.exists()
    assert corpus.train.num_documents > 0
    assert not [stage for stage in stages.names() if stage.startswith(("waiting", "rebuilding"))]


def test_with_the_real_tokenizer(corpus_folder, tmp_path):
    tokenizer = pytest.importorskip("atomiclm.tokenizer")
    constants = pytest.importorskip("atomiclm.tokenizer.constants")
    assert constants.END_OF_TEXT == END_OF_TEXT
    source = TextFiles(str(corpus_folder), 0.3)
    untrained = tokenizer.BasicTokenizer(vocab_size=300)
    corpus = prepare(source, untrained, tmp_path / "cache")
    assert untrained.vocab_size == 257
    assert 257 < corpus.tokenizer.vocab_size <= 300
    token_bytes = np.asarray(corpus.tokenizer.token_bytes())
    for shard in (corpus.train, corpus.validation):
        assert token_bytes[shard.tokens].sum() == shard.num_bytes
        assert shard.num_tokens < shard.num_bytes
    by_hand = tokenizer.BasicTokenizer(vocab_size=300)
    separator = corpus.tokenizer.special_tokens[END_OF_TEXT]
    texts = [
        corpus.tokenizer.decode(part[1:].tolist())
        for part in np.split(corpus.train.tokens, np.flatnonzero(corpus.train.tokens == separator))[1:]
    ]
    by_hand.train(END_OF_TEXT.join(texts))
    assert by_hand.digest() == corpus.tokenizer.digest()
    expected = [token for text in texts for token in [separator, *by_hand.encode(text)]]
    assert corpus.train.tokens.tolist() == expected
    again = prepare(source, tokenizer.BasicTokenizer(vocab_size=300), tmp_path / "cache")
    assert again.manifest == corpus.manifest
