"""Text from files that are already there, on this machine or at an address: a file, a folder or a glob."""

import functools
import glob
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from atomiclm.data.file_formats import READABLE, Stretch, file_format, read_documents, size_of, stretches_of
from atomiclm.data.remote_files import RemoteFile, address_fault, protocol, remote_files
from atomiclm.data.source import Document, SourceError, Span, TextSource, stamp_of

QUICK_CHECK_BYTES = 64 << 20  # what `faults` reads at most, about a fifth of a second; `prepare` reads the rest
File = Path | RemoteFile
SPAN_BYTES = 32 << 20  # of a span on disk: a few seconds of encoding
QUICK_ROW_BYTES = 1 << 20  # of a file of rows, of which it reads the first


@dataclass(eq=False)
class TextFiles(TextSource):
    """A file, every readable file under a folder, or the files a glob matches.

    path: a file, a folder (searched through, hidden files and folders left out, links to folders not followed, links
        that lead out of it refused) or a glob (the same; `**` goes through folders); `~` is the home folder. Also one
        at an address: s3://, gs://, hf://, https:// or file:// (`remote_files.py`)
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
        size = sum(size_of(path) for _, path in files) / 1e6
        return f"{self.path} ({len(files):,} file{'s' if len(files) != 1 else ''}, {size:,.1f} MB)"

    def source_faults(self) -> list[tuple[str, str]]:
        """As far as whole files of the first 64 MiB show them; of an address what is known without a network."""
        if protocol(self.path):
            fault = address_fault(self.path)
            return [("path", fault)] if fault else []
        try:
            files = self._files()
        except SourceError as error:
            return [(error.argument, error.message)]
        faults: list[tuple[str, str]] = []
        holds_text, budget = False, QUICK_CHECK_BYTES
        for _, path in files:
            budget -= size_of(path) if file_format(path) == "text" else QUICK_ROW_BYTES
            if budget < 0 or len(faults) == 3:  # three show the pattern
                return faults
            try:
                first = next(read_documents(Stretch(path, str(path), 0), self.text_key), None)
                holds_text |= first is not None
            except SourceError as error:
                faults.append((error.argument, error.message))
        return faults if holds_text or faults else [("path", self._no_text(files))]

    def spans(self) -> Sequence[Span]:
        """Of about SPAN_BYTES on disk: small files together, large ones of JSON lines and Parquet in stretches."""
        spans = list(self._spans(self._files()))
        return spans if len(spans) > 1 else (self,)

    def _spans(self, files: Sequence[tuple[str, File]]) -> Iterator["FileSpan"]:
        stretches: list[Stretch] = []
        for _, path in files:
            for stretch in stretches_of(path, str(path), SPAN_BYTES):
                stretches.append(stretch)
                if sum(one.num_bytes for one in stretches) >= SPAN_BYTES:
                    yield FileSpan(stretches, self.text_key)
                    stretches = []
        if stretches:
            yield FileSpan(stretches, self.text_key)

    def documents(self) -> Iterator[Document]:
        files = self._files()
        left_out = 0
        for span in self._spans(files):
            yield from span.documents()
            left_out += span.left_out
        if left_out == len(files):
            raise SourceError("path", self._no_text(files))
        self.left_out = left_out

    def stamp(self) -> str | None:
        files = self._files()
        remote = [(name, path) for name, path in files if isinstance(path, RemoteFile)]
        settings = type(self).__qualname__, self.text_key
        if not remote:
            return stamp_of([(name, path) for name, path in files if isinstance(path, Path)], *settings)
        if any(path.tag is None for _, path in remote):
            return None
        entries = [(name, path.address, path.num_bytes, path.tag) for name, path in remote]
        return hashlib.sha256(json.dumps([settings, entries]).encode()).hexdigest()

    def _no_text(self, files: Sequence[tuple[str, File]]) -> str:
        if len(files) == 1:
            return f"{files[0][1]} is empty; give a file with text in it"
        return f"none of the {len(files)} files of {self.path} holds any text; give one that does"

    def _files(self) -> list[tuple[str, File]]:
        """(name, path) of each file, in the order of names; of a folder or glob a name begins below the folder."""
        if not self.path:
            raise SourceError("path", "is empty; name a file, a folder or a glob")
        if protocol(self.path):
            return self._readable(remote_files(self.path), self.path)
        try:
            path = Path(self.path.removeprefix("file://")).expanduser()
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
        return self._readable(found, where)

    def _readable(self, found: Sequence[tuple[str, File]], where: str) -> list[tuple[str, File]]:
        is_single = len(found) == 1 and str(found[0][1]) == self.path
        readable = [(name, path) for name, path in found if file_format(path, named=is_single)]
        if not readable:
            suffixes = ", ".join(sorted({path.suffix or "no suffix" for _, path in found})[:8])
            others = f"its {len(found)} files have {suffixes}" if found else "there are no files in it"
            raise SourceError("path", f"nothing readable in {where}: {others}; readable are {READABLE}")
        return readable


@dataclass(eq=False)
class FileSpan:
    """The documents of some stretches of files."""

    stretches: Sequence[Stretch]
    text_key: str
    left_out: int = 0

    def documents(self) -> Iterator[Document]:
        self.left_out = 0
        for stretch in self.stretches:
            empty = stretch.stop is None
            for document in read_documents(stretch, self.text_key):
                empty = False
                yield document
            self.left_out += empty


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
