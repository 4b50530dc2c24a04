"""Which checkpoints stay: the newest few, the best one, and the points a run may rewind to.

They are sets, so that the rule for one never removes what another wants. No checkpoint is removed for a damaged
manifest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atomiclm.tracking.run_folder import checkpoints_in
from atomiclm.training.checkpoint import layout
from atomiclm.training.checkpoint.reading import read_manifest

REWIND_POINTS = 2
"""How many rewind points stay: should the newest be damaged, the one before is there."""


@dataclass(frozen=True)
class Retention:
    """What stays.

    Attributes:
        newest: how many of the newest, at least 1.
        best: also the one with the lowest validation bits per byte, of those that were validated at their own step.
    """

    newest: int
    best: bool = False

    def kept(self, found: Sequence[tuple[Path, dict[str, Any]]]) -> set[Path]:
        """Return which of the checkpoints stay, given them newest first with their manifests."""
        kept = {path for path, _ in found[: self.newest]}
        kept.update([path for path, manifest in found if manifest.get("rewind_point")][:REWIND_POINTS])
        if self.best:
            scores = [(manifest.get("bits_per_byte"), path) for path, manifest in found]
            scored = [
                (score, path) for score, path in scores if isinstance(score, int | float) and math.isfinite(score)
            ]
            # Of equals the newest: min takes the first, and the newest comes first.
            kept.update([min(scored, key=lambda pair: pair[0])[1]] if scored else [])
        return kept


def prune(folder: Path, retention: Retention) -> None:
    """Remove what need not stay. Call it when the newest checkpoint is on disk, never before."""
    found = []
    for path in checkpoints_in(folder):
        try:
            found.append((path, read_manifest(path)))
        except layout.DamagedCheckpoint:
            continue
    kept = retention.kept(found)
    for path, _ in found:
        if path not in kept:
            layout.remove(path)
