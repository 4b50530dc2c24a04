"""Folders that are built once, by one process, and are either whole or not there.

A build writes into a temporary folder beside its target; a manifest with the size and sha256 of every file is written
last; everything is fsynced; one rename publishes it. A process that dies in between leaves a temporary folder, which
the next builder of the same thing removes. The lock only saves building it twice: where two machines share a disk on
which locks hold within each machine alone, both build, and both use what the first publishes.

On load the sizes are always compared with the manifest, and the hashes of files up to 1 GiB (about 1.5 GB/s); for
larger ones that would cost more than the fault is likely.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from filelock import BaseFileLock, FileLock, SoftFileLease, Timeout

from atomiclm.atomic_io import fsync, read_json, write_atomic
from atomiclm.cli import UserError

MANIFEST = "manifest.json"
HASH_LIMIT_BYTES = 1 << 30
MAX_MANIFEST_BYTES = 1 << 24

NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
"""Errors of flock(2) on a file system without locks."""

NOT_OURS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR})
"""Errors where a folder cannot be made or written to."""

_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST})
"""Errors where a folder would replace one that is not empty."""

_ABANDONED_SECONDS = 7 * 24 * 3600.0
STEP_BYTES = 1 << 18


class Progress(Protocol):
    """Called now and then with the stage (words for people), bytes done and bytes in all (0: not known).

    What it raises stops the work, and leaves the cache as it was: the way to abandon a preparation.
    """

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None: ...


def silent(stage: str, done_bytes: int, total_bytes: int) -> None:
    """A Progress that says nothing."""


def content_key(**parts: Any) -> str:
    """A name for what `parts` (JSON values) decide: the first 32 hex digits of their sha256."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def built_once(folder: Path, build: Callable[[Path], Mapping[str, Any]], progress: Progress) -> dict[str, Any]:
    """The manifest of `folder`, which `build` fills first when it is missing or damaged.

    build: gets an empty folder, writes its files there, returns what else the manifest shall hold. Whatever it raises
    is passed on, and leaves nothing behind.
    """
    if damage(folder) is None:  # without the lock, so that a cache on a read-only disk can be shared
        return read_manifest(folder)
    with exclusive(folder, progress):
        fault = damage(folder)
        if fault is None:
            return read_manifest(folder)
        if os.path.lexists(folder):
            progress(f"rebuilding {folder.parent.name}, the cached one is damaged: {fault}", 0, 0)
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)
            else:
                folder.unlink()
        prefix = f".{folder.name}-{_this_machine()}-"
        _sweep(folder, prefix)
        temporary = folder.parent / f"{prefix}{secrets.token_hex(8)}"
        temporary.mkdir()
        try:
            publish(temporary, folder, build(temporary))
        except OSError as error:
            if error.errno in _TAKEN and damage(folder) is None:
                return read_manifest(folder)
            if error.errno is None or error.filename is not None:
                raise
            raise OSError(error.errno, error.strerror, str(folder)) from error  # which disk it is that is full
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # gone already when it was published
        return read_manifest(folder)


def publish(temporary: Path, folder: Path, details: Mapping[str, Any]) -> None:
    """Write the manifest of `temporary`, make all of it durable and rename it to `folder`."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(temporary.iterdir())
    }
    for name in files:
        fsync(temporary / name)
    manifest = json.dumps({**details, "files": files}, indent=2, allow_nan=False) + "\n"
    write_atomic(temporary / MANIFEST, manifest.encode())
    os.replace(temporary, folder)
    fsync(folder.parent)


def _sweep(folder: Path, prefix: str) -> None:
    """Remove what killed builds have left: those of this machine, whose lock is ours, and any that are a week old."""
    for left in folder.parent.glob(f".{folder.name}-*"):
        try:
            touched = max(path.stat().st_mtime for path in [left, *left.iterdir()])
        except OSError:  # being built, or swept, elsewhere
            continue
        if left.name.startswith(prefix) or time.time() - touched > _ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _this_machine() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())


def damage(folder: Path) -> str | None:
    """What is wrong with a published folder, or None."""
    try:
        files = read_manifest(folder)["files"]
        for name, expected in files.items():
            if Path(name).name != name or not name.isprintable() or len(name) > 100:  # "../../etc/passwd"
                return f"{MANIFEST} names {name!a:.80}, which is not a file of the folder"
            path = folder / name
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                return f"{name} is not a plain file"
            if status.st_size != expected["bytes"]:
                return f"{name} has {status.st_size:,} bytes, not {expected['bytes']:,}"
            if status.st_size <= HASH_LIMIT_BYTES and file_sha256(path) != expected["sha256"]:
                return f"{name} has another sha256 than when it was written"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    except OSError as error:
        if error.errno != errno.EINVAL:  # a pipe, a device
            raise
        return f"{MANIFEST} is not a plain file"
    return None


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a published folder that has no `damage`."""
    manifest: dict[str, Any] = read_json(folder / MANIFEST, MAX_MANIFEST_BYTES)
    return manifest


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def exclusive(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock of `folder` (or file); the kernel releases it when its holder dies.

    On a file system without locks it is a lease: void once its process is gone or, on another machine, once it was not
    renewed for half a minute.
    """
    path = folder.parent / f"{folder.name}.lock"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = _acquired(FileLock(path, fallback_to_soft=False), folder, progress)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            lock = _acquired(SoftFileLease(path.with_suffix(".lease")), folder, progress)
    except OSError as error:
        if error.errno not in NOT_OURS:
            raise
        raise UserError(
            f"cache_dir: may not write to {folder.parent} ({error.strerror}); "
            "set ATOMICLM_CACHE to a folder you may write to"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _acquired(lock: BaseFileLock, folder: Path, progress: Progress) -> BaseFileLock:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"waiting for another run that prepares the same {folder.parent.name}", 0, 0)
        lock.acquire()
    return lock


# ---------------------------------------------------------------------------------------------------------------------
# How long work reports how far it is.


class Meter:
    """Adds up bytes and reports every 256 KiB, however small the documents are."""

    def __init__(self, progress: Progress, stage: str, total_bytes: int) -> None:
        self._report = lambda done_bytes: progress(stage, done_bytes, total_bytes)
        self._done_bytes = self._reported_bytes = 0
        self._report(0)

    def add(self, num_bytes: int) -> None:
        self._done_bytes += num_bytes
        if self._done_bytes - self._reported_bytes >= STEP_BYTES:
            self.finish()

    def finish(self) -> None:
        if self._reported_bytes != self._done_bytes:
            self._reported_bytes = self._done_bytes
            self._report(self._done_bytes)
