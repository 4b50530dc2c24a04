"""One file to documents: plain text, JSON lines, Parquet; gzip and Zstandard of the first two.

Line ends stay as they are (CRLF too). A UTF-8 byte order mark at the start of a file is a signature and is dropped;
U+FEFF anywhere else is text. Anything that is not UTF-8 is refused: to replace or skip bytes would make bits per byte a
figure about another text. So is text full of NULs, which is most often UTF-16 taken for UTF-8.
"""

import codecs
import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from atomiclm.data.remote_files import RemoteFile
from atomiclm.data.source import Document, NotUtf8Error, SourceError

# Plain text as it is. .json, .csv and .tsv are missing on purpose: people keep whole data sets in them, and training
# on the braces and commas of one would be a silent mistake.
# fmt: off
TEXT_SUFFIXES = {
    ".txt", ".text", ".md", ".markdown", ".rst", ".adoc", ".org", ".tex", ".bib", ".log", ".srt", ".vtt", ".html",
    ".htm", ".xml", ".svg",
    ".py", ".pyi", ".pyx", ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".cu", ".cuh", ".rs", ".go", ".java",
    ".kt", ".scala", ".swift", ".cs", ".fs", ".vb", ".js", ".mjs", ".ts", ".jsx", ".tsx", ".css", ".scss", ".php",
    ".rb", ".pl", ".pm", ".lua", ".r", ".jl", ".m", ".mm", ".hs", ".ml", ".mli", ".lisp", ".el", ".clj", ".scm",
    ".ex", ".exs", ".erl", ".f", ".f90", ".sql", ".sh", ".bash", ".zsh", ".fish", ".ps1", ".bat", ".cmake", ".mk",
    ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".proto", ".tcl", ".v", ".vhd", ".asm", ".s",
}
# fmt: on

READABLE = (
    "text (.txt, .md, .py and other plain-text suffixes, or none), .jsonl, .parquet, and .gz or .zst of text and .jsonl"
)

CHUNK_BYTES = 1 << 20
MAX_DOCUMENT_BYTES = 1 << 30  # it takes two to six times its size in memory
MAX_ROW_BYTES = 1 << 24  # of a line of JSON lines: parsed, the worst of them take 25 times as much and a second or two
BATCH_ROWS = 100  # rows of Parquet in memory at once
MAX_NUL_SHARE = 0.01  # of the characters. English in UTF-16 has a half, other alphabets at least one for each space


def file_format(path: Path | RemoteFile, *, named: bool = True) -> Literal["text", "jsonl", "parquet"] | None:
    """How `path` is read, from its name alone; None when it is not readable.

    named: whether somebody named this very file. Only then is a name without a suffix taken for text.
    """
    inner = (Path(path.stem) if is_compressed(path) else path).suffix.lower()
    if inner in (".jsonl", ".ndjson"):
        return "jsonl"
    if inner in TEXT_SUFFIXES or (inner == "" and named):
        return "text"
    return "parquet" if inner == ".parquet" and not is_compressed(path) else None


def size_of(path: Path | RemoteFile) -> int:
    """Bytes that a file has; 0 where a server does not say."""
    return path.stat().st_size if isinstance(path, Path) else path.num_bytes


def is_compressed(path: Path | RemoteFile) -> bool:
    """Whether a file has to be decompressed from its beginning."""
    return path.suffix.lower() in (".gz", ".zst")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A file, or some of it: of JSON lines those that begin from byte `start` to `stop` - 1, of Parquet so row groups.

    name: for messages
    num_bytes: about how many there are on disk
    """

    path: Path | RemoteFile
    name: str
    num_bytes: int
    start: int = 0
    stop: int | None = None


def stretches_of(path: Path | RemoteFile, name: str, max_bytes: int) -> Iterator[Stretch]:
    """A file in stretches of about `max_bytes`, as far as it can be read from its middle. Raises SourceError."""
    kind, size = file_format(path), size_of(path)
    if size <= max_bytes or kind == "text" or is_compressed(path):
        yield Stretch(path, name, size)
    elif kind == "jsonl":
        for start in range(0, size, max_bytes):
            yield Stretch(path, name, min(max_bytes, size - start), start, start + max_bytes)
    else:
        with _parquet_file(path) as file:
            groups = [file.metadata.row_group(index).total_byte_size for index in range(file.num_row_groups)]
        start = num_bytes = 0
        for index, group_bytes in enumerate(groups):
            num_bytes += group_bytes
            if num_bytes >= max_bytes or index == len(groups) - 1:
                yield Stretch(path, name, num_bytes, start, index + 1)
                start, num_bytes = index + 1, 0


def read_documents(stretch: Stretch, text_key: str) -> Iterator[Document]:
    """The documents of a file or a stretch of one that hold text; a row with none gives none. Raises SourceError.

    A text file is one document; so is each row of JSON lines and of Parquet, its text found under `text_key`.
    """
    path, name = stretch.path, stretch.name
    kind = file_format(path)
    try:
        if kind == "text":
            if text := _whole_text(path):
                yield Document(name, text)
            return
        for place, text in (_parquet_rows if kind == "parquet" else _jsonl_rows)(stretch, text_key):
            if text:
                yield Document(f"{name}:{place}", text)
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            fix = "make it readable, or leave it out"
            raise SourceError("path", f"{path} cannot be read: {error.strerror}; {fix}") from error
        raise SourceError("path", f"{path} is damaged or cut off ({error}); fetch or compress it again") from error


@contextlib.contextmanager
def _opened(path: Path | RemoteFile) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed: of all members or frames."""
    with path.open("rb") as file:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield cast(BinaryIO, unpacked)
        elif path.suffix.lower() == ".zst":
            import pyarrow  # only who reads .zst or .parquet pays for it

            with io.BufferedReader(pyarrow.input_stream(file, compression="zstd")) as unpacked:
                yield cast(BinaryIO, unpacked)
        else:
            yield file


