"""Which files hold text, told by their names alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
TEXT_SUFFIXES = frozenset(PROSE_SUFFIXES | CODE_SUFFIXES)
JSONL_SUFFIXES = frozenset({".jsonl", ".ndjson"})
COMPRESSED_SUFFIXES: dict[str, Literal["gz", "zst"]] = {".gz": "gz", ".zst": "zst"}

READABLE = (
    "text (.txt, .md, .py and other plain-text suffixes, or none), .jsonl, .parquet, and .gz or .zst of text and .jsonl"
)


@dataclass(frozen=True, slots=True)
class FileKind:
    """How a file is read."""

    format: Literal["text", "jsonl", "parquet"]
    compression: Literal["gz", "zst"] | None = None


def file_kind(path: Path, *, named: bool) -> FileKind | None:
    """The kind of `path`, or None when it is none that we read.

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
    if inner in TEXT_SUFFIXES or (inner == "" and named):
        return FileKind("text", compression)
    if inner == ".parquet" and compression is None:
        return FileKind("parquet")
    return None
