"""Folders that are built once, by one process, and are either whole or not there.

A build writes into a temporary folder beside its target, a manifest with the size and sha256 of every file last; one
rename publishes it. The lock only saves building it twice: where locks hold within each machine alone, both build, and
both use what the first publishes. On load the sizes are always compared with the manifest, and the hashes of files up
to 1 GiB (about 1.5 GB/s).
"""

import contextlib
import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from atomiclm.atomic_io import new_folder, read_json
from atomiclm.cli import UserError

MANIFEST = "manifest.json"
HASH_LIMIT_BYTES = 1 << 30
STEP_BYTES = 1 << 18

Progress = Callable[[str, int, int], None]
"""Called now and then with the stage (words for people), bytes done and bytes in all (0: not known). What it raises
stops the work, and leaves the cache as it was."""


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
    if damage(folder) is not None:  # without the lock, so that a cache on a read-only disk can be shared
        with exclusive(folder, progress):
            if (fault := damage(folder)) is not None:
                if folder.exists():
                    progress(f"rebuilding {folder.parent.name}, the cached one is damaged: {fault}", 0, 0)
                    shutil.rmtree(folder)
                _build(folder, build)
    manifest: dict[str, Any] = read_json(folder / MANIFEST)
    return manifest


def _build(folder: Path, build: Callable[[Path], Mapping[str, Any]]) -> None:
    for left in folder.parent.glob(f".{folder.name}.*.partial"):  # of a build that was killed: the lock is ours
        shutil.rmtree(left, ignore_errors=True)
    try:
        with new_folder(folder) as partial:
            details = build(partial)
            paths = sorted(partial.iterdir())
            files = {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in paths}
            manifest = json.dumps({**details, "files": files}, indent=2, allow_nan=False) + "\n"
            (partial / MANIFEST).write_text(manifest, encoding="utf-8")
    except OSError:
        if damage(folder) is not None:  # else another machine was first
            raise


def damage(folder: Path) -> str | None:
    """What is wrong with a published folder, or None."""
    try:
        for name, expected in read_json(folder / MANIFEST)["files"].items():
            path, size = folder / name, (folder / name).stat().st_size
            if size != expected["bytes"]:
                return f"{name} has {size:,} bytes, not {expected['bytes']:,}"
            if size <= HASH_LIMIT_BYTES and file_sha256(path) != expected["sha256"]:
                return f"{name} has another sha256 than when it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    return None


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def exclusive(path: Path, progress: Progress = silent) -> Iterator[None]:
    """Hold the lock of a folder or file; the kernel releases it when its holder dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.parent / f"{path.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(f"waiting for another run that prepares the same {path.parent.name}", 0, 0)
            lock.acquire()
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
            raise
        fix = "set ATOMICLM_CACHE to a folder you may write to"
        raise UserError(f"cache_dir: may not write to {path.parent} ({error.strerror}); {fix}") from error
    try:
        yield
    finally:
        lock.release()


class Meter:
    """Adds up bytes and reports every 256 KiB, however small the documents are."""

    def __init__(self, progress: Progress, stage: str, total_bytes: int) -> None:
        self._report: Callable[[int], None] = lambda done_bytes: progress(stage, done_bytes, total_bytes)
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
