"""Reading one file into documents: plain text, JSON lines, Parquet; gzip and Zstandard of the first two.

Text is decoded from bytes, so line ends stay as they are (CRLF too). A UTF-8 byte order mark at the start of a file
is a signature, not text, and is dropped; U+FEFF anywhere else is text. Anything that is not UTF-8 is refused: to
replace or skip bytes would make bits per byte a figure about another text.
"""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from atomiclm.data.file_kind import FileKind
from atomiclm.data.source import Document, NotUtf8Error, SourceError

CHUNK_BYTES = 1 << 20
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
        text = decode(b"".join(file_chunks(path, kind)), path)
        if text:
            yield Document(name, text)
        return
    for number, text in rows:
        if text:
            yield Document(f"{name}:{number}", text)


def check_file(path: Path, kind: FileKind, text_key: str, limit_bytes: int) -> tuple[int, bool]:
    """Read at most about `limit_bytes` of a file; (bytes read, whether it may hold text). Raises SourceError.

    Text is decoded up to the limit. Of JSON lines and Parquet the first row that has text is read, which shows
    a missing `text_key`.
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
    return CHUNK_BYTES, any(text for _, text in rows)


def file_chunks(path: Path, kind: FileKind) -> Iterator[bytes]:
    """The bytes of a file, decompressed, in pieces. Raises SourceError when it cannot be read or is cut off."""
    try:
        if kind.compression == "zst":
            yield from _zstandard_chunks(path)
            return
        with gzip.open(path, "rb") if kind.compression == "gz" else path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError("path", f"{path} is damaged or cut off ({error}); fetch or compress it again") from error
    except OSError as error:
        raise SourceError("path", f"{path} cannot be read: {error.strerror or error}") from error


def _zstandard_chunks(path: Path) -> Iterator[bytes]:
    import zstandard  # only who reads .zst pays for it

    with path.open("rb") as file:
        frame = zstandard.ZstdDecompressor().decompressobj()
        fed = False  # whether the current frame has been given any bytes
        while chunk := file.read(CHUNK_BYTES):
            while chunk:
                try:
                    out = frame.decompress(chunk)
                except zstandard.ZstdError as error:
                    raise SourceError("path", f"{path} is damaged ({error}); fetch or compress it again") from error
                if out:
                    yield out
                fed, chunk = True, b""
                if frame.eof:  # a file may hold several frames, one after the other
                    chunk, fed = frame.unused_data, False
                    frame = zstandard.ZstdDecompressor().decompressobj()
        # zstandard's own stream readers end in silence on a truncated frame, so the end is checked here.
        if fed:
            raise SourceError("path", f"{path} is damaged or cut off (unfinished frame); fetch or compress it again")


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


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines with their line feed; the last may lack it."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _jsonl_rows(path: Path, kind: FileKind, text_key: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of each line that is not blank."""
    offset = 0
    for number, line in enumerate(_lines(file_chunks(path, kind)), start=1):
        text = decode(line, path, start=offset)
        offset += len(line)
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise SourceError("path", f"{path} line {number} is not JSON ({error}); one object a line") from error
        if not isinstance(row, dict):
            raise SourceError("path", f"{path} line {number} is not a JSON object; one object a line")
        yield number, _row_text(row, text_key, f"{path} line {number}")


def _row_text(row: dict[str, Any], text_key: str, where: str) -> str:
    if text_key not in row:
        raise SourceError("text_key", f"{where} has no key {text_key!r}; its keys: {', '.join(sorted(row)) or 'none'}")
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


def _parquet_rows(path: Path, text_key: str) -> Iterator[tuple[int, str]]:
    """(row number from 1, text)."""
    import pyarrow  # only who reads .parquet pays for it
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if text_key not in names:
                raise SourceError("text_key", f"{path} has no column {text_key!r}; its columns: {', '.join(names)}")
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=[text_key]):
                for value in batch.column(0).to_pylist():
                    number += 1
                    yield number, _row_text({text_key: value}, text_key, f"{path} row {number}")
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise SourceError("path", f"{path} is no readable Parquet file ({reason}); write it again") from error
    except UnicodeDecodeError as error:
        raise SourceError("path", f"{path}: {text_key!r} holds bytes that are not UTF-8 ({error.reason})") from error
    except OSError as error:
        raise SourceError("path", f"{path} cannot be read: {error.strerror or error}") from error
