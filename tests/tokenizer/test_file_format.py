"""The file: readable, complete, written at once, and nothing else passes for one."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atomiclm.tokenizer import END_OF_TEXT, PATTERNS, BasicTokenizer
from atomiclm.tokenizer.constants import MAX_VOCAB_SIZE
from atomiclm.tokenizer.tokenizer_state import TokenizerState, sha256_of
from atomiclm.tokenizer.unicode_table import UNICODE_SHA256

Fields = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A saved tokenizer with the merges (h, u) (256, g) ( , 257) (258, s)."""
    tokenizer = BasicTokenizer(300)
    tokenizer.train("hug hugs")
    tokenizer.save(tmp_path / "tokenizer.json")
    return tmp_path / "tokenizer.json"


def test_the_file_says_everything(path: Path) -> None:
    fields = json.loads(path.read_text())
    assert fields.pop("sha256") == sha256_of(fields)
    assert fields == {
        "format": "atomiclm.tokenizer",
        "version": 2,
        "pattern": {"name": "gpt4", "text": PATTERNS["gpt4"]},
        "unicode": {"version": "16.0.0", "sha256": UNICODE_SHA256},
        "tie_break": "bytes",
        "target_vocab_size": 300,
        "special_tokens": {END_OF_TEXT: 260},
        "whole_pretokens": False,
        "trained_on": {"bytes": 8, "pretokens": 2, "distinct_pretokens": 2},
        "byte_ids": list(range(256)),
        "merges": [[104, 117, 256], [256, 103, 257], [32, 257, 258], [258, 115, 259]],
    }
    assert "    [104, 117, 256],\n" in path.read_text()  # one line a merge


@pytest.mark.parametrize("arguments", [{}, {"vocab_size": 256, "special_tokens": ()}, {"pattern": "a+|\\s*é"}])
def test_untrained_and_custom_tokenizers_survive(tmp_path: Path, arguments: dict) -> None:
    tokenizer = BasicTokenizer(**arguments)
    tokenizer.save(tmp_path / "t.json")
    loaded = BasicTokenizer.load(tmp_path / "t.json")
    assert (loaded.digest(), loaded.settings()) == (tokenizer.digest(), tokenizer.settings())
    assert loaded.pattern == tokenizer.pattern


def test_order_of_special_tokens_survives(tmp_path: Path) -> None:
    tokenizer = BasicTokenizer(300, special_tokens=("z", "<é>", 'a\n"\\'))
    tokenizer.save(tmp_path / "t.json")
    assert list(BasicTokenizer.load(tmp_path / "t.json").special_tokens.items()) == [
        ("z", 256),
        ("<é>", 257),
        ('a\n"\\', 258),
    ]


def test_ids_of_another_tokenizer_survive(path: Path) -> None:
    """Special tokens first, bytes backwards, gaps, merges in no order of their ids."""
    content = TokenizerState(
        pattern=PATTERNS["gpt2"],
        target_vocab_size=1001,
        special_tokens={"<b>": 1000, "<a>": 0},
        merges=[(104, 117), (256, 103), (32, 257)],
        byte_ids=tuple(range(900, 644, -1)),
        merge_ids=(7, 3, 950),
        tie_break=None,
        whole_pretokens=True,
        trained_on=None,
    )
    BasicTokenizer.from_state(content).save(path)
    assert "    [796, 783, 7],\n    [7, 797, 3],\n    [868, 3, 950]\n" in path.read_text()
    loaded = BasicTokenizer.load(path)
    assert loaded.state() == content
    assert loaded.vocab_size == 1001
    assert list(loaded.special_tokens.items()) == [("<a>", 0), ("<b>", 1000)]
    assert loaded.encode("hug hug<b>", allowed_special="all") == [3, 950, 1000]
    assert loaded.decode([950, 0, 796]) == " hug<a>h"
    for unknown in (1, 949, 999):
        with pytest.raises(ValueError, match=str(unknown)):
            loaded.decode([unknown])


def test_a_content_that_breaks_a_rule_cannot_be_made(path: Path) -> None:
    content = BasicTokenizer.load(path).state()
    for change, field in [
        ({"merge_ids": (256, 257, 258)}, "merges"),
        ({"byte_ids": tuple(range(255))}, "byte_ids"),
        ({"merges": [(0, 256), *content.merges[1:]]}, r"merges\[0\]"),
        ({"merges": [(-1, 5), *content.merges[1:]]}, r"merges\[0\]"),
        ({"pattern": "gpt4"}, "pattern"),
        ({"special_tokens": {END_OF_TEXT: True}}, "special_tokens"),
        ({"whole_pretokens": 1}, "whole_pretokens"),
    ]:
        with pytest.raises(ValueError, match=f"^field '{field}'"):
            dataclasses.replace(content, **change)


def test_two_tokens_of_the_same_bytes_cannot_be_looked_up_whole(path: Path) -> None:
    content = BasicTokenizer.load(path).state()
    twice = {"merges": [(97, 98), (98, 99), (256, 99), (97, 257)]}
    assert dataclasses.replace(content, **twice).whole_pretokens is False
    with pytest.raises(ValueError, match=r"merges\[2\] and merges\[3\] make the same bytes"):
        dataclasses.replace(content, whole_pretokens=True, **twice)


