"""The run's own record: `metrics.jsonl`, one JSON object an event, and `summary.json`, the figures and the state."""

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomiclm.atomic_io import from_json, read_file, read_json, to_json, write_atomic
from atomiclm.cli import UserError

AXES = ("step", "tokens", "seconds", "flops")
"""What every row carries: optimizer steps, training tokens, seconds of training, floating point operations so far."""


class DamagedRow(UserError):
    """A line of a `metrics.jsonl` other than a torn last one that is no row; `number` counts from 1."""

    def __init__(self, path: Path, number: int, lines: int, reason: object) -> None:
        super().__init__(f"{path}: line {number} of {lines} is damaged ({reason})")
        self.number = number


def _intact_rows(path: Path) -> tuple[list[tuple[dict[str, Any], bytes]], DamagedRow | None]:
    """The rows before the first damaged one, with the bytes of their lines; and that damage, if there is any.

    Rows are written in one piece with their newline, so a last line without one, or one that is not a JSON object, was
    torn by a kill and is left out. The same anywhere else is damage.
    """
    rows: list[tuple[dict[str, Any], bytes]] = []
    lines = read_file(path).splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        is_last = number == len(lines)
        if is_last and not line.endswith(b"\n"):
            break
        try:
            row = from_json(line)
            if not isinstance(row, dict):
                raise UserError("not a JSON object")
        except ValueError as error:
            return rows, None if is_last else DamagedRow(path, number, len(lines), error)
        rows.append((row, line))
    return rows, None


def read_metrics(path: Path, event: str | None = None) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, in order; of one event ("train", "validation", ...) if that is given.

    Raises:
        DamagedRow: a line other than a torn last one is not a JSON object.
        OSError: it cannot be read.
    """
    rows, damage = _intact_rows(path)
    if damage is not None:
        raise damage
    return [row for row, _ in rows if event is None or row.get("event") == event]


def _counts(row: Mapping[str, Any]) -> bool:
    """Whether a row is a result. Checkpoints are not: they come by the clock."""
    return row.get("event") != "checkpoint"


class Record(contextlib.AbstractContextManager["Record"]):
    """Appends rows to a `metrics.jsonl`, which is made when missing; a last line torn by a kill is cut off first.

    A row survives the death of the process the moment it was appended (the operating system has it). It survives a
    power cut once a checkpoint refers to it: `sync` comes before the checkpoint is published.

    Attributes:
        rows: how many there are, checkpoints' own not counted; those before the first damaged one.
        damage: of a line other than the last. It may have come after the checkpoint that a run goes on from, as pages
            of a file do in a power cut, and is then cut off with the rest.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        is_there = path.exists()
        found, self.damage = _intact_rows(path) if is_there else ([], None)
        if is_there and self.damage is None:  # which is for `truncate` to judge
            self._keep(found)
        self.rows = sum(_counts(row) for row, _ in found)
        self._file = path.open("ab", buffering=0)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row: `event` (str), the `AXES`, then metrics under prefixed names ("train/loss"), texts, lists."""
        assert "event" in row, f"a row of the record names its event; got the keys {list(row)}"
        assert all(axis in row for axis in AXES), f"a row of the record carries {AXES}; got the keys {list(row)}"
        line, before = to_json(row) + b"\n", self._file.tell()
        try:
            # One call of the system, so that a kill leaves the row whole or not begun; a full disk takes less of it.
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(before)  # what follows must not grow onto a torn line
            raise
        self.rows += _counts(row)

    def sync(self) -> None:
        """Force all rows so far to disk. May be called from another thread than the one that appends."""
        os.fsync(self._file.fileno())

    def truncate(self, rows: int) -> None:
        """Forget what came after a checkpoint, in one atomic replacement, so that the resumed run writes it again.

        Args:
            rows: how many stay, checkpoints' own rows not counted; of those, the ones among and right after them stay.

        Raises:
            DamagedRow: one of those that stay is damaged.
        """
        if rows > self.rows and self.damage is not None:
            raise self.damage
        self._file.close()
        found, _ = _intact_rows(self.path)
        self.damage, kept, counted = None, 0, 0
        for row, _ in found:
            counted += _counts(row)
            if counted > rows:
                break
            kept += 1
        self._keep(found[:kept])
        self.rows = min(rows, counted)
        self._file = self.path.open("ab", buffering=0)

    def _keep(self, rows: list[tuple[dict[str, Any], bytes]]) -> None:
        """Rewrite the file with these rows; untouched when that is all of it."""
        data = b"".join(line for _, line in rows)
        if len(data) != self.path.stat().st_size:
            write_atomic(self.path, data)

    def close(self) -> None:
        """Make the rows durable and close the file; a closed record takes no more rows."""
        if not self._file.closed:
            with contextlib.suppress(OSError):  # on a full disk the rows that were taken are still the system's
                self.sync()
        self._file.close()

    def __exit__(self, *exception: object) -> None:
        self.close()


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Replace a `summary.json` atomically and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, to_json(summary, indent=2) + b"\n")


def read_summary(path: Path) -> dict[str, Any]:
    """The content of a `summary.json`; of a run's, see `RunFolder.read_summary`. Raises as `read_json`."""
    summary = read_json(path)
    if not isinstance(summary, dict):
        raise UserError(f"{path}: not a JSON object")
    return summary
