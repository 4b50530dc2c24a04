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
    assert [document.name for document in documents] == [f"{path.name}:{line}" for line in (1, 3, 5)]


def test_jsonl_lines_may_lie_across_the_pieces_a_file_is_read_in(tmp_path, monkeypatch):
    monkeypatch.setattr("atomiclm.data.file_bytes.CHUNK_BYTES", 5)
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


def test_offsets_count_the_byte_order_mark_and_earlier_lines(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfab\xff")
    assert "byte offset 5" in only_fault(tmp_path / "a.txt")[1]
    (tmp_path / "a.jsonl").write_bytes(b'\n{"text": "\xff"}\n')
    assert "byte offset 11" in only_fault(tmp_path / "a.jsonl")[1]


WIDE = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
WIDE_TEXTS = [TEXT, "Съешь ещё этих мягких французских булок, да выпей чаю.\n", "\u4f60\u597d\uff0c world \U0001f600\n"]


def convert(message, raw):
    """What the `iconv` or `tr` that a message advises makes of a file."""
    [words] = [part.split() for part in re.split("[:;,]", message) if re.search("iconv -f|tr -d", part)]
    words = words[words.index("iconv" if "iconv" in words else "tr") :]
    if words[0] == "tr":
        assert words[:4] == ["tr", "-d", r"'\000'", "<"]
        return raw.replace(b"\0", b"")
    assert (words[1], words[3:]) == ("-f", ["-t", "UTF-8", "IN", ">", "OUT"])
    return raw.decode(words[2].replace("LE", "-LE").replace("BE", "-BE")).encode()


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("text", WIDE_TEXTS)
@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_utf16_and_utf32_are_called_by_their_names_and_the_advice_gives_the_text(tmp_path, encoding, text, mark):
    raw = (mark + text).encode(encoding)
    (tmp_path / "a.txt").write_bytes(raw)
    argument, message = only_fault(tmp_path / "a.txt")
    assert argument == "path"
    if mark or "NUL" in message:
        assert encoding[:6].upper() in message
        (tmp_path / "b.txt").write_bytes(convert(message, raw))
        assert texts(tmp_path / "b.txt") == [text]
    else:
        assert "is not UTF-8: byte" in message


def test_text_full_of_nuls_is_refused_and_a_stray_one_is_not(tmp_path):
    raw = b"\0\0the\0 end" * 30 + b"\0"
    (tmp_path / "a.txt").write_bytes(raw)
    message = only_fault(tmp_path / "a.txt")[1]
    assert "91 of 301 characters are NUL; remove them" in message
    (tmp_path / "b.txt").write_bytes(convert(message, raw))
    assert texts(tmp_path / "b.txt") == ["the end" * 30]
    (tmp_path / "c.txt").write_bytes(b"x" * 99 + b"\0")
    assert len(texts(tmp_path / "c.txt")[0]) == 100
    (tmp_path / "a.jsonl").write_bytes(jsonl({"text": "ab"}).decode().encode("utf-16-le"))
    assert "it seems to be UTF-16LE" in only_fault(tmp_path / "a.jsonl")[1]
    (tmp_path / "b.jsonl").write_bytes(jsonl({"text": "ab"}) + b"\0" * 20)
    assert "from byte offset 15 on, 20 of 20 characters are NUL" in only_fault_of_all(tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl").write_bytes(jsonl({"text": "a\0b\0"}))
    assert "line 1: 'text' is full of NULs; drop that row" in only_fault(tmp_path / "c.jsonl")[1]
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "\0\0a"]}), tmp_path / "a.parquet")
    assert "row 2: 'text' is full of NULs; drop that row" in only_fault_of_all(tmp_path / "a.parquet")


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
    "kind",
    [
        pyarrow.binary(),
        pyarrow.large_binary(),
        pyarrow.binary(3),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.binary()),
    ],
)
def test_a_column_of_bytes_is_to_be_cast_as_a_whole(tmp_path, kind):
    values = [b"one", b"two"]
    column = pyarrow.array(values, pyarrow.binary()).cast(kind) if "dictionary" in str(kind) else None
    table = pyarrow.table({"id": [1, 2], "text": column or pyarrow.array(values, kind)})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    argument, message = only_fault(tmp_path / "a.parquet")
    assert argument == "text_key"
    assert "the column 'text' has the type" in message
    assert "column.cast('string')" in message
    assert "drop that row" not in message
    cast = table["text"].cast(pyarrow.binary()).cast("string")
    pyarrow.parquet.write_table(table.set_column(1, "text", cast), tmp_path / "b.parquet")
    assert texts(tmp_path / "b.parquet") == ["one", "two"]


def test_a_column_of_numbers_is_not_text_and_one_of_nulls_may_be_null_in_every_row(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": [1, 2], "body": ["a", "b"]}), tmp_path / "a.parquet")
    assert "has the type int64, not string" in only_fault(tmp_path / "a.parquet")[1]
    assert "its columns: text, body" in only_fault(tmp_path / "a.parquet")[1]
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.nulls(2)}), tmp_path / "b.parquet")
    assert "row 1: 'text' holds NoneType" in only_fault(tmp_path / "b.parquet")[1]


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
            "line 1 is not JSON (Expecting property name enclosed in double quotes at",
        ),
        ("a.jsonl", b'\n["text"]\n', "path", "line 2 is not a JSON object"),
        ("a.jsonl", b'{"body": "x", "id": 1}\n', "text_key", "has no key 'text'; its keys: body, id"),
        ("a.jsonl", b'{"text": null}\n', "text_key", "'text' holds NoneType, not text"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "path", "half a surrogate pair at character 0"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, argument, words):
    (tmp_path / name).write_bytes(content)
    found = only_fault(tmp_path / name)
    assert found[0] == argument
    assert words in found[1]


@pytest.mark.parametrize("kind", ["digits", "brackets"])
def test_json_beyond_what_python_parses_is_told_in_plain_words(tmp_path, kind):
    value = {"digits": "9" * 5000, "brackets": "[" * 100_000}[kind]
    (tmp_path / "a.jsonl").write_text('{"text": "a", "more": ' + value + "}")
    assert "line 1 has a number too long or brackets too deep; drop that row" in only_fault(tmp_path / "a.jsonl")[1]


def test_a_missing_column_is_named_with_those_there_are(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "body": ["x"]}), tmp_path / "a.parquet")
    assert only_fault(tmp_path / "a.parquet") == (
        "text_key",
        f"{tmp_path / 'a.parquet'} has no column 'text'; its columns: id, body",
    )


def test_missing_things_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no file or folder at nowhere.txt" in only_fault("nowhere.txt")[1]
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


def test_a_quick_look_at_a_large_file_sees_its_head_and_the_full_pass_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr("atomiclm.data.text_files.QUICK_CHECK_BYTES", 100)
    monkeypatch.setattr("atomiclm.data.file_bytes.CHUNK_BYTES", 64)
    late = tmp_path / "late.txt"
    late.write_bytes(
        b"x" + "ü".encode() * 100 + b"\xff"
    )  # the head ends in the middle of a character, which is no fault
    assert TextFiles(str(late)).faults() == []
    with pytest.raises(SourceError, match="byte offset 201"):
        list(TextFiles(str(late)).documents())
    early = tmp_path / "early.txt"
    early.write_bytes(b"\xff" + b"x" * 1000)
    assert "byte offset 0" in TextFiles(str(early)).faults()[0][1]


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
