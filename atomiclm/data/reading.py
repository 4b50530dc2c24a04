"""Reading one file into documents: plain text, JSON lines, Parquet; gzip and Zstandard of the first two.

Text is decoded from bytes, so line ends stay as they are (CRLF too). A UTF-8 byte order mark at the start of a file
is a signature, not text, and is dropped; U+FEFF anywhere else is text. Anything that is not UTF-8 is refused: to
replace or skip bytes would make bits per byte a figure about another text.
"""

import codecs
import json
import stat
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from atomiclm.data.file_kind import FileKind
from atomiclm.data.source import Document, NotUtf8Error, SourceError
from atomiclm.data.unpacking import unpacked, unpacked_limit, unpacks_too_far

CHUNK_BYTES = 1 << 20

QUICK_ROWS = 1000
"""Rows that a quick look goes through at most, to find one with text."""

MAX_ROW_BYTES = 1 << 24
"""A line of JSON lines may have 16 MiB; parsed, the worst of them take 25 times as much and a second or two."""

BATCH_ROWS = 16
"""Rows of Parquet held at once: the text of few bytes in the file may be long, and that of each row."""

MAX_DOCUMENT_BYTES = 1 << 30
"""A plain text file may have 1 GiB: it is one document, and takes two to six times its size in memory."""

MAX_UNPACKED_BYTES = 1 << 27
"""And 128 MiB where the file is compressed, so that its size does not show what is in it."""

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_documents(path: Path, name: str, kind: FileKind, text_key: str) -> Iterator[Document]:
    """The documents of one file that hold text; a file or row with none gives none. Raises SourceError.

    A text file is one document; so is each row of JSON lines and of Parquet, its text found under `text_key`.
    """
    if kind.format == "parquet":
        rows = _parquet_rows(path, text_key)
    elif kind.format == "jsonl":
        rows = _jsonl_rows(path, kind, text_key)
    else:
        text = decode(_whole(path, kind), path)
        if text:
            yield Document(name, text)
        return
    for number, text in rows:
        if text:
            yield Document(f"{name}:{number}", text)


def check_file(path: Path, kind: FileKind, text_key: str, limit_bytes: int) -> tuple[int, bool]:
    """Read at most about `limit_bytes` of a file; (bytes read, whether it may hold text). Raises SourceError.

    Text is decoded up to the limit. Of JSON lines and Parquet some rows are read, which shows a missing
    `text_key`.
    """
    if kind.format == "text":
        head = bytearray()
        whole = True
        for chunk in file_chunks(path, kind):
            head += chunk
            if len(head) > limit_bytes:
                whole = False
                break
        return len(head), decode(bytes(head), path, final=whole) != ""
    rows = _parquet_rows(path, text_key) if kind.format == "parquet" else _jsonl_rows(path, kind, text_key)
    seen = 0
    for seen, (_, text) in enumerate(islice(rows, QUICK_ROWS), start=1):  # noqa: B007
        if text:
            return CHUNK_BYTES, True
    return CHUNK_BYTES, seen == QUICK_ROWS


def file_chunks(path: Path, kind: FileKind) -> Iterator[bytes]:
    """The bytes of a file, decompressed, in pieces. Raises SourceError when it cannot be read or is cut off."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SourceError("path", f"{path} is not a file but a pipe, a socket, a device or a folder")
        if kind.compression is not None:
            yield from unpacked(path, kind.compression, CHUNK_BYTES)
            return
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise SourceError("path", f"{path} cannot be read: {error.strerror or error}") from error


def _whole(path: Path, kind: FileKind) -> bytes:
    """All of a text file, if it is one that fits in memory several times."""
    limit = MAX_UNPACKED_BYTES if kind.compression else MAX_DOCUMENT_BYTES
    too_long = SourceError(
        "path",
        f"{path} holds more than {limit:,} bytes of text, the most that one document may have"
        f"{' in a compressed file; unpack it' if kind.compression else '; cut it into several files'}",
    )
    if kind.compression is None and path.exists() and path.stat().st_size > limit:
        raise too_long
    chunks: list[bytes] = []
    total = 0
    for chunk in file_chunks(path, kind):
        chunks.append(chunk)
        total += len(chunk)
        if total > limit:  # the sizes of compressed files say nothing, and those of files in /proc are 0
            raise too_long
    return b"".join(chunks)


def decode(raw: bytes, path: Path, *, final: bool = True, start: int = 0) -> str:
    """`raw` as UTF-8 without its byte order mark; `start` is where it begins in the file. Raises NotUtf8Error.

    final: whether `raw` is all there is; if not, a character cut off at its end is no fault.
    """
    if start == 0 and raw.startswith(UTF16_MARKS):
        raise NotUtf8Error(
            "path",
            f"{path} is not UTF-8: it begins with the byte order mark of UTF-16; "
            f"convert it, e.g. iconv -f UTF-16 -t UTF-8 IN > OUT",
        )
    mark = codecs.BOM_UTF8 if start == 0 and raw.startswith(codecs.BOM_UTF8) else b""
    try:
        return codecs.getincrementaldecoder("utf-8")("strict").decode(raw[len(mark) :], final)
    except UnicodeDecodeError as error:
        offset = start + len(mark) + error.start
        raise NotUtf8Error(
            "path",
            f"{path} is not UTF-8: byte 0x{raw[offset - start]:02x} at byte offset {offset}; convert it, "
            f"e.g. iconv -f ISO-8859-1 -t UTF-8 IN > OUT, or leave it out",
        ) from error


def _jsonl_rows(path: Path, kind: FileKind, text_key: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of each line that is not blank; the last may lack its line feed."""
    number = offset = 0
    rest = b""
    for chunk in chain(file_chunks(path, kind), [b""]):
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
                text = decode(line, path, start=offset)
                if text.strip():
                    yield number, _row_text(_row(text, f"{path} line {number}"), text_key, f"{path} line {number}")
            offset += len(line) + 1


def _row(text: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError("path", f"{where} is not JSON ({error}); one object a line") from error
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
    return text


def _listed(names: list[str]) -> str:
    """Names out of a file, so that they can be shown: a few, short, and no control characters."""
    shown = [name if len(name) <= 40 and name.isprintable() else f"{name!a:.40}" for name in names[:10]]
    return ", ".join([*shown, *(["..."] if len(names) > 10 else [])]) or "none"


def _parquet_rows(path: Path, text_key: str) -> Iterator[tuple[int, str]]:
    """(row number from 1, text).

    A column may spell a word once and repeat it, so the bounds of compressed files hold here too.
    """
    import pyarrow  # only who reads .parquet pays for it
    import pyarrow.parquet as parquet

    if not stat.S_ISREG(path.stat().st_mode):
        raise SourceError("path", f"{path} is not a file but a pipe, a socket, a device or a folder")
    try:
        limit = unpacked_limit(path)
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if names.count(text_key) != 1:
                has = "has two columns" if text_key in names else "has no column"
                raise SourceError("text_key", f"{path} {has} {text_key!r}; its columns: {_listed(names)}")
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
