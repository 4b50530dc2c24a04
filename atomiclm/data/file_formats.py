"""One file to documents: plain text, JSON lines, Parquet; gzip and Zstandard of the first two.

Line ends stay as they are (CRLF too). A UTF-8 byte order mark at the start of a file is a signature and is dropped;
U+FEFF anywhere else is text. Anything that is not UTF-8 is refused: to replace or skip bytes would make bits per byte a
figure about another text. So is text full of NULs, which is most often UTF-16 taken for UTF-8.
"""

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

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


def file_format(path: Path, *, named: bool = True) -> Literal["text", "jsonl", "parquet"] | None:
    """How `path` is read, from its name alone; None when it is not readable.

    named: whether somebody named this very file. Only then is a name without a suffix taken for text.
    """
    is_compressed = path.suffix.lower() in (".gz", ".zst")
    inner = (Path(path.stem) if is_compressed else path).suffix.lower()
    if inner in (".jsonl", ".ndjson"):
        return "jsonl"
    if inner in TEXT_SUFFIXES or (inner == "" and named):
        return "text"
    return "parquet" if inner == ".parquet" and not is_compressed else None


def read_documents(path: Path, name: str, text_key: str) -> Iterator[Document]:
    """The documents of one file that hold text; a file or row with none gives none. Raises SourceError.

    A text file is one document; so is each row of JSON lines and of Parquet, its text found under `text_key`.
    """
    kind = file_format(path)
    try:
        if kind == "text":
            if text := _whole_text(path):
                yield Document(name, text)
            return
        for number, text in (_parquet_rows if kind == "parquet" else _jsonl_rows)(path, text_key):
            if text:
                yield Document(f"{name}:{number}", text)
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            fix = "make it readable, or leave it out"
            raise SourceError("path", f"{path} cannot be read: {error.strerror}; {fix}") from error
        raise SourceError("path", f"{path} is damaged or cut off ({error}); fetch or compress it again") from error


def _opened(path: Path) -> BinaryIO:
    """The bytes of a file, decompressed: of all members or frames."""
    if path.suffix.lower() == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if path.suffix.lower() == ".zst":
        import pyarrow  # only who reads .zst or .parquet pays for it

        return cast(BinaryIO, io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd")))
    return path.open("rb")


def _whole_text(path: Path) -> str:
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


def _jsonl_rows(path: Path, text_key: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of each line that is not blank; the last may lack its line feed."""
    with _opened(path) as file:
        for number, line in enumerate(iter(partial(file.readline, MAX_ROW_BYTES + 1), b""), 1):
            where = f"{path} line {number}"
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
            yield number, _checked(row[text_key], text_key, where)


def _parquet_rows(path: Path, text_key: str) -> Iterator[tuple[int, str]]:
    """(row number from 1, text)."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if text_key not in names:
                raise SourceError("text_key", f"{path} has no column {text_key!r}; its columns: {names!r:.200}")
            batches = file.iter_batches(batch_size=BATCH_ROWS, columns=[text_key])
            for number, value in enumerate(chain.from_iterable(batch.column(0) for batch in batches), 1):
                yield number, _checked(value.as_py(), text_key, f"{path} row {number}")
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        reason = f"{str(error)!a:.200}"  # it may quote the file, control characters and all
        raise SourceError("path", f"{path} is no readable Parquet file ({reason}); write it again") from error


def _checked(text: Any, text_key: str, where: str) -> str:
    if isinstance(text, str):
        return text
    fault = f"{text_key!r} holds {type(text).__name__}, not text; name another, or drop that row"
    raise SourceError("text_key", f"{where}: {fault}")
