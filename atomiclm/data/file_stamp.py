"""A stamp over files that have not been read: their names, sizes and times."""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

SETTLED_SECONDS = 2.0  # the coarsest clock of a file system in use (FAT: 2 s)


def stamp_of(files: Sequence[tuple[str, Path]], *settings: str) -> str | None:
    """sha256 over the settings and, of each file, its name, device, inode, size, mtime and ctime.

    None when a file was touched in the last two seconds: it could change again within one tick of the file system's
    clock, and then nothing but reading would tell ("racily clean" in git's index, git-scm.com/docs/racy-git).
    """
    newest = 0
    entries: list[tuple[str | int, ...]] = []
    for name, path in files:
        stat = path.stat()
        newest = max(newest, stat.st_mtime_ns, stat.st_ctime_ns)
        entries.append(
            (name, str(path.absolute()), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        )
    if newest > time.time_ns() - int(SETTLED_SECONDS * 1e9):
        return None
    return hashlib.sha256(json.dumps([settings, entries]).encode()).hexdigest()
