"""One file to documents: plain text, JSON lines, Parquet; gzip and Zstandard of the first two."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from atomiclm.data.file_bytes import (
    CHUNK_BYTES,
    Compression,
    check_plain,
    decode,
    file_chunks,
    full_of_nuls,
    unpacked_limit,
    unpacks_too_far,
    whole_file,
)
from atomiclm.data.source import Document, SourceError

# Plain text as it is. .json, .csv and .tsv are missing on purpose: people keep whole data sets in them, and training
# on the braces and commas of one would be a silent mistake.
# fmt: off
PROSE_SUFFIXES = {
    ".txt", ".text", ".md", ".markdown", ".rst", ".adoc", ".org", ".tex", ".bib", ".log", ".srt", ".vtt", ".html",
    ".htm", ".xml", ".svg",
}
CODE_SUFFIXES = {
    ".py", ".pyi", ".pyx", ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".cu", ".cuh", ".rs", ".go", ".java",
    ".kt", ".scala", ".swift", ".cs", ".fs", ".vb", ".js", ".mjs", ".ts", ".jsx", ".tsx", ".css", ".scss", ".php",
    ".rb", ".pl", ".pm", ".lua", ".r", ".jl", ".m", ".mm", ".hs", ".ml", ".mli", ".lisp", ".el", ".clj", ".scm",
    ".ex", ".exs", ".erl", ".f", ".f90", ".sql", ".sh", ".bash", ".zsh", ".fish", ".ps1", ".bat", ".cmake", ".mk",
    ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".proto", ".tcl", ".v", ".vhd", ".asm", ".s",
}
# fmt: on
JSONL_SUFFIXES = {".jsonl", ".ndjson"}
COMPRESSED_SUFFIXES: dict[str, Compression] = {".gz": "gz", ".zst": "zst"}

READABLE = (
    "text (.txt, .md, .py and other plain-text suffixes, or none), .jsonl, .parquet, and .gz or .zst of text and .jsonl"
)

QUICK_ROWS = 1000  # that a quick look goes through at most, to find one with text
MAX_ROW_BYTES = 1 << 24  # of a line of JSON lines: parsed, the worst of them take 25 times as much and a second or two
BATCH_ROWS = 16  # rows of Parquet in memory at once: few bytes in the file may stand for long texts


@dataclass(frozen=True, slots=True)
class FileKind:
    """How a file is read."""

    format: Literal["text", "jsonl", "parquet"]
    compression: Compression | None = None


def file_kind(path: Path, *, named: bool) -> FileKind | None:
    """The kind of `path`, from its name alone; None when it is not readable.

    named: whether somebody named this very file. Only then is a name without a suffix taken for text; in a folder
    such a file is as often a program.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = COMPRESSED_SUFFIXES.get(suffixes[-1]) if suffixes else None
    if compression is not None:
        suffixes.pop()
    inner = suffixes[-1] if suffixes else ""
    if inner in JSONL_SUFFIXES:
        return FileKind("jsonl", compression)
    if inner in PROSE_SUFFIXES or inner in CODE_SUFFIXES or (inner == "" and named):
        return FileKind("text", compression)
    if inner == ".parquet" and compression is None:
        return FileKind("parquet")
    return None


def read_documents(path: Path, name: str, kind: FileKind, text_key: str) -> Iterator[Document]:
    """The documents of one file that hold text; a file or row with none gives none. Raises SourceError.

    A text file is one document; so is each row of JSON lines and of Parquet, its text found under `text_key`.
    """
    if kind.format == "text":
        if text := decode(whole_file(path, kind.compression), path):
            yield Document(name, text)
        return
    rows = _parquet_rows if kind.format == "parquet" else _jsonl_rows
    for number, text in rows(path, kind, text_key):
        if text:
            yield Document(f"{name}:{number}", text)


def check_file(path: Path, kind: FileKind, text_key: str, limit_bytes: int) -> tuple[int, bool]:
    """Read at most about `limit_bytes` of a file; (bytes read, whether it may hold text). Raises SourceError.

    Text is decoded up to the limit. Of JSON lines and Parquet some rows are read, which shows a missing
    `text_key`.
    """
    if kind.format == "text":
        head = bytearray()
        for chunk in file_chunks(path, kind.compression):
            head += chunk
            if len(head) > limit_bytes:
                break
        return len(head), decode(bytes(head), path, final=len(head) <= limit_bytes) != ""
    rows = _parquet_rows if kind.format == "parquet" else _jsonl_rows
    seen = 0
    for _, text in islice(rows(path, kind, text_key), QUICK_ROWS):
        if text:
            return CHUNK_BYTES, True
        seen += 1
    return CHUNK_BYTES, seen == QUICK_ROWS