def test_a_failed_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    tokenizer = BasicTokenizer(300)

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        tokenizer.save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]  # and nothing beside it


def test_saving_over_a_file_replaces_it(path: Path) -> None:
    BasicTokenizer(300).save(path)
    assert BasicTokenizer.load(path).merges == []
    assert list(path.parent.iterdir()) == [path]


# Each change breaks one rule; the file is signed again afterwards, so that only that rule can catch it.
def set_field(key: str, value: object) -> Callable[[Fields], None]:
    return lambda fields: fields.__setitem__(key, value)


def set_merge(index: int, value: object) -> Callable[[Fields], None]:
    return lambda fields: fields["merges"].__setitem__(index, value)


CHANGES: list[tuple[str, Callable[[Fields], Any], str]] = [
    ("format", set_field("format", "other"), "format"),
    ("version-type", set_field("version", "1"), "version"),
    ("version-bool", set_field("version", True), "version"),
    ("version-newer", set_field("version", 3), "version"),
    ("version-older", set_field("version", 1), "version"),
    ("missing", lambda fields: fields.pop("merges"), "merges"),
    ("unknown", set_field("extra", 1), "extra"),
    ("pattern-type", set_field("pattern", "gpt4"), "pattern"),
    ("pattern-keys", set_field("pattern", {"name": "gpt4"}), "pattern"),
    ("pattern-text-type", set_field("pattern", {"name": "gpt4", "text": 3}), "pattern"),
    ("pattern-name", set_field("pattern", {"name": "gpt2", "text": PATTERNS["gpt4"]}), "pattern"),
    ("pattern-text-is-a-name", set_field("pattern", {"name": "gpt4", "text": "gpt4"}), "pattern"),
    ("pattern-does-not-compile", set_field("pattern", {"name": "custom", "text": "["}), "pattern"),
    ("pattern-bomb", set_field("pattern", {"name": "custom", "text": "(?:a{9999}){9999}"}), "pattern"),
    ("merges-type", set_field("merges", {}), "merges"),
    ("merge-type", set_merge(0, "hu"), "merges[0]"),
    ("merge-length", set_merge(0, [104, 117]), "merges[0]"),
    ("merge-float", set_merge(0, [104.0, 117, 256]), "merges[0]"),
    ("merge-bool", set_merge(0, [True, 117, 256]), "merges[0]"),
    ("merge-id", set_merge(1, [256, 103, 259]), "merges[3]"),
    ("merge-id-of-a-byte", set_merge(1, [256, 103, 65]), "merges[1]"),
    ("merge-id-of-the-last-byte", set_merge(3, [258, 115, 65]), "merges[3]"),
    ("merge-id-negative", set_merge(3, [258, 115, -1]), "merges[3]"),
    ("merge-id-huge", set_merge(3, [258, 115, MAX_VOCAB_SIZE]), "merges[3]"),
    ("merge-itself", set_merge(1, [257, 103, 257]), "merges[1]"),
    ("merge-later", set_merge(1, [256, 258, 257]), "merges[1]"),
    ("merge-negative", set_merge(1, [-1, 103, 257]), "merges[1]"),
    ("merge-twice", set_merge(1, [104, 117, 257]), "merges[1]"),
    ("merge-missing", lambda fields: fields["merges"].pop(1), "merges[1]"),
    (
        "merge-bomb",
        lambda fields: fields.update(
            merges=[[255 + i if i else 0, 255 + i if i else 0, 256 + i] for i in range(60)], special_tokens={}
        ),
        "merges[26]",
    ),
    ("special-type", set_field("special_tokens", [END_OF_TEXT]), "special_tokens"),
    ("special-id-taken", set_field("special_tokens", {END_OF_TEXT: 259}), "special_tokens"),
    ("special-id-twice", set_field("special_tokens", {"a": 260, "b": 260}), "special_tokens"),
    ("special-id-type", set_field("special_tokens", {END_OF_TEXT: "260"}), "special_tokens"),
    ("special-id-bool", set_field("special_tokens", {END_OF_TEXT: True}), "special_tokens"),
    ("special-id-negative", set_field("special_tokens", {END_OF_TEXT: -1}), "special_tokens"),
    ("special-id-huge", set_field("special_tokens", {END_OF_TEXT: MAX_VOCAB_SIZE}), "special_tokens"),
    ("special-many", set_field("special_tokens", {f"<{i}>": 300 + i for i in range(20_000)}), "special_tokens"),
    ("special-long", set_field("special_tokens", {"x" * 2_000_000: 260}), "special_tokens"),
    ("special-empty", set_field("special_tokens", {"": 260}), "special_tokens"),
    ("special-surrogate", set_field("special_tokens", {"\ud800": 260}), "special_tokens"),
    ("target-type", set_field("target_vocab_size", "300"), "target_vocab_size"),
    ("target-too-small", set_field("target_vocab_size", 260), "target_vocab_size"),
    ("target-bool", set_field("target_vocab_size", True), "target_vocab_size"),
    ("target-huge", set_field("target_vocab_size", 1 << 63), "target_vocab_size"),
    ("bytes-type", set_field("byte_ids", {}), "byte_ids"),
    ("bytes-missing", set_field("byte_ids", list(range(255))), "byte_ids"),
    ("bytes-float", set_field("byte_ids", [0.0, *range(1, 256)]), "byte_ids[0]"),
    ("bytes-bool", set_field("byte_ids", [False, *range(1, 256)]), "byte_ids[0]"),
    ("bytes-twice", set_field("byte_ids", [1, *range(1, 256)]), "byte_ids[1]"),
    ("bytes-negative", set_field("byte_ids", [-1, *range(1, 256)]), "byte_ids[0]"),
    ("unicode-type", set_field("unicode", "16.0.0"), "unicode"),
    ("unicode-keys", set_field("unicode", {"version": "16.0.0"}), "unicode"),
    ("unicode-number", set_field("unicode", {"version": 16, "sha256": UNICODE_SHA256}), "unicode"),
    ("unicode-other", set_field("unicode", {"version": "15.1.0", "sha256": "0" * 64}), "unicode"),
    ("unicode-hash", set_field("unicode", {"version": "16.0.0", "sha256": "0" * 64}), "unicode"),
    ("tie-break", set_field("tie_break", "alphabetic"), "tie_break"),
    ("tie-break-type", set_field("tie_break", ["bytes"]), "tie_break"),
    ("whole-type", set_field("whole_pretokens", 0), "whole_pretokens"),
    ("whole-null", set_field("whole_pretokens", None), "whole_pretokens"),
    ("trained-type", set_field("trained_on", "text"), "trained_on"),
    ("trained-keys", set_field("trained_on", {"bytes": 1}), "trained_on"),
    ("trained-negative", set_field("trained_on", {"bytes": -1, "pretokens": 0, "distinct_pretokens": 0}), "trained_on"),
    ("trained-bool", set_field("trained_on", {"bytes": True, "pretokens": 0, "distinct_pretokens": 0}), "trained_on"),
]