def _whole_text(path: Path | RemoteFile) -> str:
    content = bytearray()
    with _opened(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            content += chunk
            if len(content) > MAX_DOCUMENT_BYTES:
                rule = f"the most that one document may have is {MAX_DOCUMENT_BYTES:,} bytes"
                raise SourceError("path", f"{path} is too long: {rule}; cut it into several files")
    return decode(content, str(path))


def decode(raw: bytes | bytearray, where: str) -> str:
    """`raw` as UTF-8 without its byte order mark. Raises NotUtf8Error."""
    marks = {  # UTF-32 first: its mark begins with that of UTF-16
        codecs.BOM_UTF32_LE: "UTF-32",
        codecs.BOM_UTF32_BE: "UTF-32",
        codecs.BOM_UTF16_LE: "UTF-16",
        codecs.BOM_UTF16_BE: "UTF-16",
    }
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mark = next((name for mark, name in marks.items() if raw.startswith(mark)), None)
        offset = len(raw) - len(error.object) + error.start
        fault = f"byte 0x{raw[offset]:02x} at byte offset {offset}"
        if mark:
            fault = f"it begins with the byte order mark of {mark}"
        convert = f"convert it, e.g. iconv -f {mark or 'ISO-8859-1'} -t UTF-8 IN > OUT, or leave it out"
        raise NotUtf8Error("path", f"{where} is not UTF-8: {fault}; {convert}") from error
    nuls = text.count("\0")
    if nuls > MAX_NUL_SHARE * len(text):
        fix = "if it is UTF-16, convert it, e.g. iconv -f UTF-16LE -t UTF-8 IN > OUT"
        raise NotUtf8Error("path", f"{where} is not text: {nuls:,} of its {len(text):,} characters are NUL; {fix}")
    return text


def _jsonl_rows(stretch: Stretch, text_key: str) -> Iterator[tuple[str, str]]:
    """(its place, text) of each line that is not blank; the last may lack its line feed. Lines are numbered from 1."""
    path, start = stretch.path, stretch.start
    after = f" after byte {start:,}" if start else ""
    with _opened(path) as file:
        if start:
            file.seek(start - 1)
            while (rest := file.readline(CHUNK_BYTES)) and not rest.endswith(b"\n"):  # of the line before
                pass
            start = file.tell()
        for number, line in enumerate(iter(partial(file.readline, MAX_ROW_BYTES + 1), b""), 1):
            if stretch.stop is not None and start >= stretch.stop:
                return
            start += len(line)
            where = f"{path} line {number}{after}"
            if len(line) > MAX_ROW_BYTES:
                raise SourceError("path", f"{where} is longer than {MAX_ROW_BYTES:,} bytes; one row a line")
            if line.isspace() or not (text := decode(line, where)).strip():  # the first without decoding: bombs of them
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else error
                raise SourceError("path", f"{where} is not JSON ({reason}); one object a line") from error
            if not isinstance(row, dict):
                raise SourceError("path", f"{where} is not a JSON object; one object a line")
            if text_key not in row:
                raise SourceError("text_key", f"{where} has no key {text_key!r}; its keys: {sorted(row)!r:.200}")
            yield f"{number}{after}", _checked(row[text_key], text_key, where)


@contextlib.contextmanager
def _parquet_file(path: Path | RemoteFile) -> Iterator[Any]:
    """A Parquet file opened, whose faults are SourceErrors."""
    import pyarrow
    from pyarrow import parquet

    try:
        opened = contextlib.nullcontext(path) if isinstance(path, Path) else path.open("rb")
        # Without these two a column is fetched whole, for each row group.
        with opened as source, parquet.ParquetFile(source, buffer_size=CHUNK_BYTES, pre_buffer=False) as file:
            yield file
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        reason = f"{str(error)!a:.200}"  # it may quote the file, control characters and all
        raise SourceError("path", f"{path} is no readable Parquet file ({reason}); write it again") from error


def _parquet_rows(stretch: Stretch, text_key: str) -> Iterator[tuple[int, str]]:
    """(row number in the file from 1, text)."""
    path = stretch.path
    with _parquet_file(path) as file:
        names = file.schema_arrow.names
        if text_key not in names:
            raise SourceError("text_key", f"{path} has no column {text_key!r}; its columns: {names!r:.200}")
        groups = range(file.num_row_groups)[stretch.start : stretch.stop]
        first = 1 + sum(file.metadata.row_group(index).num_rows for index in range(stretch.start))
        batches = file.iter_batches(BATCH_ROWS, groups, [text_key], use_threads=False)
        for number, value in enumerate(chain.from_iterable(batch.column(0) for batch in batches), first):
            yield number, _checked(value.as_py(), text_key, f"{path} row {number}")


def _checked(text: Any, text_key: str, where: str) -> str:
    if isinstance(text, str):
        return text
    fault = f"{text_key!r} holds {type(text).__name__}, not text; name another, or drop that row"
    raise SourceError("text_key", f"{where}: {fault}")
