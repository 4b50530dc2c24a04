"""One file to documents: plain text, JSON lines, Parquet; gzip and Zstandard of the first two.

Text is decoded from bytes, so line ends stay as they are (CRLF too). A UTF-8 byte order mark at the start of a file
is a signature, not text, and is dropped, as it is before a line of JSON lines, where files were joined; U+FEFF anywhere
else is text. Anything that is not UTF-8 is refused: to replace or skip bytes would make bits per byte a figure about
another text. So is text full of NULs, which is most often UTF-16 taken for UTF-8.
"""

import codecs
import json
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from atomiclm.data.source import Document, NotUtf8Error, SourceError

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
COMPRESSED_SUFFIXES: dict[str, Literal["gz", "zst"]] = {".gz": "gz", ".zst": "zst"}

READABLE = (
    "text (.txt, .md, .py and other plain-text suffixes, or none), .jsonl, .parquet, and .gz or .zst of text and .jsonl"
)

CHUNK_BYTES = 1 << 20
QUICK_ROWS = 1000  # that a quick look goes through at most, to find one with text
MAX_ROW_BYTES = 1 << 24  # of a line of JSON lines: parsed, the worst of them take 25 times as much and a second or two
BATCH_ROWS = 16  # rows of Parquet in memory at once: few bytes in the file may stand for long texts
MAX_DOCUMENT_BYTES = 1 << 30  # of a plain text file: it is one document, and takes two to six times its size in memory
MAX_UNPACKED_BYTES = 1 << 27  # of a compressed one, whose size does not show what is in it
MAX_NUL_SHARE = 0.01  # of the characters. English in UTF-16 has a half, other alphabets at least one for each space

# What a compressed file may unpack to: ten kilobytes of gzip can stand for ten megabytes, of Zstandard for hundreds.
FREE_BYTES = 1 << 23  # any file
MAX_RATIO = 100  # times its size, a larger one. Prose packs to a third, the dullest logs to a fiftieth
FEED_BYTES = 1 << 10  # given to a decoder at a time: a Zstandard block of 4 bytes may stand for 128 KiB

WIDE_MARKS = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


@dataclass(frozen=True, slots=True)
class FileKind:
    """How a file is read."""

    format: Literal["text", "jsonl", "parquet"]
    compression: Literal["gz", "zst"] | None = None


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
        if text := decode(_whole(path, kind), path):
            yield Document(name, text)
        return
    for number, text in _rows(path, kind, text_key):
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
    seen = 0
    for _, text in islice(_rows(path, kind, text_key), QUICK_ROWS):
        if text:
            return CHUNK_BYTES, True
        seen += 1
    return CHUNK_BYTES, seen == QUICK_ROWS


def _rows(path: Path, kind: FileKind, text_key: str) -> Iterator[tuple[int, str]]:
    return _parquet_rows(path, text_key) if kind.format == "parquet" else _jsonl_rows(path, kind, text_key)


def file_chunks(path: Path, kind: FileKind) -> Iterator[bytes]:
    """The bytes of a file, decompressed, in pieces. Raises SourceError when it cannot be read or is cut off."""
    try:
        _check_plain(path)
        if kind.compression is not None:
            yield from _unpacked(path, kind.compression)
            return
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise SourceError("path", f"{path} cannot be read: {error.strerror or error}") from error


