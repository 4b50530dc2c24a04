"""Files as people have them: compressed, with CRLF, with byte order marks, broken."""

import gzip
import json
import re

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from atomiclm.data import SourceError, TextFiles

TEXT = "Zwölf Boxkämpfer jagen\nViktor über den Sylter Deich.\n"


def texts(path, **settings):
    return [document.text for document in TextFiles(str(path), **settings).documents()]


def only_fault(path, **settings):
    """The single fault; the pass over the documents must find the same one."""
    source = TextFiles(str(path), **settings)
    [(argument, message)] = source.faults()
    with pytest.raises(SourceError) as raised:
        list(source.documents())
    assert (raised.value.argument, raised.value.message) == (argument, message)
    return argument, message


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.py", "A.TXT", "README", "v1.2.txt"])
def test_a_text_file_is_one_document(tmp_path, name):
    (tmp_path / name).write_bytes(TEXT.encode())
    assert TextFiles(str(tmp_path / name)).faults() == []
    assert texts(tmp_path / name) == [TEXT]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.txt.gz", gzip.compress),
        ("a.txt.zst", zstandard.compress),
        ("a.gz", gzip.compress),
        ("two.txt.gz", lambda raw: gzip.compress(raw[:7]) + gzip.compress(raw[7:])),
        ("two.txt.zst", lambda raw: zstandard.compress(raw[:7]) + zstandard.compress(raw[7:])),
    ],
)
def test_compressed_text_reads_as_the_text(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(TEXT.encode()))
    assert texts(tmp_path / name) == [TEXT]


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".zst", zstandard.compress)])
def test_each_line_of_jsonl_is_a_document(tmp_path, suffix, pack):
    path = tmp_path / f"rows.jsonl{suffix}"
    path.write_bytes(
        pack(jsonl({"text": "one\ntwo"}, {"text": ""}, {"n": 1, "text": "drei ü"}) + b'\r\n{"text": "end"}')
    )
    assert TextFiles(str(path)).faults() == []
    documents = list(TextFiles(str(path)).documents())
    assert [document.text for document in documents] == ["one\ntwo", "drei ü", "end"]
    assert [document.name for document in documents] == [f"{path}:{line}" for line in (1, 3, 5)], (
        "as messages name them"
    )


def test_jsonl_lines_may_lie_across_the_pieces_a_file_is_read_in(tmp_path, monkeypatch):
    monkeypatch.setattr("atomiclm.data.file_formats.CHUNK_BYTES", 5)
    (tmp_path / "rows.jsonl").write_bytes(jsonl({"text": TEXT}, {"text": "b"}))
    assert texts(tmp_path / "rows.jsonl") == [TEXT, "b"]


@pytest.mark.parametrize(
    "kind", [pyarrow.string(), pyarrow.large_string(), pyarrow.dictionary(pyarrow.int32(), "string")]
)
def test_each_row_of_parquet_is_a_document(tmp_path, kind):
    column = pyarrow.array(["one", "", TEXT], type=pyarrow.string()).cast(kind)
    table = pyarrow.table({"id": [1, 2, 3], "content": column})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=2)
    assert TextFiles(str(tmp_path / "rows.parquet"), text_key="content").faults() == []
    assert texts(tmp_path / "rows.parquet", text_key="content") == ["one", TEXT]


