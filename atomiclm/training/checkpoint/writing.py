"""How a checkpoint is written: at any moment a crash or a power cut leaves at least the one before.

1. A folder of a temporary name is filled; every file is forced to disk as it is written.
2. The manifest, with the size and hash of each, is written last; then the folder itself is forced to disk.
3. The folder is renamed, which is one atomic step, and its parent forced to disk.
4. Only now are older ones removed (`prune`).
"""

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch
from torch import Tensor

from atomiclm.atomic_io import fsync, to_json, write_new
from atomiclm.tracking.run_folder import checkpoints_in
from atomiclm.training.checkpoint import layout
from atomiclm.training.checkpoint.reading import Content, read, read_manifest
from atomiclm.training.state import TrainState

_LEVELS = 3
"""Folders above the checkpoints that the run may have made: its own, its study's, that of all outputs."""

REWIND_POINTS = 2
"""How many rewind points stay: should the newest be damaged, the one before is there."""


class NotFinite(ValueError):
    """Weights are not finite: nothing can be resumed from them, so they must not replace a good checkpoint."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run at one moment, copied, so that it can be written while training goes on.

    Attributes:
        step: optimizer steps taken.
        model: `TrainState.model_tensors`, on the CPU.
        optimizer: `TrainState.optimizer_tensors`, on the CPU.
        scalars: `TrainState.scalars`, and what the caller adds.
        about: what the manifest is to say besides: JSON values.
    """

    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    scalars: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def take(cls, state: TrainState, about: Mapping[str, Any] | None = None, **scalars: Any) -> Self:
        """Copy the state of a run: the only part of saving that training waits for."""

        def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            # Copied also where they are on the CPU already; contiguous, as safetensors wants them.
            return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}

        model, optimizer = copies(state.model_tensors()), copies(state.optimizer_tensors())
        return cls(state.step, model, optimizer, {**state.scalars(), **scalars}, about or {})


def write(snapshot: Snapshot, folder: Path, before_publishing: Callable[[], None] = lambda: None) -> Path:
    """Write a snapshot to disk under its final name, and return that folder.

    A run is a function of its configuration, so a sound checkpoint of the same step is the same checkpoint and stays,
    unless its hooks were cut short then and are not now, or it is to become a rewind point.

    Args:
        snapshot: what to write.
        folder: of the run's checkpoints.
        before_publishing: called when all is on disk and not yet renamed; forces to disk what the checkpoint refers to.

    Raises:
        NotFinite: a weight is not finite.
        OSError: the disk is full, read-only, gone; what was begun is removed and the checkpoints before are untouched.
    """
    final = folder / layout.name_of(snapshot.step)
    there = _sound(final)
    if there is not None:
        lacks_hooks = there.scalars["unfinished"] is not None and snapshot.scalars["unfinished"] is None
        lacks_point = bool(snapshot.about.get("rewind_point")) and not there.manifest.get("rewind_point")
        if not lacks_hooks and not lacks_point:
            return final
    for name, tensor in snapshot.model.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NotFinite(f"the checkpoint of step {snapshot.step} is not written: {name} is not finite")
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for parent in list(folder.absolute().parents)[:_LEVELS]:
            with contextlib.suppress(PermissionError):  # a folder above ours that we may not read
                fsync(parent)
    temporary = folder / f"{layout.TEMPORARY}{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        files = {
            layout.MODEL: _write_file(temporary / layout.MODEL, safetensors.torch.save(dict(snapshot.model))),
            layout.OPTIMIZER: _write_file(
                temporary / layout.OPTIMIZER, safetensors.torch.save(dict(snapshot.optimizer))
            ),
            layout.STATE: _write_file(temporary / layout.STATE, to_json(snapshot.scalars) + b"\n"),
        }
        manifest = {"format": layout.FORMAT_VERSION, "step": snapshot.step, "files": files, **snapshot.about}
        manifest["sha256"] = layout.manifest_sha256(manifest)
        write_new(temporary / layout.MANIFEST, to_json(manifest) + b"\n")
        fsync(temporary)
        before_publishing()
        if final.exists() and _sound(final) is None:
            layout.quarantine(final)
        replaced = layout.set_aside(final) if final.exists() else None
        os.rename(temporary, final)
        fsync(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        layout.clean_up(folder)  # restores what was to be replaced
        raise
    if replaced is not None:
        shutil.rmtree(replaced, ignore_errors=True)
    return final


def _write_file(path: Path, content: bytes) -> dict[str, Any]:
    """Write a file and return what the manifest says of it: of the content meant, not of what is read back."""
    write_new(path, content)
    return layout.fingerprint(content)


def _sound(path: Path) -> Content | None:
    """Return the checkpoint that is there already, if it is whole."""
    if not path.exists():
        return None
    try:
        return read(path)
    except layout.DamagedCheckpoint:
        return None


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay: the newest few, the best one, and the points a run may rewind to.

    Each is a set, so that the rule for one never removes what another wants. A checkpoint with a damaged manifest is
    not removed.

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
            found_scores = {path: manifest.get("bits_per_byte") for path, manifest in found}
            scores = {p: float(s) for p, s in found_scores.items() if isinstance(s, int | float) and math.isfinite(s)}
            kept.update(sorted(scores, key=scores.__getitem__)[:1])  # of equals the newest, which comes first
        return kept


def prune(folder: Path, retention: Retention) -> None:
    """Remove what need not stay; to be called when the newest checkpoint is on disk, never before."""
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