def _check_plain(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise SourceError("path", f"{path} is not a file but a pipe, a socket, a device or a folder")


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
    if start == 0 and (wide := next((name for mark, name in WIDE_MARKS.items() if raw.startswith(mark)), None)):
        raise NotUtf8Error(
            "path",
            f"{path} is not UTF-8: it begins with the byte order mark of {wide}; convert it, e.g. {_conversion(wide)}",
        )
    mark = codecs.BOM_UTF8 if start == 0 and raw.startswith(codecs.BOM_UTF8) else b""
    try:
        text = codecs.getincrementaldecoder("utf-8")("strict").decode(raw[len(mark) :], final)
    except UnicodeDecodeError as error:
        offset = start + len(mark) + error.start
        raise NotUtf8Error(
            "path",
            f"{path} is not UTF-8: byte 0x{raw[offset - start]:02x} at byte offset {offset}; convert it, "
            f"e.g. {_conversion('ISO-8859-1')}, or leave it out",
        ) from error
    if _full_of_nuls(text):
        nuls, wide = text.count("\0"), _unmarked_encoding(raw)
        remedy = f"it seems to be {wide}: {_conversion(wide)}" if wide else "remove them, e.g. tr -d '\\000' < IN > OUT"
        raise NotUtf8Error(
            "path",
            f"{path} is not text: from byte offset {start} on, {nuls:,} of {len(text):,} characters are NUL; {remedy}",
        )
    return text


def _conversion(encoding: str) -> str:
    return f"iconv -f {encoding} -t UTF-8 IN > OUT"


def _full_of_nuls(text: str) -> bool:
    return text.count("\0") > MAX_NUL_SHARE * len(text)


def _unmarked_encoding(raw: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte order mark, where the first bytes are that."""
    head = raw[: 1 << 16]
    # Of Latin letters in UTF-16 every second byte is NUL, the second of a pair where the lower byte comes first.
    lower_first = head[1::2].count(0) > head[::2].count(0)
    candidates = {
        "UTF-32LE": codecs.utf_32_le_decode,
        "UTF-32BE": codecs.utf_32_be_decode,
        **({"UTF-16LE": codecs.utf_16_le_decode} if lower_first else {"UTF-16BE": codecs.utf_16_be_decode}),
    }
    for encoding, decoder in candidates.items():
        try:
            text, _ = decoder(head, "strict", False)  # the last character may be cut off
        except UnicodeDecodeError:
            continue
        if text and not _full_of_nuls(text):
            return encoding
    return None


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
                text = decode(line, path, start=offset).removeprefix("\ufeff")
                if text.strip():
                    yield number, _row_text(_row(text, f"{path} line {number}"), text_key, f"{path} line {number}")
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
    if _full_of_nuls(text):
        raise SourceError("path", f"{where}: {text_key!r} is full of NULs; drop that row")
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

    _check_plain(path)
    try:
        limit = _unpacked_limit(path)
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if names.count(text_key) != 1:
                has = "has two columns" if text_key in names else "has no column"
                raise SourceError("text_key", f"{path} {has} {text_key!r}; its columns: {_listed(names)}")
            column = file.schema_arrow.field(text_key).type
            if not _is_text(column):
                raise SourceError(
                    "text_key",
                    f"{path}: the column {text_key!r} has the type {_listed([str(column)])}, not string; if it holds "
                    "text, cast it and write the file again (pyarrow: column.cast('string'), pandas: "
                    f"column.str.decode('utf-8')), else name another of its columns: {_listed(names)}",
                )
            groups = range(file.metadata.num_row_groups)
            if sum(file.metadata.row_group(group).total_byte_size for group in groups) > limit:
                raise _unpacks_too_far(path, limit)
            number = total = 0
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[text_key]):
                for value in batch.column(0):
                    number += 1
                    text = _row_text({text_key: value.as_py()}, text_key, f"{path} row {number}")
                    total += len(text)
                    if len(text) > MAX_ROW_BYTES or total > limit:
                        raise _unpacks_too_far(path, limit)
                    yield number, text
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        # What pyarrow says quotes the file, control characters and all; its OSErrors have no number.
        reason = ascii(str(error).splitlines()[0] if str(error) else "no reason given")[1:-1]
        if isinstance(error, OSError) and error.errno is not None:
            raise SourceError("path", f"{path} cannot be read: {error.strerror}") from error
        raise SourceError("path", f"{path} is no readable Parquet file ({reason:.300}); write it again") from error


def _is_text(column: Any) -> bool:
    """Whether a column's type says that it holds text; one of nothing but nulls has no type of its own."""
    from pyarrow import types

    kind = column.value_type if types.is_dictionary(column) else column
    return any(
        is_kind(kind) for is_kind in (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    )


def _unpacked(path: Path, compression: Literal["gz", "zst"]) -> Iterator[bytes]:
    """The bytes of a compressed file in pieces of about `CHUNK_BYTES` or more.

    A file may hold several members or frames, one after the other; gzip's may be padded with zeros.

    Raises SourceError when it is damaged or cut off, or goes on beyond `FREE_BYTES` and `MAX_RATIO`; OSError when it
    cannot be read.
    """
    limit = _unpacked_limit(path)
    waiting: list[bytes] = []
    size = done = 0
    for piece in _decompressed(path, compression):
        waiting.append(piece)
        size += len(piece)
        if done + size > limit:
            raise _unpacks_too_far(path, limit)
        if size >= CHUNK_BYTES:
            yield b"".join(waiting)
            done, size = done + size, 0
            waiting.clear()
    yield b"".join(waiting)


def _unpacked_limit(path: Path) -> int:
    return max(FREE_BYTES, MAX_RATIO * path.stat().st_size)


def _unpacks_too_far(path: Path, limit: int) -> SourceError:
    return SourceError(
        "path",
        f"{path} unpacks to more than {limit:,} bytes, {MAX_RATIO} times its size or more, as no text by people does; "
        "if it is yours, unpack it and name the result",
    )


def _decompressed(path: Path, compression: Literal["gz", "zst"]) -> Iterator[bytes]:
    begin: Callable[[], Any]
    damage: type[Exception]
    if compression == "gz":
        begin, damage = lambda: zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), zlib.error
    else:
        import zstandard  # only who reads .zst pays for it

        begin, damage = zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
    with path.open("rb") as file:
        decoder = begin()
        begun = fed = False  # whether a member has been read; whether the current one has been given any bytes
        while chunk := file.read(FEED_BYTES):
            while chunk:
                if begun and not fed and compression == "gz":
                    chunk = chunk.lstrip(b"\0")
                    if not chunk:
                        break
                try:
                    out = decoder.decompress(chunk)
                except damage as error:
                    raise SourceError(
                        "path", f"{path} is damaged or cut off ({error}); fetch or compress it again"
                    ) from error
                if out:
                    yield out
                begun = fed = True
                chunk = b""
                if decoder.eof:
                    chunk, fed = decoder.unused_data, False
                    decoder = begin()
        # The libraries' own stream readers may end in silence where a file is cut off, so the end is looked at here.
        if fed:
            raise SourceError("path", f"{path} is damaged or cut off (it ends within); fetch or compress it again")
