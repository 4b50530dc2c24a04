"""Files written whole or not at all, also through a power cut, and read within bounds; JSON with non-finite numbers."""

import contextlib
import errno
import glob
import json
import math
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from atomiclm.cli import UserError

_ABANDONED_SECONDS = 24 * 3600.0
"""After which a temporary folder is removed: who was filling it was killed."""


def write_atomic(path: Path, content: bytes) -> None:
    """Replace the file by `content` in one step, and force that to disk; on failure (OSError) it stays as it was."""
    # Of a name of its own: several processes may write the same file at once.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with _naming(path):
            write_new(partial, content)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    fsync(path.parent)


def write_new(path: Path, content: bytes) -> None:
    """Write a new file that nobody reads yet, and force its content to disk."""
    with _naming(path), path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an OSError of the system name the file that is meant."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes `folder` when all in it is on disk; on failure nothing is left.

    Raises:
        UserError: `folder` is there and not empty.
        OSError: it cannot be written; named is the folder that is meant.
    """
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder; name one that does not exist yet")
    for left in folder.absolute().parent.glob(f".{glob.escape(folder.name)}.*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.partial")
    try:
        with _naming(folder):
            partial.mkdir(parents=True)
            yield partial
            for path in partial.iterdir():
                fsync(path)
            fsync(partial)
            os.replace(partial, folder)  # where an empty folder may be, and no other
            fsync(folder.absolute().parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_file(path: Path, max_bytes: int = -1) -> bytes:
    """Return the content of a regular file of at most `max_bytes` bytes; negative: of any size.

    Raises:
        OSError: it cannot be read, or is a pipe, a device or a folder, which may never begin or never end.
        UserError: it is larger.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # or a pipe is waited for here
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with open(descriptor, "rb") as file:
        content = file.read(max_bytes + 1 if max_bytes >= 0 else -1)
    if 0 <= max_bytes < len(content):
        raise UserError(f"{path}: more than {max_bytes:,} bytes, which no such file has; check the path")
    return content


# JSON has no NaN and no infinity. A number that is not finite is written as {"non_finite": "nan"} ("inf", "-inf"), so
# files stay strict JSON, and reading is exactly the inverse of writing.

MAX_JSON_BYTES = 1 << 26
"""Of a JSON file of ours."""


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Return the value in a JSON file, see `from_json`.

    Raises:
        OSError: it cannot be read.
        UserError: it is not such a file, or larger than `max_bytes`; the message names it.
    """
    content = read_file(path, max_bytes)
    try:
        return from_json(content)
    except UserError as error:
        raise UserError(f"{path}: {error}; check the path or write the file again") from error


def to_json(value: Any, indent: int | None = None) -> bytes:
    """Strict JSON in UTF-8. A lone surrogate becomes its JSON escape, which happens to be Python's backslash form."""
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, indent=indent)
    return text.encode("utf-8", errors="backslashreplace")


def from_json(content: bytes) -> Any:
    """Inverse of `to_json`.

    Raises:
        UserError: it is not JSON in UTF-8, has a key twice or a NaN, or is nested deeper than Python's stack.
    """
    try:
        # Decoded here, because from bytes `json` would accept UTF-16 and UTF-32 too.
        return json.loads(content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError as error:
        raise UserError("nested too deep") from error
    except ValueError as error:
        raise UserError(f"not JSON ({error!s:.200})") from error


def _finite(value: Any) -> Any:
    """`value` with each non-finite float replaced by its written form."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"non_finite": repr(float(value))}
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _object(pairs: list[tuple[str, Any]]) -> Any:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key is written twice")
    if fields.keys() == {"non_finite"} and fields["non_finite"] in ("nan", "inf", "-inf"):
        return float(fields["non_finite"])
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def fsync(path: Path) -> None:
    """Force a file's content, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
