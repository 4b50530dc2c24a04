"""Several processes give the bytes that one gives, and a kill costs only the shards in progress."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from tokenizer.thresholds import kernels_from

from atomiclm.cli import UserError
from atomiclm.data import SourceError, TextFiles, prepare
from atomiclm.data.cache import STEP_BYTES
from atomiclm.data.source import hash_number
from atomiclm.data.workers import Workers
from atomiclm.tokenizer import BasicTokenizer

SPAN = 40_000


@pytest.fixture
def small_spans(monkeypatch):
    monkeypatch.setattr("atomiclm.data.text_files.SPAN_BYTES", SPAN)


@pytest.fixture
def rows(tmp_path):
    """A folder of JSON lines, Parquet and text, larger than several spans; and the texts in it, in order."""
    rng = random.Random(0)
    words = ["one", "two", "three", "größer", "naïve", "日本", "x" * 30, "\n", "42"]
    texts = [" ".join(rng.choices(words, k=rng.randrange(1, 200))) + str(number) for number in range(900)]
    folder = tmp_path / "rows"
    folder.mkdir()
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts[:400])
    (folder / "a.jsonl").write_text(lines, encoding="utf-8")
    table = pyarrow.table({"id": range(400), "text": texts[400:800]})
    pyarrow.parquet.write_table(table, folder / "b.parquet", row_group_size=30)
    for number, text in enumerate(texts[800:]):
        (folder / f"c{number:03}.txt").write_text(text, encoding="utf-8")
    return folder, texts


def test_spans_are_the_documents_in_order_whatever_their_size(rows, monkeypatch):
    folder, texts = rows
    first_line = (folder / "a.jsonl").read_bytes().index(b"\n") + 1  # a span that ends where a line does
    for size in (first_line, 997, SPAN, 1 << 30):
        monkeypatch.setattr("atomiclm.data.text_files.SPAN_BYTES", size)
        spans = TextFiles(str(folder)).spans()
        assert [document.text for span in spans for document in span.documents()] == texts
        assert len(spans) > 2 or size > SPAN


def test_neither_workers_nor_spans_change_a_byte(rows, small_spans, tmp_path, stages, monkeypatch):
    folder, texts = rows
    assert len(TextFiles(str(folder)).spans()) >= 5
    kernels_from(1, monkeypatch)  # which count each span by itself
    tokenizer = BasicTokenizer(vocab_size=300)
    trained_alone = []
    learn = BasicTokenizer.train_from_iterator
    monkeypatch.setattr(
        BasicTokenizer, "train_from_iterator", lambda *arguments: (trained_alone.append(1), learn(*arguments))
    )
    alone, shared = (
        prepare(TextFiles(str(folder)), tokenizer, tmp_path / str(workers), workers=workers, progress=stages)
        for workers in (1, 2)
    )
    assert shared.manifest == alone.manifest
    assert shared.tokenizer.trained_on == alone.tokenizer.trained_on
    assert len(trained_alone) == 1
    monkeypatch.setattr("atomiclm.data.text_files.SPAN_BYTES", 1 << 30)
    whole = prepare(TextFiles(str(folder)), tokenizer, tmp_path / "whole")
    assert whole.manifest["files"] == alone.manifest["files"]
    for split in ("train", "validation"):
        assert whole.manifest[split] == alone.manifest[split]
    held_out = b"".join(text.encode() for text in texts if hash_number(text.encode()) < 0.1)
    assert hashlib.sha256(held_out).hexdigest() == alone.manifest["validation_sha256"]
    total = sum(len(text.encode()) for text in texts)
    assert [call[1:] for call in stages if call[0] == "encoding"][-1] == (total, total)
    assert not list((tmp_path / "1" / "spans").iterdir())


def test_a_fault_in_a_worker_is_raised_as_it_is(rows, small_spans, tmp_path):
    folder, _ = rows
    with (folder / "a.jsonl").open("a") as file:
        file.write('{"body": "no text"}\n')
    with pytest.raises(SourceError, match=r"a.jsonl line \d+ after byte [\d,]+ has no key 'text'") as raised:
        prepare(TextFiles(str(folder)), BasicTokenizer(vocab_size=300), tmp_path, workers=2)
    assert raised.value.argument == "text_key"


def report_every_byte(task, add):
    for _ in range(task):
        add(1)


def test_many_small_documents_are_reported_in_few_messages():
    reported = []
    with Workers(2) as workers:
        list(workers.spread(report_every_byte, [STEP_BYTES + 5, 7], reported.append))
    assert sorted(reported) == [5, 7, STEP_BYTES]


def die(task, add):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_reported_and_the_others_are_ended():
    with Workers(2) as workers, pytest.raises(UserError, match=r"runtime.data_workers: a worker died .* -9"):
        list(workers.spread(die, [1, 2, 3], print))
    assert all(process.returncode is not None for process in workers._processes.values())


# What is killed: it prepares with two workers, and prints the hashes when it gets that far.
CHILD = """
import json, sys
from pathlib import Path
import atomiclm.data.text_files
from atomiclm.data import TextFiles, prepare
from atomiclm.tokenizer import BasicTokenizer

atomiclm.data.text_files.SPAN_BYTES = int(sys.argv[3])
corpus = prepare(
    TextFiles(sys.argv[1]), BasicTokenizer(vocab_size=300), Path(sys.argv[2]), workers=2,
    progress=lambda *said: print(*said, flush=True),
)
print(json.dumps(corpus.manifest), flush=True)
"""


@pytest.mark.slow
def test_killed_at_ten_moments_the_shards_are_those_of_one_undisturbed_worker(rows, tmp_path):
    """Each kill comes when one shard more than before is there; what is there is not made again."""
    folder, _ = rows
    span = SPAN // 4
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(CHILD))
    command = [sys.executable, str(script), str(folder), str(tmp_path / "killed"), str(span)]

    def made():
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "killed" / "spans").glob("*/[!.]*/manifest.json")}

    kept = made()
    for kill in range(10):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(made()) < kill + 1 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"
        assert made().items() >= kept.items()
        kept = made()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    assert any(line.split(" shards are there from before")[0].split(" of ")[0].isdigit() for line in done)
    manifest = json.loads(done[-1])
    command = [sys.executable, str(script), str(folder), str(tmp_path / "undisturbed"), str(span)]
    script.write_text(textwrap.dedent(CHILD).replace("workers=2", "workers=1"))
    undisturbed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    assert json.loads(undisturbed[-1]) == manifest
    assert not list(Path(tmp_path / "killed" / "spans").glob("*"))
