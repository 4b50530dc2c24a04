"""The default corpus: it is on every machine that can run this program."""

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from atomiclm.data.file_formats import FileKind, read_documents
from atomiclm.data.source import Document, NotUtf8Error, TextSource
from atomiclm.data.text_files import stamp_of

# Tests are data about the library more than library; site-packages is whatever somebody installed.
EXCLUDED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
# The language reference as one string literal, written by Sphinx: 0.8 MB of the 11. By its hash it is held out, and
# nine tenths of the validation text would be that one file.
EXCLUDED_FILES = frozenset({"pydoc_data/topics.py"})
TEXT = FileKind("text")


class PythonStandardLibrary(TextSource):
    """The .py sources of the running interpreter's standard library, without its tests: some 11 MB, 650 documents.

    validation_fraction: share of the files held out, strictly between 0 and 1, chosen by a hash of their content

    Left out: folders named test, tests, idle_test, site-packages and dist-packages; `_sysconfigdata_*`, which a build
    writes and which holds the paths of the machine it ran on; `pydoc_data/topics.py`, written by Sphinx; and files in
    another encoding than UTF-8 (PEP 263 allows them), which `left_out` counts. The text depends on the Python
    version: figures are compared on equal `validation_sha256` only.
    """

    def __init__(self, validation_fraction: float = 0.04) -> None:
        super().__init__(validation_fraction)

    def describe(self) -> str:
        files = self._files()
        size = sum(path.stat().st_size for _, path in files) / 1e6
        return f"Python {sysconfig.get_python_version()} standard library ({len(files):,} files, {size:,.1f} MB)"

    def source_faults(self) -> list[tuple[str, str]]:
        if (_library_folder() / "os.py").is_file():  # of any library, and found without listing it: each cell asks
            return []
        message = f"this Python has no library sources at {_library_folder()}; use another corpus"
        return [("_target_", f"{message}, e.g. data=text data.path=FILE")]

    def documents(self) -> Iterator[Document]:
        left_out = 0
        for name, path in self._files():
            try:
                yield from read_documents(path, name, TEXT, text_key="")
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
