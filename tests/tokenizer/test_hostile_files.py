"""Files that are no tokenizers: each is refused with one clear ValueError, soon, in little memory, and never run.

Every kind of file we read, damaged in every way we could think of, and then at random. "Clear" means: the message
begins with the file, names the field (or line), and says what to do.
"""

import base64
import copy
import functools
import json
import pickle
import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atomiclm.cli import UserError
from atomiclm.interop.tiktoken import from_ranks, ranks_of, read_ranks, write_ranks
from atomiclm.interop.tokenizer_json import read_tokenizer, tokenizer_json
from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer
from atomiclm.tokenizer.constants import MAX_FILE_BYTES
from atomiclm.tokenizer.tokenizer_state import sha256_of

MAX_MEBIBYTES = 400  # most of it for a file of 64 MiB, which is once bytes and once text


@functools.cache
def tokenizer() -> BasicTokenizer:
    ours = BasicTokenizer(300)
    ours.train("hug hugs hugging ungloved hands, the theme of then")
    return ours


def ours_json() -> dict[str, Any]:
    """The fields of a valid file of our own, without the signature."""
    content = tokenizer().state()
    return {
        "format": "atomiclm.tokenizer",
        "version": 2,
        "pattern": {"name": "gpt4", "text": content.pattern},
        "unicode": _unicode(),
        "tie_break": "bytes",
        "target_vocab_size": 300,
        "special_tokens": content.special_tokens,
        "whole_pretokens": False,
        "trained_on": None,
        "byte_ids": list(range(256)),
        "merges": [[left, right, 256 + rank] for rank, (left, right) in enumerate(content.merges)],
    }


def _unicode() -> dict[str, str]:
    from atomiclm.tokenizer.unicode_table import UNICODE_SHA256, UNICODE_VERSION

    return {"version": UNICODE_VERSION, "sha256": UNICODE_SHA256}


def signed(fields: dict[str, Any]) -> bytes:
    """As someone would write it who knows the format and computes the hash anew."""
    return json.dumps(fields | {"sha256": sha256_of(fields)}).encode()


def ours(**changes: Any) -> Callable[[], bytes]:
    return lambda: signed(ours_json() | changes)


def theirs(change: Callable[[dict[str, Any]], Any]) -> Callable[[], bytes]:
    def made() -> bytes:
        content = copy.deepcopy(tokenizer_json(tokenizer()))
        change(content)
        return json.dumps(content).encode()

    return made


def with_merge(row: Any, index: int = -1) -> Callable[[], bytes]:
    def made() -> bytes:
        fields = ours_json()
        fields["merges"][index] = row
        return signed(fields)

    return made