@pytest.mark.parametrize(("change", "field"), [change[1:] for change in CHANGES], ids=[change[0] for change in CHANGES])
def test_each_rule_is_checked(path: Path, change: Callable[[Fields], Any], field: str) -> None:
    fields = json.loads(path.read_text())
    del fields["sha256"]
    change(fields)
    fields["sha256"] = sha256_of(fields)
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: field '{re.escape(field)}': "):
        BasicTokenizer.load(path)


def test_a_refused_version_or_table_says_what_differs(path: Path) -> None:
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"version": 1}))
    with pytest.raises(
        ValueError, match=r"must be 2, is 1 .*did not say by which Unicode table.*train the tokenizer again"
    ):
        BasicTokenizer.load(path)
    path.write_text(json.dumps(fields | {"unicode": {"version": "15.1.0", "sha256": "0123456789abcdef"}}))
    with pytest.raises(
        ValueError,
        match=rf"Unicode 15\.1\.0 \(table 0123456789ab\), here it is 16\.0\.0 \(table {UNICODE_SHA256:.12}\)",
    ):
        BasicTokenizer.load(path)


@pytest.mark.parametrize("signature", ["0" * 64, None, 3])
def test_content_that_does_not_fit_its_hash_is_refused(path: Path, signature: object) -> None:
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"sha256": signature}))
    with pytest.raises(ValueError, match=r"field 'sha256': does not fit"):
        BasicTokenizer.load(path)


def test_one_changed_merge_is_noticed(path: Path) -> None:
    path.write_text(path.read_text().replace("[258, 115, 259]", "[258, 116, 259]"))
    with pytest.raises(ValueError, match="sha256"):
        BasicTokenizer.load(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x81",
        b"{",
        b"[" * 100_000,
        b'{"a": 1, "a": 2}',
        b"9" * 5000,
        b'{"format": "atomiclm.tokenizer"',
        b"NaN",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        "{}".encode("utf-16-le"),
        "{}".encode("utf-32"),
    ],
    ids=[
        "empty",
        "binary",
        "cut",
        "deep",
        "key-twice",
        "huge-number",
        "cut-later",
        "nan",
        "bom",
        "utf-16",
        "utf-16-le",
        "utf-32",
    ],
)
def test_what_is_not_json_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"t\.json: (not JSON|nested too deep)"):
        BasicTokenizer.load(tmp_path / "t.json")


@pytest.mark.parametrize("data", [b"[]", b"null", b'"text"', b"{}"])
def test_json_that_is_no_tokenizer_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"t\.json: field 'format'"):
        BasicTokenizer.load(tmp_path / "t.json")


def test_files_that_are_too_large_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atomiclm.tokenizer.tokenizer_state.MAX_FILE_BYTES", path.stat().st_size)
    BasicTokenizer.load(path)
    monkeypatch.setattr("atomiclm.tokenizer.tokenizer_state.MAX_FILE_BYTES", path.stat().st_size - 1)
    with pytest.raises(ValueError, match="more than"):
        BasicTokenizer.load(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        BasicTokenizer.load(tmp_path / "none.json")
