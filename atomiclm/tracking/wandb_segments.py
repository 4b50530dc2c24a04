"""Which rows of a run W&B already has, or will get from a folder that is still to be synced.

Each process that mirrors a run makes one *segment*: a folder `wandb/run-*` (online) or `wandb/offline-run-*`. When a
run is resumed offline, wandb numbers the new segment's rows from 0 again, `wandb sync` appends segment after segment,
and a segment whose process was killed has lost its last rows (wandb buffers 32 KiB). So the second segment would either
repeat rows or leave a hole. Rows being lines of `metrics.jsonl`, both are avoided by counting: segments that never left
this machine are thrown away and written again, whole, from the record; rows that did leave it are skipped.
"""

import shutil
import tempfile
from pathlib import Path

from atomiclm.atomic_io import from_json, to_json

ROOM_BYTES = 1 << 18
"""What must fit into `wandb/` before rows are passed on: several times what wandb collects before it writes."""


class Segments:
    """The segments of one run, with `rows.json`: segment -> how many rows it and those before it hold together.

    Args:
        folder: the run's `wandb/` folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "rows.json"

    def held(self) -> int:
        """Rows that are on the server as far as this machine knows: handed to an online run, or synced since."""
        return max((rows for name, rows in self._read().items() if not self._unsynced(name)), default=0)

    def note(self, segment: str, rows: int) -> None:
        """Write down that `segment` reaches as far as the first `rows` rows of the record."""
        self._write({**self._read(), segment: rows})

    def forget(self, segment: str) -> None:
        """Take back what was noted of a segment: its upload was given up, so its rows may be nowhere but here."""
        self._write({name: rows for name, rows in self._read().items() if name != segment})

    def discard_unsynced(self, keep: str) -> None:
        """Remove the offline segments that were never synced, except `keep`, which holds their rows again."""
        for path in self.folder.glob("offline-run-*"):
            if path.name != keep and self._unsynced(path.name):
                shutil.rmtree(path)

    def no_room(self) -> str:
        """Why wandb could not write to a segment now; "" when it can."""
        try:
            with tempfile.TemporaryFile(dir=self.folder) as probe:
                probe.write(bytes(ROOM_BYTES))
        except OSError as error:
            return error.strerror or type(error).__name__
        return ""

    def _unsynced(self, segment: str) -> bool:
        """Whether a segment's rows are only on this machine; `wandb sync` leaves a `.synced` file beside the log."""
        return segment.startswith("offline-run-") and not any((self.folder / segment).glob("*.synced"))

    def _write(self, rows: dict[str, int]) -> None:
        # Written often, and only ever an estimate after a kill: no fsync.
        partial = self._path.with_name("rows.json.partial")
        partial.write_bytes(to_json(rows))
        partial.replace(self._path)

    def _read(self) -> dict[str, int]:
        return from_json(self._path.read_bytes()) if self._path.exists() else {}
