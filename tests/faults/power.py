"""What a power cut may leave: every operation on a folder is noted, and disks are built that a cut after it allows.

POSIX promises of a file what was fsynced of it, and of a folder the entries it had when the folder was fsynced; what
was done to either since may be there or not, and of two folders one's may be there and not the other's. A rename is
there or not, never half.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

_WRITES = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Operation:
    """One thing done to a file or folder: create, truncate, sync, mkdir, rename, remove.

    Attributes:
        path, target: relative to the watched folder; the second for renames.
        content: of a synced file.
        record: the watched record at this moment, as the running system sees it.
    """

    kind: str
    path: Path
    target: Path | None = None
    content: bytes | None = None
    record: bytes = b""


class Watch:
    """Notes the operations under a folder, in whichever thread; Linux only, for it asks /proc what a descriptor is."""

    def __init__(self, folder: Path, record: Path) -> None:
        self.folder = folder
        self.record = record
        self.operations: list[Operation] = []
        self._lock = threading.RLock()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note what is done while open."""
        _WATCHES.append(self)
        true_fsync = os.fsync

        def fsync(descriptor: int) -> None:
            true_fsync(descriptor)
            self.note("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")))

        try:
            with mock.patch("os.fsync", fsync):
                yield
        finally:
            _WATCHES.remove(self)

    def note(self, kind: str, path: Path, target: Path | None = None) -> None:
        """Note one operation, if it is under the folder."""
        if not path.is_relative_to(self.folder):
            return
        content = path.read_bytes() if kind == "sync" and path.is_file() else None
        record = self.record.read_bytes() if self.record.exists() else b""
        relative = target.relative_to(self.folder) if target else None
        with self._lock:
            self.operations.append(Operation(kind, path.relative_to(self.folder), relative, content, record))


_WATCHES: list[Watch] = []
_inside = threading.local()


def _audited(event: str, arguments: tuple[Any, ...]) -> None:
    """Python tells its audit hooks of every file operation but fsync, before it is done (PEP 578)."""
    if not _WATCHES or event not in _EVENTS or getattr(_inside, "noting", False):
        return
    _inside.noting = True
    try:
        noted = _EVENTS[event](arguments)
        for watch in _WATCHES if noted else ():
            watch.note(*noted)
    finally:
        _inside.noting = False


def _opened(arguments: tuple[Any, ...]) -> tuple[str, Path] | None:
    path, _, flags = arguments
    if not isinstance(path, str | os.PathLike) or not flags & _WRITES:
        return None
    exists = os.path.exists(path)
    if exists and not flags & os.O_TRUNC:
        return None
    return ("truncate" if exists else "create", Path(path))


def _at(path: str | os.PathLike[str], descriptor: int) -> Path:
    return Path(path) if descriptor < 0 else Path(os.readlink(f"/proc/self/fd/{descriptor}")) / path


_EVENTS = {
    "open": _opened,
    "os.mkdir": lambda arguments: None if os.path.exists(arguments[0]) else ("mkdir", Path(arguments[0])),
    "os.rename": lambda arguments: ("rename", Path(arguments[0]), Path(arguments[1])),
    "os.remove": lambda arguments: ("remove", _at(*arguments)),
    "os.rmdir": lambda arguments: ("remove", _at(*arguments)),
}
sys.addaudithook(_audited)


@dataclass
class Node:
    """A file or a folder.

    Attributes:
        synced: of a file, what of it is on disk.
        entries: of a folder, by name, as the running system sees them.
        durable: those on disk.
        pending: what was done to the entries since: name that goes, name that comes, and the node.
    """

    is_folder: bool
    synced: bytes = b""
    entries: dict[str, "Node"] = field(default_factory=dict)
    durable: dict[str, "Node"] = field(default_factory=dict)
    pending: list[tuple[str | None, str | None, "Node"]] = field(default_factory=list)

    def change(self, goes: str | None, comes: str | None, node: "Node") -> None:
        """Change the entries; on disk it stays pending."""
        self.pending.append((goes, comes, node))
        self.entries = _changed(self.entries, [self.pending[-1]])


Choice = tuple[int, bool, bool]
"""How many pending changes of the checkpoints' folder; all of other folders', or none; the unsynced rows, or not."""


class Disk:
    """The files as they may be after a power cut."""

    def __init__(self, checkpoints: str, record: str) -> None:
        self.root = Node(is_folder=True)
        self.checkpoints, self.record = checkpoints, record
        self._live_record = b""

    def do(self, operation: Operation) -> None:
        """Replay one operation."""
        self._live_record = operation.record
        parent, name = self._node(operation.path.parent), operation.path.name
        if operation.kind in ("create", "mkdir"):
            parent.change(None, name, Node(operation.kind == "mkdir"))
        elif operation.kind == "truncate":
            parent.entries[name].synced = b""
        elif operation.kind == "remove":
            parent.change(name, None, parent.entries[name])
        elif operation.kind == "rename":
            assert operation.target is not None
            assert operation.target.parent == operation.path.parent, "between folders a rename is two changes"
            parent.change(name, operation.target.name, parent.entries[name])
        elif operation.content is not None:
            parent.entries[name].synced = operation.content
        else:
            node = self._node(operation.path)
            node.durable, node.pending = dict(node.entries), []

    def choices(self) -> list[Choice]:
        """All that the disk may have made of what is pending, as far as it matters here."""
        place = self.root.entries.get(self.checkpoints)
        counts = range(len(place.pending) + 1) if place else range(1)
        return [(count, others, rows) for count in counts for others in (False, True) for rows in (False, True)]

    def after_a_cut(self, choice: Choice) -> dict[Path, bytes | None]:
        """Return the files, and folders as None, by path."""
        count, others, rows = choice
        found: dict[Path, bytes | None] = {}

        def visit(node: Node, place: Path) -> None:
            kept = count if place == Path(self.checkpoints) else len(node.pending) if others else 0
            for name, child in _changed(node.durable, node.pending[:kept]).items():
                path = place / name
                found[path] = None if child.is_folder else child.synced
                if path == Path(self.record) and rows:
                    found[path] = self._live_record
                if child.is_folder:
                    visit(child, path)

        visit(self.root, Path())
        return found

    def _node(self, path: Path) -> Node:
        node = self.root
        for part in path.parts:
            node = node.entries[part]
        return node


def _changed(entries: dict[str, Node], changes: list[tuple[str | None, str | None, Node]]) -> dict[str, Node]:
    result = dict(entries)
    for goes, comes, node in changes:
        if goes is not None:
            result.pop(goes, None)
        if comes is not None:
            result[comes] = node
    return result
