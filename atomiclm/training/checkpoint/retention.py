"""Which checkpoints stay: the newest few, the best one, and the points a run may rewind to.

They are sets, so that the rule for one never removes what another wants. A damaged manifest is nobody's reason to
remove anything.
"""

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atomiclm.atomic_io import fsync
from atomiclm.training.checkpoint import layout
from atomiclm.training.checkpoint.reading import read_manifest

REWIND_POINTS = 2
"""How many rewind points stay: should the newest be damaged, the one before is there."""


@dataclass(frozen=True)
class Retention:
    """What to keep.

    Attributes:
        newest: how many of the newest, at least 1.
        best: also the one with the lowest validation bits per byte, of those that were validated at their own step.
    """

    newest: int
    best: bool = False

    def kept(self, found: Sequence[tuple[Path, dict[str, Any]]]) -> set[Path]:
        """Return which of the checkpoints stay, given them newest first with their manifests."""
        paths = [path for path, _ in found]
        kept = set(paths[: self.newest])
        kept.update([path for path, manifest in found if manifest.get("rewind_point")][:REWIND_POINTS])
        if self.best:
            scored = [(manifest["bits_per_byte"], path) for path, manifest in found if _is_scored(manifest)]
            # Of equals the newest: min takes the first, and the newest comes first.
            kept.update([min(scored, key=lambda pair: pair[0])[1]] if scored else [])
        return kept


def prune(folder: Path, retention: Retention) -> None:
    """Remove what need not stay. Call it when the newest checkpoint is durable, never before."""
    found = []
    for path in layout.candidates(folder):
        try:
            found.append((path, read_manifest(path)))
        except layout.DamagedCheckpoint:
            continue
    kept = retention.kept(found)
    for path, _ in found:
        if path not in kept:
            _remove(path)


def discard_after(folder: Path, step: int) -> None:
    """Remove the checkpoints beyond `step`, newest first: a rewound run has left the way they lie on."""
    for path in layout.candidates(folder):
        if layout.stored_step(path) > step:
            _remove(path)


def quarantine(path: Path) -> Path:
    """Move a damaged checkpoint out of the way, under a name that nothing reads; an older one of that name goes."""
    place = path.with_name(f"{layout.DAMAGED}{path.name}")
    shutil.rmtree(place, ignore_errors=True)
    os.rename(path, place)
    fsync(path.parent)
    return place


def set_aside(path: Path) -> Path:
    """Give a checkpoint that a newer one of the same step replaces a name from which `sweep` brings it back."""
    place = path.with_name(f"{layout.REPLACED}{path.name}")
    shutil.rmtree(place, ignore_errors=True)
    os.rename(path, place)
    return place


def sweep(folder: Path) -> None:
    """Mend and remove what kills have left behind half written, half replaced or half removed.

    Only for who holds the run folder.
    """
    for path in folder.glob(f"{layout.REPLACED}*"):
        final = path.with_name(path.name.removeprefix(layout.REPLACED))
        if not final.exists():
            os.rename(path, final)
        shutil.rmtree(path, ignore_errors=True)
    for prefix in (layout.TEMPORARY, layout.RETIRED):
        for path in folder.glob(f"{prefix}*"):
            shutil.rmtree(path, ignore_errors=True)


def _remove(path: Path) -> None:
    """Rename, then remove: a kill in between leaves nothing that looks like a checkpoint."""
    retired = path.with_name(f"{layout.RETIRED}{path.name}")
    shutil.rmtree(retired, ignore_errors=True)
    os.rename(path, retired)
    shutil.rmtree(retired, ignore_errors=True)


def _is_scored(manifest: dict[str, Any]) -> bool:
    score = manifest.get("bits_per_byte")
    return isinstance(score, int | float) and math.isfinite(score)
