"""Which files a folder or a glob means. Links to folders are not followed, and no link may lead out.

A folder that came from somebody else may hold links: one to a parent would have a corpus read itself over and over,
one to a private file would have it trained on, and published with the model. Links that stay within are fine.
"""

import fnmatch
import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from atomiclm.data.source import SourceError


def walk(root: Path, depth: int | None = None) -> Iterator[tuple[str, Path]]:
    """(name relative to root, path) of every file below `root`, in no order; hidden files and folders are left out.

    depth: folders to go down, at most; None: all

    Raises SourceError for a link that leads out of `root`.
    """
    home = root.resolve()
    for folder, subfolders, names in os.walk(root):
        below = len(Path(folder).relative_to(root).parts)
        ends = depth is not None and below >= depth
        subfolders[:] = [] if ends else [name for name in subfolders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if name.startswith(".") or not is_file(path):  # no sockets, pipes or dangling links
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                raise SourceError(
                    "path", f"{path} is a link that leads out of {root}; name what it leads to, or copy it (cp -L)"
                )
            yield path.relative_to(root).as_posix(), path


def matching(pattern: Path) -> list[tuple[str, Path]]:
    """(path as text, path) of the files that a glob matches, in the order of their names: `*`, `?`, `[...]`, and `**`
    for any folders. What is hidden is matched only by a folder named in front of the first of these.

    Raises SourceError as `walk` does, from the last folder that the glob names outright.
    """
    first = next(number for number, part in enumerate(pattern.parts) if glob.has_magic(part))
    root, parts = Path(*pattern.parts[:first]), pattern.parts[first:]
    depth = None if "**" in parts else len(parts) - 1
    return sorted((str(path), path) for relative, path in walk(root, depth) if _fits(tuple(relative.split("/")), parts))


def is_file(path: Path) -> bool:
    """Whether it is a file, or a link to one, that can be asked for: no pipe, no device, no name that cannot be."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a NUL byte
        return False


def _fits(names: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Whether the names of a path, from the first below the root, are those that the parts of a glob ask for."""
    if not parts:
        return not names
    if parts[0] == "**":
        return any(_fits(names[skipped:], parts[1:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])
