"""Text from files that are already there: which files a path means, what changes their stamp, and their documents."""

import fnmatch
import glob
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atomiclm.data.file_formats import READABLE, FileKind, check_file, file_kind, read_documents
from atomiclm.data.source import Document, SourceError, TextSource, stamp_of

QUICK_CHECK_BYTES = 64 << 20  # what `faults` reads at most, about a fifth of a second; `prepare` reads the rest


@dataclass(frozen=True, slots=True)
class _File:
    name: str  # relative to the folder: decides the order, so a corpus that moves stays the same corpus
    path: Path
    kind: FileKind


@dataclass(eq=False)
class TextFiles(TextSource):
    """A file, every readable file under a folder, or the files a glob matches.

    path: a file, a folder (searched through, hidden files and folders left out, links to folders not followed, links
        that lead out of it refused) or a glob (the same; `**` goes through folders); `~` is the home folder
    validation_fraction: share of the corpus held out, strictly between 0 and 1. Several documents are split by a hash
        of their content, a single one is cut by position (`split.py`)
    text_key: the key of a .jsonl row, or the column of a .parquet file, that holds the text

    A text file is one document, and so is each row of .jsonl and .parquet. Files are taken in the order of their names.
    A folder or glob leaves out files whose suffix is not readable and counts empty ones in `left_out`; a single file
    must be readable and hold text. Text must be UTF-8 (`file_bytes.py` says what happens to byte order marks).
    """

    path: str
    validation_fraction: float = 0.1
    text_key: str = "text"

    def describe(self) -> str:
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
                read, found = 0, True  # reported already; it need not hold text
            holds_text = holds_text or found
            budget -= read
            if budget <= 0 or len(faults) >= 3:  # three show the pattern
                break
        else:
            if not holds_text:
                faults.append(("path", self._no_text(files)))
        return faults

    def documents(self) -> Iterator[Document]:
        files = self._files()
        left_out = 0
        for file in files:
            empty = True
            for document in read_documents(file.path, file.name, file.kind, self.text_key):
                empty = False
                yield document
            left_out += empty
        if left_out == len(files):
            raise SourceError("path", self._no_text(files))
        self.left_out = left_out

    def stamp(self) -> str | None:
        files = self._files()
        return stamp_of([(file.name, file.path) for file in files], type(self).__qualname__, self.text_key)

    def _no_text(self, files: list[_File]) -> str:
        if len(files) == 1:
            return f"{files[0].path} is empty; give a file with text in it"
        return f"none of the {len(files)} files of {self.path} holds any text; give one that does"

    def _files(self) -> list[_File]:
        if not self.path:
            raise SourceError("path", "is empty; name a file, a folder or a glob")
        try:
            root = Path(self.path).expanduser()
            mode = root.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return self._matches(root)
        except (OSError, RuntimeError, ValueError) as error:  # a name too long, a home of nobody, a NUL byte
            reason = error.strerror if isinstance(error, OSError) else error
            raise SourceError("path", f"{self.path!r:.200} is not a path: {reason}; correct data.path") from error
        if stat.S_ISDIR(mode):
            return _readable(sorted(files_below(root), key=lambda pair: pair[0]), f"folder {root}")
        if not stat.S_ISREG(mode):
            raise SourceError("path", f"{root} is a pipe, a socket or a device, which cannot be read twice")
        kind = file_kind(root, named=True)
        if kind is None:
            raise SourceError(
                "path",
                f"{root}: do not know how to read a {''.join(root.suffixes)} file; readable are {READABLE}. "
                f"If it is plain text, give it a .txt name",
            )
        return [_File(root.name, root, kind)]

    def _matches(self, pattern: Path) -> list[_File]:
        """The files that a glob matches, in the order of their names: `*`, `?`, `[...]`, and `**` for any folders.

        What is hidden is matched only by a folder named in front of the first of these.
        """
        if not glob.has_magic(str(pattern)):
            raise SourceError("path", f"no file or folder at {self.path} (from {Path.cwd()}); correct data.path")
        first = next(number for number, part in enumerate(pattern.parts) if glob.has_magic(part))
        root, parts = Path(*pattern.parts[:first]), pattern.parts[first:]
        depth = None if "**" in parts else len(parts) - 1
        found = [(str(path), path) for name, path in files_below(root, depth) if _fits(tuple(name.split("/")), parts)]
        if not found:
            raise SourceError(
                "path", f"no file matches {self.path} (from {Path.cwd()}); quote the glob, and use ** for subfolders"
            )
        return _readable(sorted(found), f"glob {self.path}")


def _readable(found: list[tuple[str, Path]], where: str) -> list[_File]:
    files = [_File(name, path, kind) for name, path in found if (kind := file_kind(path, named=False)) is not None]
    if not files:
        suffixes = sorted({path.suffix or "no suffix" for _, path in found})
        others = f"its {len(found)} files have {', '.join(suffixes[:8])}" if found else "there are no files in it"
        raise SourceError("path", f"nothing readable in {where}: {others}; readable are {READABLE}")
    return files


def files_below(root: Path, depth: int | None = None) -> Iterator[tuple[str, Path]]:
    """(name relative to root, path) of every file below `root`, in no order; hidden files and folders are left out.

    A folder that came from somebody else may hold links: one to a parent would have a corpus read itself over and over,
    so links to folders are not followed; one to a private file would have it trained on, and published with the model.

    depth: folders to go down, at most; None: all

    Raises SourceError for a link that leads out of `root`.
    """
    home = root.resolve()
    for folder, subfolders, names in os.walk(root):
        below = len(Path(folder).relative_to(root).parts)
        ends = depth is not None and below >= depth
        subfolders[:] = [] if ends else [name for name in subfolders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if name.startswith(".") or not os.path.isfile(path):  # no sockets, pipes or dangling links
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                raise SourceError(
                    "path", f"{path} is a link that leads out of {root}; name what it leads to, or copy it (cp -L)"
                )
            yield path.relative_to(root).as_posix(), path


def _fits(names: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Whether the names of a path, from the first below the root, are those that the parts of a glob ask for."""
    if not parts:
        return not names
    if parts[0] == "**":
        return any(_fits(names[skipped:], parts[1:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])
