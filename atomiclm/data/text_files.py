"""Text from files that are already there."""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atomiclm.data.file_kind import READABLE, FileKind, file_kind
from atomiclm.data.file_stamp import stamp_of
from atomiclm.data.finding import is_file, matching, walk
from atomiclm.data.reading import check_file, read_documents
from atomiclm.data.source import Document, SourceError, TextSource

QUICK_CHECK_BYTES = 64 << 20  # what `faults` reads at most, about a fifth of a second; `prepare` reads the rest


@dataclass(frozen=True, slots=True)
class _File:
    name: str  # relative to the folder: decides the order, so a corpus that moves stays the same corpus
    path: Path
    kind: FileKind


class TextFiles(TextSource):
    """A file, every readable file under a folder, or the files a glob matches.

    path: a file, a folder (searched through, hidden files and folders left out, links to folders not followed, links
        that lead out of it refused) or a glob (the same; `**` goes through folders); `~` is the home folder
    validation_fraction: share of the corpus held out, strictly between 0 and 1. Several documents are split by a hash
        of their content, a single one is cut by position (`split.py`)
    text_key: the key of a .jsonl row, or the column of a .parquet file, that holds the text

    A text file is one document, and so is each row of .jsonl and .parquet. Files are taken in the order of their names.
    A folder or glob leaves out files whose suffix is none of ours and counts empty ones in `left_out`; a single file
    must be readable and hold text. Text must be UTF-8 (`reading.py` says what happens to byte order marks and CRLF).
    """

    def __init__(self, path: str, validation_fraction: float = 0.1, text_key: str = "text") -> None:
        super().__init__(validation_fraction)
        self.path = path
        self.text_key = text_key

    def describe(self) -> str:
        """Path, number of files and their size on disk."""
        files = self._files()
        size = sum(file.path.stat().st_size for file in files) / 1e6
        return f"{self.path} ({len(files):,} file{'s' if len(files) != 1 else ''}, {size:,.1f} MB)"

    def source_faults(self) -> list[tuple[str, str]]:
        """Missing, empty, unreadable or undecodable files, as far as the first 64 MiB show them."""
        faults = []
        budget = QUICK_CHECK_BYTES
        holds_text = False
        try:
            files = self._files()
        except SourceError as error:
            return [(error.argument, error.message)]
        for file in files:
            try:
                read, found = check_file(file.path, file.kind, self.text_key, budget)
            except SourceError as error:
                faults.append((error.argument, error.message))
                read, found = 0, True  # it is reported already; whether it holds text is beside the point
            holds_text = holds_text or found
            budget -= read
            if budget <= 0 or len(faults) >= 3:  # three show the pattern
                break
        else:
            if not holds_text:
                faults.append(("path", self._no_text(files)))
        return faults

    def documents(self) -> Iterator[Document]:
        """Every document, file by file in the order of their names."""
        files = self._files()
        left_out, found = 0, False
        for file in files:
            empty = True
            for document in read_documents(file.path, file.name, file.kind, self.text_key):
                empty = False
                yield document
            left_out += empty
            found = found or not empty
        if not found:
            raise SourceError("path", self._no_text(files))
        self.left_out = left_out

    def stamp(self) -> str | None:
        """Names, sizes and times of the files, and the key their text is under."""
        files = self._files()
        return stamp_of([(file.name, file.path) for file in files], type(self).__qualname__, self.text_key)

    def _no_text(self, files: list[_File]) -> str:
        if len(files) == 1:
            return f"{files[0].path} is empty; give a file with text in it"
        return f"none of the {len(files)} files of {self.path} holds any text; give one that does"

    def _files(self) -> list[_File]:
        if not self.path:
            raise SourceError("path", "is empty; name a file, a folder or a glob")
        root = self._root()
        if root.is_dir():
            found = sorted(walk(root), key=lambda pair: pair[0])
            return self._readable(found, f"folder {root}")
        if root.exists():  # before globs: a name may hold brackets
            if not is_file(root):
                raise SourceError("path", f"{root} is a pipe, a socket or a device, which cannot be read twice")
            kind = file_kind(root, named=True)
            if kind is None:
                raise SourceError(
                    "path",
                    f"{root}: do not know how to read a {''.join(root.suffixes)} file; readable are {READABLE}. "
                    f"If it is plain text, give it a .txt name",
                )
            return [_File(root.name, root, kind)]
        if glob.has_magic(str(root)):
            matched = matching(root)
            if not matched:
                raise SourceError(
                    "path",
                    f"no file matches {self.path} (from {Path.cwd()}); quote the glob, and use ** for subfolders",
                )
            return self._readable(matched, f"glob {self.path}")
        raise SourceError("path", f"no file or folder at {self.path} (from {Path.cwd()}); correct data.path")

    def _root(self) -> Path:
        try:
            root = Path(self.path).expanduser()
            root.stat()
        except (FileNotFoundError, NotADirectoryError):
            pass  # a glob, or a mistake that is said with where it was looked for
        except (OSError, RuntimeError, ValueError) as error:  # a name too long, a home of nobody, a NUL byte
            reason = error.strerror if isinstance(error, OSError) else error
            raise SourceError("path", f"{self.path!r:.200} is no path: {reason}; correct data.path") from error
        return root

    def _readable(self, found: list[tuple[str, Path]], where: str) -> list[_File]:
        files = []
        for name, path in found:
            kind = file_kind(path, named=False)
            if kind is not None:
                files.append(_File(name, path, kind))
        if not files:
            suffixes = sorted({path.suffix or "no suffix" for _, path in found})
            others = f"its {len(found)} files have {', '.join(suffixes[:8])}" if found else "there are no files in it"
            raise SourceError("path", f"nothing readable in {where}: {others}; readable are {READABLE}")
        return files