def _jsonl_rows(path: Path, kind: FileKind, text_key: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of each line that is not blank; the last may lack its line feed."""
    number = offset = 0
    rest = b""
    for chunk in chain(file_chunks(path, kind.compression), [b""]):
        *lines, rest = (rest + chunk).split(b"\n")
        if not chunk:  # the end
            lines, rest = [rest], b""
        if len(rest) > MAX_ROW_BYTES:
            raise SourceError(
                "path", f"{path} line {number + len(lines) + 1} is longer than {MAX_ROW_BYTES:,} bytes; one row a line"
            )
        for line in lines:
            number += 1
            if line and not line.isspace():
                text = decode(line, path, start=offset).removeprefix("\ufeff")
                if text.strip():
                    where = f"{path} line {number}"
                    yield number, _row_text(_row(text, where), text_key, where)
            offset += len(line) + 1


def _row(text: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise SourceError(
            "path", f"{where} is not JSON ({error.msg} at character {error.pos + 1}); one object a line"
        ) from error
    except (ValueError, RecursionError) as error:  # their words are for programmers
        raise SourceError("path", f"{where} has a number too long or brackets too deep; drop that row") from error
    if not isinstance(row, dict):
        raise SourceError("path", f"{where} is not a JSON object; one object a line")
    return row


def _row_text(row: dict[str, Any], text_key: str, where: str) -> str:
    if text_key not in row:
        raise SourceError("text_key", f"{where} has no key {text_key!r}; its keys: {_listed(sorted(row))}")
    text = row[text_key]
    if not isinstance(text, str):
        raise SourceError("text_key", f"{where}: {text_key!r} holds {type(text).__name__}, not text; drop that row")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair, UTF-8 cannot
        raise SourceError(
            "path", f"{where}: {text_key!r} has half a surrogate pair at character {error.start}; drop that row"
        ) from error
    if full_of_nuls(text):
        raise SourceError("path", f"{where}: {text_key!r} is full of NULs; drop that row")
    return text


def _listed(names: list[str]) -> str:
    """Names out of a file, so that they can be shown: a few, short, and no control characters."""
    shown = [name if len(name) <= 40 and name.isprintable() else f"{name!a:.40}" for name in names[:10]]
    return ", ".join([*shown, *(["..."] if len(names) > 10 else [])]) or "none"


def _parquet_rows(path: Path, kind: FileKind, text_key: str) -> Iterator[tuple[int, str]]:
    """(row number from 1, text).

    A column may spell a word once and repeat it, so the bounds of compressed files hold here too.
    """
    import pyarrow  # only who reads .parquet pays for it
    from pyarrow import parquet, types

    check_plain(path)
    try:
        limit = unpacked_limit(path)
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if names.count(text_key) != 1:
                has = "has two columns" if text_key in names else "has no column"
                raise SourceError("text_key", f"{path} {has} {text_key!r}; its columns: {_listed(names)}")
            column = file.schema_arrow.field(text_key).type
            values = column.value_type if types.is_dictionary(column) else column
            texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)  # null: all empty
            if not any(is_text(values) for is_text in texts):
                raise SourceError(
                    "text_key",
                    f"{path}: the column {text_key!r} has the type {_listed([str(column)])}, not string; if it holds "
                    "text, cast it and write the file again (pyarrow: column.cast('string'), pandas: "
                    f"column.str.decode('utf-8')), else name another of its columns: {_listed(names)}",
                )
            groups = range(file.metadata.num_row_groups)
            if sum(file.metadata.row_group(group).total_byte_size for group in groups) > limit:
                raise unpacks_too_far(path, limit)
            number = total = 0
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[text_key]):
                for value in batch.column(0):
                    number += 1
                    text = _row_text({text_key: value.as_py()}, text_key, f"{path} row {number}")
                    total += len(text)
                    if len(text) > MAX_ROW_BYTES or total > limit:
                        raise unpacks_too_far(path, limit)
                    yield number, text
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        # What pyarrow says quotes the file, control characters and all; its OSErrors have no number.
        reason = ascii(str(error).splitlines()[0] if str(error) else "no reason given")[1:-1]
        if isinstance(error, OSError) and error.errno is not None:
            raise SourceError("path", f"{path} cannot be read: {error.strerror}") from error
        raise SourceError("path", f"{path} is no readable Parquet file ({reason:.300}); write it again") from error
