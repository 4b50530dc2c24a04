"""Text from files that are already there: a file, a folder or a glob."""

import functools
import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atomiclm.data.file_formats import READABLE, file_format, read_documents
from atomiclm.data.source import Document, SourceError, TextSource, stamp_of

QUICK_CHECK_BYTES = 64 << 20  # what `faults` reads at most, about a fifth of a second; `prepare` reads the rest
QUICK_ROW_BYTES = 1 << 20  # of a file of rows, of which it reads the first


@dataclass(eq=False)
class TextFiles(TextSource):
    """A file, every readable file under a folder, or the files a glob matches.

    path: a file, a folder (searched through, hidden files and folders left out, links to folders not followed, links
        that lead out of it refused) or a glob (the same; `**` goes through folders); `~` is the home folder
    validation_fraction: share of the corpus held out, strictly between 0 and 1. Several documents are split by a hash
        of their content, a single one is cut by position (`source.py`)
    text_key: the key of a .jsonl row, or the column of a .parquet file, that holds the text

    A text file is one document, and so is each row of .jsonl and .parquet. Files are taken in the order of their names.
    A folder or glob leaves out files whose suffix is not readable and counts empty ones in `left_out`; a single file
    must be readable and hold text. Text must be UTF-8.
    """

    path: str
    validation_fraction: float = 0.1
    text_key: str = "text"

    def describe(self) -> str:
        files = self._files()
        size = sum(path.stat().st_size for _, path in files) / 1e6
        return f"{self.path} ({len(files):,} file{'s' if len(files) != 1 else ''}, {size:,.1f} MB)"

    def source_faults(self) -> list[tuple[str, str]]:
        """As far as whole files of the first 64 MiB show them."""
        try:
            files = self._files()
        except SourceError as error:
            return [(error.argument, error.message)]
        faults: list[tuple[str, str]] = []
        holds_text, budget = False, QUICK_CHECK_BYTES
        for _, path in files:
            budget -= path.stat().st_size if file_format(path) == "text" else QUICK_ROW_BYTES
            if budget < 0 or len(faults) == 3:  # three show the pattern
                return faults
            try:
                holds_text |= next(read_documents(path, str(path), self.text_key), None) is not None
            except SourceError as error:
                faults.append((error.argument, error.message))
        return faults if holds_text or faults else [("path", self._no_text(files))]

    def documents(self) -> Iterator[Document]:
        files = self._files()
        left_out = 0
        for _, path in files:
            empty = True
            for document in read_documents(path, str(path), self.text_key):
                empty = False
                yield document
            left_out += empty
        if left_out == len(files):
            raise SourceError("path", self._no_text(files))
        self.left_out = left_out

    def stamp(self) -> str | None:
        return stamp_of(self._files(), type(self).__qualname__, self.text_key)

    def _no_text(self, files: list[tuple[str, Path]]) -> str:
        if len(files) == 1:
            return f"{files[0][1]} is empty; give a file with text in it"
        return f"none of the {len(files)} files of {self.path} holds any text; give one that does"

    def _files(self) -> list[tuple[str, Path]]:
        """(name, path) of each file, in the order of names; of a folder or glob a name begins below the folder."""
        if not self.path:
            raise SourceError("path", "is empty; name a file, a folder or a glob")
        try:
            path = Path(self.path).expanduser()
            if path.is_file():
                if file_format(path) is not None:
                    return [(path.name, path)]
                fault = f"do not know how to read a {''.join(path.suffixes)} file; readable are {READABLE}"
                raise SourceError("path", f"{path}: {fault}. If it is plain text, give it a .txt name")
            if path.is_dir():
                found, where = files_below(path), f"folder {path}"
            else:
                number = next((n for n, part in enumerate(path.parts) if glob.has_magic(part)), None)
                if number is None:
                    where = f"{self.path!r:.200} (from {Path.cwd()})"
                    raise SourceError("path", f"no file or folder at {where}; correct data.path")
                found, where = files_below(Path(*path.parts[:number]), path.parts[number:]), f"glob {self.path}"
                if not found:
                    where = f"{self.path} (from {Path.cwd()})"
                    raise SourceError("path", f"no file matches {where}; quote the glob, and use ** for subfolders")
        except SourceError:
            raise
        except (OSError, RuntimeError, ValueError) as error:  # a name too long, the home of nobody, letters beside **
            raise SourceError("path", f"{self.path!r:.200} is not a path: {error!s:.200}; correct data.path") from error
        readable = [(name, path) for name, path in found if file_format(path, named=False)]
        if not readable:
            suffixes = ", ".join(sorted({path.suffix or "no suffix" for _, path in found})[:8])
            others = f"its {len(found)} files have {suffixes}" if found else "there are no files in it"
            raise SourceError("path", f"nothing readable in {where}: {others}; readable are {READABLE}")
        return readable


def files_below(root: Path, pattern: tuple[str, ...] = ("**",)) -> list[tuple[str, Path]]:
    """(name relative to root, path) of the files below `root` that a glob matches, in the order of names.

    Hidden files and folders are left out. A folder that came from somebody else may hold links: those to folders are
    not followed, as one to a parent would have a corpus read itself over and over; one to a private file, which would
    be trained on and published with the model, is refused with a SourceError.
    """
    home = root.resolve()

    @functools.cache
    def is_linked(folder: Path) -> bool:
        return folder != root and (folder.is_symlink() or is_linked(folder.parent))

    found = []
    for path in root.glob("/".join([*pattern, "*"] if pattern[-1] == "**" else pattern)):
        name = path.relative_to(root).as_posix()
        if "/." in f"/{name}" or is_linked(path.parent) or not path.is_file():
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(home):
            fix = "name what it leads to, or copy it (cp -L)"
            raise SourceError("path", f"{path} is a link that leads out of {root}; {fix}")
        found.append((name, path))
    return sorted(found)
