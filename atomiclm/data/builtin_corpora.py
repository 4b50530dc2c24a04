"""Corpora that need no file of yours: the running Python's standard library, and tinyshakespeare."""

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atomiclm.atomic_io import write_atomic
from atomiclm.data.cache import exclusive, file_sha256
from atomiclm.data.file_formats import Stretch, read_documents
from atomiclm.data.source import Document, NotUtf8Error, SourceError, TextSource, stamp_of
from atomiclm.machine import default_cache_dir

EXCLUDED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
# The language reference as one string literal: by its hash it would be nine tenths of the validation text.
EXCLUDED_FILES = frozenset({"pydoc_data/topics.py"})


@dataclass(eq=False)
class PythonStandardLibrary(TextSource):
    """The .py sources of the running interpreter's standard library, without its tests: some 11 MB, 650 documents.

    validation_fraction: share of the files held out, strictly between 0 and 1, chosen by a hash of their content

    Left out: EXCLUDED_FOLDERS and EXCLUDED_FILES; `_sysconfigdata_*`, which holds the paths of the machine that built
    it; and files in another encoding than UTF-8 (PEP 263 allows them), which `left_out` counts. The text depends on
    the Python version: figures are compared on equal `validation_sha256` only.
    """

    validation_fraction: float = 0.04

    def describe(self) -> str:
        files = self._files()
        size = sum(path.stat().st_size for _, path in files) / 1e6
        return f"Python {sysconfig.get_python_version()} standard library ({len(files):,} files, {size:,.1f} MB)"

    def source_faults(self) -> list[tuple[str, str]]:
        root = _library_folder()
        message = f"this Python has no library sources at {root}; use another corpus, e.g. data=text data.path=FILE"
        return [] if (root / "os.py").is_file() else [("_target_", message)]  # without listing it: each cell asks

    def documents(self) -> Iterator[Document]:
        left_out = 0
        for name, path in self._files():
            try:
                yield from read_documents(Stretch(path, name, 0), text_key="")
            except NotUtf8Error:
                left_out += 1
        self.left_out = left_out

    def stamp(self) -> str | None:
        return stamp_of(self._files(), type(self).__qualname__)

    def _files(self) -> list[tuple[str, Path]]:
        root, found = _library_folder(), []
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = [name for name in subfolders if name not in EXCLUDED_FOLDERS]
            for name in names:
                path = Path(folder, name)
                relative = path.relative_to(root).as_posix()
                wanted = name.endswith(".py") and not name.startswith("_sysconfigdata")
                if wanted and relative not in EXCLUDED_FILES and path.is_file() and path.stat().st_size > 0:
                    found.append((relative, path))
        return sorted(found)


def _library_folder() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


# ---------------------------------------------------------------------------------------------------------------------

# karpathy/char-rnn, data/tinyshakespeare/input.txt
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SIZE_BYTES = 1_115_394
TIMEOUT_SECONDS = 20.0


@dataclass(eq=False)
class Shakespeare(TextSource):
    """tinyshakespeare: 1,115,394 characters (ASCII) of Shakespeare's plays, one document.

    path: a copy of the file; null fetches it once into the cache folder
    validation_fraction: share of the characters held out, from the end; 0.1 is the split of char-rnn and nanoGPT
        (1,003,854 characters to train on, 111,540 to validate)

    The sha256 is pinned either way, so that published figures apply. Source: Karpathy, char-rnn (2015).
    """

    path: str | None = None
    validation_fraction: float = 0.1

    def describe(self) -> str:
        return f"tinyshakespeare ({SIZE_BYTES / 1e6:.1f} MB)"

    def source_faults(self) -> list[tuple[str, str]]:
        try:
            if self.path is not None:  # whether a download will work is not tried
                _read(self.path)
        except SourceError as error:
            return [(error.argument, error.message)]
        return []

    def documents(self) -> Iterator[Document]:
        raw = _fetch() if self.path is None else _read(self.path)
        yield Document("tinyshakespeare", raw.decode("utf-8"))


def _read(path: str) -> bytes:
    try:
        return _checked(Path(path).expanduser().read_bytes(), path)
    except OSError as error:
        fault = f"cannot read {path} (from {Path.cwd()}): {error.strerror or error}; correct data.path"
        raise SourceError("path", fault) from error


def _fetch() -> bytes:
    from http.client import HTTPException  # only a download pays for these
    from urllib.request import urlopen

    target = default_cache_dir() / "downloads" / "tinyshakespeare.txt"
    with exclusive(target):
        if target.is_file() and file_sha256(target) == SHA256:
            return target.read_bytes()
        try:
            with urlopen(URL, timeout=TIMEOUT_SECONDS) as response:
                raw: bytes = response.read(2 * SIZE_BYTES)  # bounded: a page of another kind need not end
        except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
            fix = "without a network, give a copy of the file: data.path=FILE"
            raise SourceError("path", f"could not fetch {URL} ({error}); {fix}") from error
        write_atomic(target, _checked(raw, URL))
        return raw


def _checked(raw: bytes, origin: str) -> bytes:
    digest = hashlib.sha256(raw).hexdigest()
    if digest == SHA256:
        return raw
    found = f"{len(raw):,} bytes with sha256 {digest[:16]}..., expected {SIZE_BYTES:,} with {SHA256[:16]}..."
    fix = "for another text use data=text data.path=FILE"
    raise SourceError("path", f"{origin} is not tinyshakespeare: {found}; {fix}")
