"""Files and folders that a reader, and a machine that loses power, finds whole or as they were."""

import os
import secrets
from pathlib import Path


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


def flush(path: Path) -> None:
    """Force a file's content, or a folder's entries, to disk."""
    if os.name == "nt" and path.is_dir():  # Windows does not open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
