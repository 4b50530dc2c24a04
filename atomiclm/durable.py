"""Files and folders that a reader, and a machine that loses power, finds whole or as they were."""

import contextlib
import errno
import glob
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from atomiclm.user_error import UserError

_FORSAKEN_SECONDS = 24 * 3600.0
"""After which a temporary folder is nobody's: who was filling it was killed."""


def write_whole(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Replace the file by `content` in one step, and force that to disk; on failure it stays as it was.

    Args:
        path: of the file.
        content: all of it.
        mode: who may read and write it, less what the process's umask takes away.

    Raises:
        OSError: the folder does not exist, may not be written to, or the disk is full.
    """
    # Of a name of its own: several processes may write the same file at once.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        write_through(partial, content, mode)
        partial.replace(path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # of the file that is meant
    finally:
        partial.unlink(missing_ok=True)
    flush(path.parent)


def write_through(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a new file that nobody reads yet, and force its content to disk."""
    try:
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which takes the place of `folder` when all in it is on disk; on failure nothing is left.

    Args:
        folder: is not there, or empty.

    Raises:
        ValueError: it is there and not empty.
        OSError: it cannot be written; named is the folder that is meant.
    """
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder; name one that does not exist yet")
    for left in folder.absolute().parent.glob(f".{glob.escape(folder.name)}.*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _FORSAKEN_SECONDS:
                shutil.rmtree(left)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        for path in partial.iterdir():
            flush(path)
        flush(partial)
        if folder.exists():
            folder.rmdir()  # empty, or this fails; Windows renames to no name that is taken
        os.replace(partial, folder)
        flush(folder.absolute().parent)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_plain(path: Path, limit: int = -1) -> bytes:
    """Return the content of a file that has an end.

    Args:
        path: of the file.
        limit: the first so many bytes of it; negative: all.

    Raises:
        OSError: it cannot be read, or is a pipe, a device or a folder, which may never begin or never end.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # or a pipe is waited for here
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with open(descriptor, "rb") as file:
        return file.read(limit)


def flush(path: Path) -> None:
    """Force a file's content, or a folder's entries, to disk."""
    if os.name == "nt" and path.is_dir():  # Windows does not open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