def test_line_ends_stay_as_they_are(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\rthree\n")
    assert texts(tmp_path / "a.txt") == ["one\r\ntwo\rthree\n"]


def test_a_byte_order_mark_goes_only_at_the_start(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\xef\xbb\xbftwo")
    assert texts(tmp_path / "a.txt") == ["one\ufefftwo"]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + jsonl({"text": "one"}))
    assert texts(tmp_path / "a.jsonl") == ["one"]


def test_a_folder_is_read_in_the_order_of_names_without_hidden_and_foreign_files(tmp_path):
    for name, text in [
        ("b/z.txt", "2"),
        ("b/a/x.py", "1"),
        ("c.md", "3"),
        (".hidden.txt", "no"),
        (".git/x.txt", "no"),
        ("picture.png", "no"),
        ("Makefile", "no"),
        ("table.csv", "no"),
        ("empty.txt", ""),
        ("only_mark.txt", "\ufeff"),
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    source = TextFiles(str(tmp_path))
    assert source.faults() == []
    assert [document.text for document in source.documents()] == ["1", "2", "3"]
    assert source.left_out == 2


def test_a_glob_takes_what_matches(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("a.txt", "b.md", "deep/c.txt", "deep/er/d.txt"):
        (tmp_path / name).write_text(name)
    assert texts(tmp_path / "*.txt") == ["a.txt"]
    assert texts(tmp_path / "**/*.txt") == ["a.txt", "deep/c.txt", "deep/er/d.txt"]
    assert texts(tmp_path / "deep/**") == ["deep/c.txt", "deep/er/d.txt"]
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "deep" / ".hidden.txt").write_text("no")
    assert texts(tmp_path / "*" / "*.txt") == ["deep/c.txt"]
    assert texts(tmp_path / "**/*.txt") == ["a.txt", "deep/c.txt", "deep/er/d.txt"]
    assert "'**' can only be an entire path component" in only_fault(tmp_path / "**.txt")[1]


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "folder" / "a.txt").symlink_to(tmp_path / "secret.txt")
    assert "a.txt is a link that leads out of" in only_fault(tmp_path / "folder")[1]
    assert "a.txt is a link that leads out of" in only_fault(tmp_path / "folder" / "*.txt")[1]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    (tmp_path / "part[1].txt").write_text("brackets")
    (tmp_path / "part1.txt").write_text("no")
    assert texts(tmp_path / "part[1].txt") == ["brackets"]


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("home")
    assert texts("~/a.txt") == ["home"]


def test_latin1_is_refused_with_file_offset_and_remedy(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x" * 10 + "é".encode("latin-1") + b"y")
    argument, message = only_fault(tmp_path / "a.txt")
    assert argument == "path"
    assert "a.txt is not UTF-8: byte 0xe9 at byte offset 10" in message
    assert "iconv" in message


def test_offsets_count_the_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfab\xff")
    assert "byte offset 5" in only_fault(tmp_path / "a.txt")[1]
    (tmp_path / "a.jsonl").write_bytes(b'\n{"text": "\xff"}\n')
    assert "line 2 is not UTF-8: byte 0xff at byte offset 10" in only_fault(tmp_path / "a.jsonl")[1]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_an_encoding_with_a_mark_is_called_by_its_name(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes(TEXT.encode(encoding))
    message = only_fault(tmp_path / "a.txt")[1]
    assert f"byte order mark of {encoding.upper()}; convert it, e.g. iconv -f {encoding.upper()} -t UTF-8" in message


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", [TEXT, "Съешь ещё этих мягких французских булок, да выпей чаю.\n"])
def test_wide_text_without_a_mark_is_never_taken_for_utf8(tmp_path, encoding, text):
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert re.search(
        "is not UTF-8: byte|characters are NUL; if it is UTF-16, convert", only_fault(tmp_path / "a.txt")[1]
    )


def test_text_full_of_nuls_is_refused_and_a_stray_one_is_not(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\0\0the\0 end" * 30 + b"\0")
    assert "is not text: 91 of its 301 characters are NUL" in only_fault(tmp_path / "a.txt")[1]
    (tmp_path / "c.txt").write_bytes(b"x" * 99 + b"\0")
    assert len(texts(tmp_path / "c.txt")[0]) == 100
    (tmp_path / "b.jsonl").write_bytes(jsonl({"text": "ab"}) + b"\0" * 20)
    assert "line 2 is not text: 20 of its 20 characters are NUL" in only_fault_of_all(tmp_path / "b.jsonl")


def only_fault_of_all(path):
    """What a pass over all documents finds, beyond the quick look."""
    with pytest.raises(SourceError) as raised:
        list(TextFiles(str(path)).documents())
    return raised.value.message


def test_jsonl_files_with_marks_may_be_joined(tmp_path):
    marked = b"\xef\xbb\xbf" + jsonl({"text": "one"}, {"text": "two"})
    (tmp_path / "a.jsonl").write_bytes(marked + marked + b"\xef\xbb\xbf\n")
    assert texts(tmp_path / "a.jsonl") == ["one", "two", "one", "two"]


@pytest.mark.parametrize(
    ("column", "kind"), [([1, 2], "int"), ([b"one"], "bytes"), (pyarrow.nulls(2), "NoneType"), ([["a"]], "list")]
)
def test_a_column_that_is_not_text_is_named(tmp_path, column, kind):
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "a.parquet")
    argument, message = only_fault(tmp_path / "a.parquet")
    assert argument == "text_key"
    assert f"row 1: 'text' holds {kind}, not text" in message


@pytest.mark.parametrize(
    ("name", "content", "argument", "words"),
    [
        ("a.txt", b"", "path", "is empty"),
        ("a.txt", b"\xef\xbb\xbf", "path", "is empty"),
        ("a.jsonl", b"\n", "path", "is empty"),
        ("a.gz", b"", "path", "is empty"),
        ("a.json", b"{}", "path", "do not know how to read a .json file"),
        ("a.tar.gz", b"", "path", "do not know how to read a .tar.gz file"),
        ("a.parquet.zst", b"", "path", "do not know how to read a .parquet.zst file"),
        ("a.gz.gz", b"", "path", "do not know how to read a .gz.gz file"),
        ("a.txt.gz", b"plain", "path", "damaged or cut off"),
        ("a.txt.gz", gzip.compress(TEXT.encode(), mtime=0)[:-9], "path", "damaged or cut off"),
        ("a.txt.zst", b"plain", "path", "damaged"),
        ("a.txt.zst", zstandard.compress(TEXT.encode())[:-3], "path", "damaged or cut off"),
        ("a.parquet", b"PAR1 not quite", "path", "Parquet"),
        (
            "a.jsonl",
            b"{'text': 1}\n",
            "path",
            "line 1 is not JSON (Expecting property name enclosed in double quotes)",
        ),
        ("a.jsonl", b'\n["text"]\n', "path", "line 2 is not a JSON object"),
        ("a.jsonl", b'{"body": "x", "id": 1}\n', "text_key", "has no key 'text'; its keys: ['body', 'id']"),
        ("a.jsonl", b'{"text": null}\n', "text_key", "'text' holds NoneType, not text"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, argument, words):
    (tmp_path / name).write_bytes(content)
    found = only_fault(tmp_path / name)
    assert found[0] == argument
    assert words in found[1]


@pytest.mark.parametrize("kind", ["digits", "brackets"])
def test_json_beyond_what_python_parses_is_refused(tmp_path, kind):
    value = {"digits": "9" * 5000, "brackets": "[" * 100_000}[kind]
    (tmp_path / "a.jsonl").write_text('{"text": "a", "more": ' + value + "}")
    assert "line 1 is not JSON (" in only_fault(tmp_path / "a.jsonl")[1]


def test_a_missing_column_is_named_with_those_there_are(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "body": ["x"]}), tmp_path / "a.parquet")
    assert only_fault(tmp_path / "a.parquet") == (
        "text_key",
        f"{tmp_path / 'a.parquet'} has no column 'text'; its columns: ['id', 'body']",
    )


def test_missing_things_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no file or folder at 'nowhere.txt'" in only_fault("nowhere.txt")[1]
    assert "no file matches *.txt" in only_fault("*.txt")[1]
    assert "is empty; name a file" in only_fault("")[1]
    (tmp_path / "folder").mkdir()
    assert "there are no files in it" in only_fault("folder")[1]
    (tmp_path / "folder" / "a.png").touch()
    assert "its 1 files have .png" in only_fault("folder")[1]
    (tmp_path / "folder" / "a.txt").touch()
    (tmp_path / "folder" / "b.txt").touch()
    assert "none of the 2 files of folder holds any text" in only_fault("folder")[1]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_the_validation_fraction_must_lie_between_0_and_1(tmp_path, fraction):
    (tmp_path / "a.txt").write_text("text")
    [(argument, message)] = TextFiles(str(tmp_path / "a.txt"), validation_fraction=fraction).faults()
    assert argument == "validation_fraction"
    assert "strictly between 0 and 1" in message


def test_several_faults_are_all_reported(tmp_path):
    assert [argument for argument, _ in TextFiles(str(tmp_path / "no"), validation_fraction=2.0).faults()] == [
        "validation_fraction",
        "path",
    ]


def test_a_quick_look_leaves_large_files_to_the_full_pass(tmp_path, monkeypatch):
    monkeypatch.setattr("atomiclm.data.text_files.QUICK_CHECK_BYTES", 100)
    (tmp_path / "a.txt").write_bytes(b"x" * 100 + b"\xff")
    assert TextFiles(str(tmp_path / "a.txt")).faults() == []
    with pytest.raises(SourceError, match="byte offset 100"):
        list(TextFiles(str(tmp_path / "a.txt")).documents())


def test_a_document_too_long_to_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("atomiclm.data.file_formats.MAX_DOCUMENT_BYTES", 1 << 20)
    monkeypatch.setattr("atomiclm.data.file_formats.MAX_ROW_BYTES", 1 << 10)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"x" * (3 << 20)))
    assert "the most that one document may have is 1,048,576 bytes" in only_fault(tmp_path / "a.txt.gz")[1]
    (tmp_path / "a.jsonl").write_bytes(jsonl({"text": "x" * 1024}))
    assert "line 1 is longer than 1,024 bytes" in only_fault(tmp_path / "a.jsonl")[1]


def test_the_stamp_follows_every_change_of_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr("atomiclm.data.source.SETTLED_SECONDS", 0.0)
    (tmp_path / "a.txt").write_text("aaaa")
    stamps = [TextFiles(str(tmp_path)).stamp(), TextFiles(str(tmp_path), text_key="body").stamp()]
    (tmp_path / "a.txt").write_text("bbbb")  # same size
    stamps.append(TextFiles(str(tmp_path)).stamp())
    (tmp_path / "b.txt").write_text("b")
    stamps.append(TextFiles(str(tmp_path)).stamp())
    (tmp_path / "b.txt").rename(tmp_path / "c.txt")
    stamps.append(TextFiles(str(tmp_path)).stamp())
    assert len(set(stamps)) == len(stamps)
    assert None not in stamps
    assert TextFiles(str(tmp_path)).stamp() == stamps[-1]


def test_a_file_touched_just_now_has_no_stamp(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    assert TextFiles(str(tmp_path)).stamp() is None