class Canary:
    """What runs when it is unpickled leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def ranks(*lines: bytes) -> bytes:
    whole = [b"%b %d" % (base64.b64encode(bytes([value])), value) for value in range(256)]
    return b"\n".join([*whole, *lines]) + b"\n"


def split_of(content: dict[str, Any]) -> dict[str, Any]:
    return content["pre_tokenizer"]["pretokenizers"][0]


def nested(depth: int) -> dict[str, Any]:
    inside: dict[str, Any] = {"type": "ByteLevel"}
    for _ in range(depth):
        inside = {"type": "Sequence", "processors": [inside]}
    return inside


@functools.cache
def valid() -> bytes:
    return ours()()


File = bytes | Callable[[], bytes]
"""What a file holds; the large and the trained ones are made by the test that wants them."""

GENERIC: dict[str, bytes] = {  # hostile whatever reads them
    "empty": b"",
    "nul": b"\x00" * 1000,
    "random": random.Random(0).randbytes(100_000),
    "deep-lists": b"[" * 1_000_000,
    "deep-objects": b'{"a":' * 1_000_000,
    "huge-number": b"9" * 1_000_000,
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "zip": b"PK\x03\x04" + bytes(100),
    "yaml-tag": b"!!python/object/apply:os.system ['touch canary']",
    "script": b"#!/bin/sh\ntouch canary\n",
    "python": b"__import__('os').system('touch canary')",
    "minbpe-model": b"minbpe v1\n\n1\n<|endoftext|> 300\n104 117\n256 103\n",
    "merges-txt": b"#version: 0.2\nh u\nhu g\n",
    "one-newline": b"\n",
    "a-number": b"3",
}

OURS: dict[str, tuple[File, str]] = {
    "truncated": (lambda: valid()[: len(valid()) // 2], "not JSON"),
    "key-twice": (lambda: valid()[:-1] + b', "version": 2}', "a key is written twice"),
    "bom": (lambda: b"\xef\xbb\xbf" + valid(), "BOM"),
    "utf-16": (lambda: valid().decode().encode("utf-16"), "utf-8"),
    "utf-32-be": (lambda: valid().decode().encode("utf-32-be"), "field 'format'|not JSON"),
    "latin-1": (lambda: valid().replace(b"endoftext", b"endoft\xe9xt"), "utf-8"),
    "nan": (lambda: valid().replace(b'"target_vocab_size": 300', b'"target_vocab_size": NaN'), "NaN"),
    "infinity": (lambda: valid().replace(b'"target_vocab_size": 300', b'"target_vocab_size": -Infinity'), "-Infinity"),
    "1e999": (
        lambda: valid().replace(b'"target_vocab_size": 300', b'"target_vocab_size": 1e999'),
        "'target_vocab_size'",
    ),
    "float-target": (ours(target_vocab_size=300.0), "'target_vocab_size'"),
    "huge-target": (ours(target_vocab_size=10**4000), "'target_vocab_size'"),
    "version-0": (ours(version=0), "'version'"),
    "version-1": (ours(version=1), "'version'"),
    "version-huge": (ours(version=10**4000), "'version'"),
    "version-list": (ours(version=[[]]), "'version'"),
    "other-format": (ours(format="minbpe"), "'format'"),
    "other-unicode": (ours(unicode={"version": "17.0.0", "sha256": "0" * 64}), "'unicode'"),
    "wrong-sha": (lambda: json.dumps(ours_json() | {"sha256": "0" * 64}).encode(), "'sha256'"),
    "no-sha": (lambda: json.dumps(ours_json()).encode(), "'sha256'"),
    "unsigned-change": (lambda: valid().replace(b'"bytes"', b'"huggingface"'), "'sha256'"),
    "unknown-field": (ours(run="touch canary"), "'run'"),
    "long-field": (ours(**{"x" * 1_000_000: 1}), "'xxx"),
    "pattern-bomb": (ours(pattern={"name": "custom", "text": "(?:(?:a{99}){99}){99}"}), "'pattern'"),
    "pattern-long": (ours(pattern={"name": "custom", "text": "a|" * 100_000 + "a"}), "'pattern'"),
    "pattern-deep": (ours(pattern={"name": "custom", "text": "(?:" * 1300 + ")" * 1300}), "'pattern'"),
    "pattern-capture": (ours(pattern={"name": "custom", "text": "(a)|b"}), "'pattern'"),
    "pattern-broken": (ours(pattern={"name": "custom", "text": "[z-a]"}), "'pattern'"),
    "pattern-posing": (ours(pattern={"name": "gpt4", "text": "a+"}), "'pattern'"),
    "merge-cycle": (with_merge([256, 256, 256], 0), "'merges[0]'"),
    "merge-forward": (with_merge([300, 104, 256], 0), "'merges[0]'"),
    "merge-negative": (with_merge([-1, 104, 256], 0), "'merges[0]'"),
    "merge-bool": (with_merge([True, 104, 256], 0), "'merges[0]'"),
    "merge-huge": (with_merge([10**4000, 104, 256], 0), "'merges[0]'"),
    "merge-nested": (with_merge([[[]], 104, 256], 0), "'merges[0]'"),
    "merge-text": (with_merge("104 117 256", 0), "'merges[0]'"),
    "merge-million": (ours(merges=[[]] * 1_000_000), "'merges[0]'"),
    "doubling": (
        ours(merges=[[0, 0, 256], *([i, i, i + 1] for i in range(256, 320))], special_tokens={}),
        "'merges[26]'",
    ),
    "growing": (
        # Each token is one byte longer than the one before: 30,000 lines, 450 MB.
        ours(merges=[[0, 0, 256], *([i, 0, i + 1] for i in range(256, 30_000))], special_tokens={}),
        "'merges[2",
    ),
    "special-surrogate": (ours(special_tokens={"\udc80": 299}), "'special_tokens'"),
    "special-empty": (ours(special_tokens={"": 299}), "'special_tokens'"),
    "special-taken": (ours(special_tokens={"x": 0}), "'special_tokens'"),
    "special-negative": (ours(special_tokens={"x": -1}), "'special_tokens'"),
    "special-far": (ours(special_tokens={"x": 1 << 40}), "'special_tokens'"),
    "special-many": (ours(special_tokens={f"<{i}>": 300 + i for i in range(100_000)}), "'special_tokens'"),
    "special-long": (ours(special_tokens={"x" * 10_000_000: 299}), "'special_tokens'"),
    "bytes-twice": (ours(byte_ids=[0] * 256), "'byte_ids[1]'"),
    "bytes-few": (ours(byte_ids=[]), "'byte_ids'"),
    "trained-on": (ours(trained_on={"bytes": "touch canary"}), "'trained_on'"),
    "a-tokenizer-json": (theirs(lambda content: None), "'format'"),
}

THEIRS: dict[str, tuple[File, str]] = {
    "truncated": (lambda: theirs(lambda content: None)()[:5000], "not JSON"),
    "key-twice": (lambda: theirs(lambda content: None)()[:-1] + b', "model": {}}', "a key is written twice"),
    "ours": (valid, "'model.type'"),
    "list": (b"[1, 2]", "'model.type'"),
    "null-model": (theirs(lambda content: content.update(model=None)), "'model.type'"),
    "model-list": (theirs(lambda content: content.update(model=["BPE"])), "'model.type'"),
    "no-vocab": (theirs(lambda content: content["model"].pop("vocab")), "'model.vocab'"),
    "vocab-list": (theirs(lambda content: content["model"].update(vocab=[])), "'model.vocab'"),
    "vocab-nan": (theirs(lambda content: content["model"]["vocab"].update({"!": float("nan")})), "NaN"),
    "vocab-huge": (theirs(lambda content: content["model"]["vocab"].update({"!": 10**4000})), "'model.vocab'"),
    "vocab-surrogate": (theirs(lambda content: content["model"]["vocab"].update({"\ud800": 9999})), "'model.vocab'"),
    "no-merges": (theirs(lambda content: content["model"].pop("merges")), "'model.merges'"),
    "merges-object": (theirs(lambda content: content["model"].update(merges={"a": "b"})), "'model.merges'"),
    "merges-long": (theirs(lambda content: content["model"]["merges"].append("a" * 1_000_000)), "'model.merges["),
    "merges-empty": (theirs(lambda content: content["model"]["merges"].append([])), "'model.merges["),
    "merges-nothing": (theirs(lambda content: content["model"]["merges"].append(["", ""])), "'model.merges["),
    "merges-lists": (theirs(lambda content: content["model"]["merges"].append([["h"], "u"])), "'model.merges["),
    "merges-again": (theirs(lambda content: content["model"]["merges"].append(["h", "u"])), "'model.merges'"),
    "pre-tokenizers": (
        theirs(lambda content: content.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [None, 3]})),
        "'pre_tokenizer'",
    ),
    "pattern-deep": (
        theirs(lambda content: split_of(content).update(pattern={"Regex": "(?:" * 1300 + "a" + ")" * 1300})),
        "'pre_tokenizer'",
    ),
    "pattern-slow": (
        theirs(lambda content: split_of(content).update(pattern={"Regex": "(?:" * 1300})),
        "'pre_tokenizer'",
    ),
    "type-object": (theirs(lambda content: content.update(decoder={"type": {"type": "ByteLevel"}})), "'decoder'"),
    "post-deep": (theirs(lambda content: content.update(post_processor=nested(200))), "'post_processor'"),
    "added-object": (theirs(lambda content: content.update(added_tokens={"a": 1})), "'added_tokens'"),
    "added-bool": (theirs(lambda content: content["added_tokens"][0].update(id=True)), "'added_tokens'"),
    "added-number": (theirs(lambda content: content["added_tokens"][0].update(content=3)), "'added_tokens'"),
}

RANKS: dict[str, tuple[File, str]] = {
    "no-base64": (ranks(b"a$b= 256"), "line 257"),
    "loose-base64": (ranks(b"YWJ= 256"), "line 257"),  # bits after the end: not how "ab" is written
    "no-padding": (ranks(b"YWI 256"), "line 257"),
    "empty-token": (ranks(b" 256"), "line 257"),
    "negative": (ranks(b"YWI= -1"), "line 257"),
    "float": (ranks(b"YWI= 1.5"), "line 257"),
    "arabic-digits": (ranks("YWI= \u0662".encode()), "line 257"),
    "huge-rank": (ranks(b"YWI= " + b"9" * 1_000_000), "line 257"),
    "large-rank": (ranks(b"YWI= 4194304"), "line 257"),
    "three-words": (ranks(b"YWI= 256 257"), "line 257"),
    "tab": (ranks(b"YWI=\t256"), "line 257"),
    "crlf": (ranks(b"YWI= 256\r"), "line 257"),
    "token-twice": (ranks(b"YWI= 256", b"YWI= 257"), "line 258"),
    "rank-twice": (ranks(b"YWI= 255"), "line 257"),
    "truncated": (ranks(b"YWI= 256")[:-40] + b"YW", "line 25"),
    "utf-16": (ranks().decode().encode("utf-16"), "line 1"),
    "bom": (b"\xef\xbb\xbf" + ranks(), "line 1"),
    "json": (valid, "line 1"),
}


READERS: dict[str, Callable[[Path], object]] = {
    "ours": BasicTokenizer.load,
    "huggingface": read_tokenizer,
    "ranks": read_ranks,
}


def cases() -> Iterator[Any]:
    for reader in READERS:
        for name, data in GENERIC.items():
            yield pytest.param(reader, data, "", id=f"{reader}-{name}")
    for reader, files in zip(READERS, (OURS, THEIRS, RANKS), strict=True):
        for name, (data, named) in files.items():
            yield pytest.param(reader, data, named, id=f"{reader}-{name}")


@pytest.fixture(autouse=True)
def nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "canary").exists()


def refused(reader: str, path: Path) -> str:
    """The message of the one error; it must come with little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            READERS[reader](path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MAX_MEBIBYTES << 20
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "; " in message
    assert len(message) < 1000
    return message


@pytest.mark.one_in(5)
@pytest.mark.parametrize(("reader", "data", "named"), list(cases()))
def test_each_is_refused(reader: str, data: File, named: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data() if callable(data) else data)
    message = refused(reader, path)
    assert any(part in message for part in named.split("|"))


def test_there_are_many_of_them() -> None:
    assert len(list(cases())) >= 100


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_not_opened(reader: str, protocol: int, tmp_path: Path) -> None:
    data = pickle.dumps(Canary(tmp_path / "canary"), protocol)
    (tmp_path / "file").write_bytes(data)
    refused(reader, tmp_path / "file")
    pickle.loads(data)  # the canary would have sung
    assert (tmp_path / "canary").exists()
    (tmp_path / "canary").unlink()


@pytest.mark.parametrize("reader", READERS)
def test_too_large_a_file_is_not_read_to_its_end(reader: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(70 << 20)
    assert f"more than {MAX_FILE_BYTES:,} bytes" in refused(reader, path)


@pytest.mark.parametrize("reader", READERS)
def test_what_cannot_be_read_is_an_os_error(reader: str, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", tmp_path / "file" / "below"):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match=path.name):
            READERS[reader](path)


# ------------------------------------------------------------------------------------------------------- at random


def error_of(read: Callable[[], object]) -> tuple[object, str]:
    """What a reader returns, and the message of its UserError; no other error is let through."""
    try:
        return read(), ""
    except ValueError as error:
        return type(error), str(error)


def survives(reader: str, path: Path) -> None:
    """Reading gives a tokenizer that works or one UserError that names the file; nothing else can come out."""
    read, message = error_of(lambda: READERS[reader](path))
    if isinstance(read, dict):
        found = dict(read)
        read, message = error_of(lambda: from_ranks(found, "gpt4", {END_OF_TEXT: 5000}))
    if message:
        assert read is UserError
        assert message.startswith((f"{path}: ", "ranks: "))
        return
    assert isinstance(read, BasicTokenizer)
    for text in ("hug the hands, then 123", "\r\n  \U0001f600é\u3000"):
        assert read.decode_bytes(read.encode(text)) == text.encode()


QUIET = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
FILES: dict[str, Callable[[], bytes]] = {"ours": valid, "huggingface": theirs(lambda content: None)}


def file_of(reader: str, tmp_path: Path) -> bytes:
    if reader != "ranks":
        return FILES[reader]()
    write_ranks(ranks_of(tokenizer()), tmp_path / "valid")
    return (tmp_path / "valid").read_bytes()


@pytest.mark.one_in(3)
@pytest.mark.parametrize("reader", READERS)
@given(data=st.data())
@QUIET
def test_bytes_changed_at_random(reader: str, data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(file_of(reader, tmp_path))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["flip", "delete", "insert", "cut", "swap"])):
            case "flip":
                content[place] ^= 1 << data.draw(st.integers(0, 7))
            case "delete":
                del content[place : place + data.draw(st.integers(1, 50))]
            case "insert":
                content[place:place] = data.draw(
                    st.binary(max_size=8) | st.sampled_from([b"[", b'"', b"{", b"-", b"9"])
                )
            case "cut":
                del content[place:]
            case "swap":
                other = data.draw(st.integers(0, len(content) - 1))
                content[place], content[other] = content[other], content[place]
        if not content:
            break
    (tmp_path / "file").write_bytes(content)
    survives(reader, tmp_path / "file")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.integers(-2, 400),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=5,
)


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["ours", "huggingface"])
@given(data=st.data())
@QUIET
def test_values_changed_at_random(reader: str, data: st.DataObject, tmp_path: Path) -> None:
    """A value somewhere in the tree becomes another, or goes away; our own file is then signed again."""
    tree = json.loads(FILES[reader]())
    for _ in range(data.draw(st.integers(1, 3))):
        node: Any = tree
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(node[key], dict | list) and data.draw(st.integers(0, 3)):
                node = node[key]
                continue
            if data.draw(st.booleans()):
                del node[key]
            else:
                node[key] = data.draw(JSON)
            break
    if reader == "ours":
        tree.pop("sha256", None)
        tree["sha256"] = sha256_of(tree)
    (tmp_path / "file").write_text(json.dumps(tree))
    survives(reader, tmp_path / "file")
