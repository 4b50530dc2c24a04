"""Files at addresses, such as s3://bucket/x.jsonl, through fsspec: listed, and opened to be read as local ones are."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, cast
from urllib.parse import urlsplit

from atomiclm.data.source import SourceError

BLOCK_BYTES = 4 << 20
"""What is fetched at once, and held for each open file."""

_PACKAGES = {
    "s3": "'atomiclm[s3]'", "gs": "gcsfs", "hf": "'atomiclm[huggingface]'", "https": "aiohttp", "http": "aiohttp",
    "memory": "fsspec",
}  # fmt: skip
_CREDENTIALS = {
    "s3": " (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_ENDPOINT_URL for another store than AWS)",
    "gs": " (GOOGLE_APPLICATION_CREDENTIALS)",
    "hf": " (HF_TOKEN)",
}
_TAGS = ("ETag", "etag", "blob_id")  # what stores call a text that follows the content of a file


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at an address.

    num_bytes: 0 where the server does not say
    tag: changes with the content; None where the store has none
    """

    address: str
    num_bytes: int
    tag: str | None

    def __str__(self) -> str:
        return self.address

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(
            urlsplit(self.address).path if protocol(self.address) in ("http", "https") else self.address
        )

    @property
    def suffix(self) -> str:
        return self._path.suffix

    @property
    def stem(self) -> str:
        return self._path.stem

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Its bytes, from any position that is asked for. Raises SourceError, also when they are read."""
        from fsspec.core import url_to_fs

        with failures(self.address):
            system, path = url_to_fs(self.address)
            opened = system.open(path, mode, block_size=BLOCK_BYTES)
        return cast(BinaryIO, io.BufferedReader(_Raw(opened, self.address), 1 << 16))


class _Raw(io.RawIOBase):
    """A file of fsspec, whose failures are SourceErrors: each store raises errors of its own."""

    def __init__(self, file: Any, address: str) -> None:
        self._file = file
        self._address = address

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def readinto(self, buffer: Any) -> int:
        with failures(self._address):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with failures(self._address):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()
        super().close()


def protocol(path: str | Path) -> str | None:
    """What stands before :// in an address; None: a path of this machine, also as file://."""
    name, separator, _ = str(path).partition("://")
    return name if separator and name.isalnum() and name != "file" else None


def address_fault(address: str) -> str | None:
    """What is wrong with an address, found without a network."""
    import fsspec

    name = protocol(address)
    if name not in _PACKAGES:
        return f"{name}:// is not read; give an address of {', '.join(_PACKAGES)} or file, or a path"
    try:
        fsspec.get_filesystem_class(name)
    except ImportError as error:
        return f"{address} needs a package that is not installed ({error}): pip install {_PACKAGES[name]}"
    return None


def remote_files(address: str) -> list[tuple[str, RemoteFile]]:
    """(name, file) of each file at an address, in the order of names: itself, below a folder, or what a glob matches.

    Of a folder or glob a name begins below the folder; hidden files are left out. Raises SourceError.
    """
    from fsspec.core import has_magic, url_to_fs

    if fault := address_fault(address):
        raise SourceError("path", fault)
    with failures(address):
        system, root = url_to_fs(address)
        system.invalidate_cache()
        try:
            info = system.info(root)
            found = {root: info} if info["type"] == "file" else system.find(root, detail=True)
        except FileNotFoundError:
            if not has_magic(root):
                raise
            info, found = {}, system.glob(root, detail=True)
            root = root[: root.index(next(character for character in root if character in "*?["))].rpartition("/")[0]
        files = []
        for path, facts in found.items():
            name = path.rpartition("/")[2] if path == root else path.removeprefix(root).lstrip("/")
            if facts["type"] == "file" and "/." not in f"/{name}":
                tag = next((str(facts[key]) for key in _TAGS if facts.get(key)), None)
                files.append((name, RemoteFile(system.unstrip_protocol(path), facts["size"] or 0, tag)))
    return sorted(files, key=lambda one: one[0])


@contextlib.contextmanager
def failures(address: str) -> Iterator[None]:
    """Raise whatever a store raises as a SourceError that says what to do."""
    try:
        yield
    except SourceError:
        raise
    except Exception as error:
        cause = error.__cause__
        unreachable = isinstance(cause, OSError)  # a server that could not be asked: fsspec says it has no such file
        if isinstance(error, FileNotFoundError) and not unreachable:
            raise SourceError("path", f"no file or folder at {address}; correct data.path") from error
        shown = cause if unreachable else error
        credentials = _CREDENTIALS.get(protocol(address) or "", "")
        reason = f"{type(shown).__name__}: {' '.join(str(shown).split())!s:.200}"
        fix = f"check the network, the credentials{credentials} and the address, or give the path of a copy"
        raise SourceError("path", f"{address} cannot be read ({reason}); {fix}") from error
