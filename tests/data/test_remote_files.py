"""Text at addresses: the same documents, hash and shards as the same files here."""

import gzip
import json
import os
import socket
import subprocess
import sys
import uuid

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from atomiclm.data import SourceError, TextFiles, corpus_sha256, prepare
from atomiclm.tokenizer import BasicTokenizer


@pytest.fixture
def files(tmp_path):
    """A folder of every format."""
    folder = tmp_path / "corpus"
    (folder / "sub").mkdir(parents=True)

    def lines(*texts):
        return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()

    (folder / "a.jsonl").write_bytes(lines(*(f"row {number} ü" * number for number in range(1, 40))))
    pyarrow.parquet.write_table(
        pyarrow.table({"text": ["p one", "", "p two"] * 9}), folder / "b.parquet", row_group_size=5
    )
    (folder / "c.jsonl.zst").write_bytes(zstandard.compress(lines("z one", "z two")))
    (folder / "d.jsonl.gz").write_bytes(gzip.compress(lines("g one", "g two")))
    (folder / "sub" / "e.txt").write_text("plain\r\ntext", encoding="utf-8")
    (folder / "sub" / "picture.png").write_bytes(b"no")
    (folder / ".hidden.txt").write_text("no")
    return folder


@pytest.fixture
def memory(files):
    """The address of a copy of `files` in fsspec's memory."""
    system, root = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    system.put(f"{files}/", root, recursive=True)
    yield f"memory:/{root}"
    system.rm(root, recursive=True)


def texts(path):
    return [document.text for document in TextFiles(str(path)).documents()]


@pytest.mark.parametrize("span_bytes", [100, 1 << 30])
def test_a_remote_folder_is_the_local_one(files, memory, tmp_path, monkeypatch, span_bytes):
    monkeypatch.setattr("atomiclm.data.text_files.SPAN_BYTES", span_bytes)
    assert TextFiles(memory).faults() == []
    assert texts(memory) == texts(files) == texts(f"file://{files}")
    assert "plain\r\ntext" in texts(files)
    assert TextFiles(memory).describe().startswith(f"{memory} (5 files, ")
    tokenizer = BasicTokenizer(vocab_size=300)
    here, there = (prepare(TextFiles(str(path)), tokenizer, tmp_path / str(len(str(path)))) for path in (files, memory))
    assert there.manifest["files"] == here.manifest["files"]
    assert there.manifest["corpus_sha256"] == here.manifest["corpus_sha256"], "by content, not by address"


def test_a_file_and_a_glob_at_an_address(files, memory):
    assert texts(f"{memory}/c.jsonl.zst") == ["z one", "z two"]
    assert texts(f"{memory}/*.jsonl.*") == ["z one", "z two", "g one", "g two"]
    assert texts(f"{memory}/**/*.txt") == ["plain\r\ntext"]


def test_what_changes_at_an_address_is_another_corpus(memory, tmp_path):
    before = corpus_sha256(TextFiles(memory), tmp_path)
    with fsspec.open(f"{memory}/sub/e.txt", "w") as file:
        file.write("Plain\r\ntext")
    assert corpus_sha256(TextFiles(memory), tmp_path) != before


def test_a_damaged_remote_file_is_named(memory):
    with fsspec.open(f"{memory}/a.jsonl", "ab") as file:
        file.write(b"\n{\n")
    with pytest.raises(SourceError, match=r"a.jsonl line 41 is not JSON"):
        texts(memory)
    with fsspec.open(f"{memory}/x/b.parquet", "wb") as file:
        file.write(b"PAR1 not quite")
    with pytest.raises(SourceError, match=r"b.parquet is no readable Parquet file"):
        texts(f"{memory}/x/b.parquet")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("memory://nowhere/a.txt", "no file or folder at memory://nowhere/a.txt; correct data.path"),
        ("memory://nowhere/*.txt", "nothing readable in memory://nowhere/"),
        ("ftp://host/a.txt", "ftp:// is not read; give an address of s3, gs, hf, https, http, memory or file"),
    ],
)
def test_a_wrong_address_is_named(path, words):
    with pytest.raises(SourceError, match=words.replace("*", r"\*")) as raised:
        texts(path)
    assert raised.value.argument == "path"


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    [(argument, message)] = TextFiles("gs://bucket/a.txt").faults()
    assert argument == "path"
    assert "pip install gcsfs" in message


def test_no_network_says_what_to_do():
    pytest.importorskip("aiohttp", reason="https needs aiohttp")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/a.txt"
        with pytest.raises(
            SourceError, match=r"cannot be read \(\w+: .*; check the network.* or give the path of a copy"
        ):
            texts(address)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An object store on this machine, moto's, with a bucket `corpora`."""
    pytest.importorskip("s3fs", reason="s3:// needs s3fs")
    pytest.importorskip("moto", reason="the object store of these tests is moto's")
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ
    )
    address = server.stdout.readline().strip()
    for name, value in {
        "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.mkdir("corpora")
    yield system
    s3fs.S3FileSystem.clear_instance_cache()
    server.kill()
    server.communicate()


SERVER = """
import signal
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
print(f"http://{host}:{port}", flush=True)
signal.pause()
"""


@pytest.mark.slow
def test_an_object_store_by_several_workers(files, store, tmp_path, monkeypatch, stages):
    monkeypatch.setattr("atomiclm.data.text_files.SPAN_BYTES", 1000)
    monkeypatch.setattr("atomiclm.data.source.SETTLED_SECONDS", 0.0)
    store.put(f"{files}/", "corpora/mine", recursive=True)
    source, tokenizer = TextFiles("s3://corpora/mine"), BasicTokenizer(vocab_size=300)
    there = prepare(source, tokenizer, tmp_path / "there", workers=2)
    here = prepare(TextFiles(str(files)), tokenizer, tmp_path / "here")
    assert there.manifest["files"] == here.manifest["files"]
    assert there.manifest["corpus_sha256"] == here.manifest["corpus_sha256"]
    monkeypatch.setattr("atomiclm.data.source.survey", lambda *_: pytest.fail("the corpus was read again"))
    assert prepare(source, tokenizer, tmp_path / "there", progress=stages).manifest == there.manifest
    assert stages == []
    monkeypatch.undo()


@pytest.mark.slow
def test_faults_of_an_object_store_are_named(store, monkeypatch):
    with pytest.raises(SourceError, match=r"no file or folder at s3://corpora/nothing.jsonl; correct data.path"):
        texts("s3://corpora/nothing.jsonl")
    with pytest.raises(SourceError, match=r"s3://nobodys/a.jsonl"):
        texts("s3://nobodys/a.jsonl")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(SourceError, match=r"cannot be read .*check the network, the credentials \(AWS_PROFILE"):
        texts("s3://corpora/a.jsonl")
