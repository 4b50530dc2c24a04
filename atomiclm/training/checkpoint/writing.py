"""How a checkpoint becomes durable: at any moment a crash or a power cut leaves at least the one before.

1. A folder of a temporary name is filled; every file is flushed to disk as it is written.
2. The manifest, with the size and hash of each, is written last; then the folder itself is flushed.
3. The folder is renamed, which is one atomic step, and its parent flushed.
4. Only now are older ones removed (`retention`).
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from atomiclm.atomic_io import fsync, to_json, write_new
from atomiclm.training.checkpoint import layout
from atomiclm.training.checkpoint.reading import read
from atomiclm.training.checkpoint.retention import quarantine, set_aside, sweep
from atomiclm.training.checkpoint.snapshot import Snapshot

_LEVELS = 3
"""Folders above the checkpoints that the run may have made: its own, its study's, that of all outputs."""


class NotFinite(ValueError):
    """Weights that are not numbers: nothing can go on from them, so they must not take a good checkpoint's place."""


def write(snapshot: Snapshot, folder: Path, before_publishing: Callable[[], None] = lambda: None) -> Path:
    """Make a snapshot durable under its final name, and return that folder.

    A run is a function of its configuration, so a sound checkpoint of the same step is the same checkpoint and stays;
    unless its hooks were cut short then and are not now.

    Args:
        snapshot: what to write.
        folder: of the run's checkpoints.
        before_publishing: called when all is on disk and not yet renamed: makes durable what the checkpoint refers to.

    Raises:
        NotFinite: a weight is not a number.
        OSError: the disk is full, read-only, gone; what was begun is removed and the checkpoints before are untouched.
    """
    final = folder / layout.name_of(snapshot.step)
    if _stands(final, snapshot):
        return final
    _refuse_non_finite(snapshot)
    _make(folder)
    temporary = folder / f"{layout.TEMPORARY}{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        files = {
            layout.MODEL: _write_tensors(temporary / layout.MODEL, snapshot.model),
            layout.OPTIMIZER: _write_tensors(temporary / layout.OPTIMIZER, snapshot.optimizer),
            layout.STATE: _write_file(temporary / layout.STATE, to_json(snapshot.scalars) + b"\n"),
        }
        manifest = {"format": layout.FORMAT_VERSION, "step": snapshot.step, "files": files, **snapshot.about}
        manifest["sha256"] = layout.manifest_sha256(manifest)
        _write_file(temporary / layout.MANIFEST, to_json(manifest) + b"\n")
        fsync(temporary)
        before_publishing()
        replaced = _cleared(final)
        os.rename(temporary, final)
        fsync(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        sweep(folder)  # brings back what was to be replaced
        raise
    if replaced is not None:
        shutil.rmtree(replaced, ignore_errors=True)
    return final


def _make(folder: Path) -> None:
    """Make the folder of checkpoints, with its own entry on disk, the run folder's and the study's."""
    if folder.is_dir():
        return
    folder.mkdir(parents=True)
    for parent in list(folder.absolute().parents)[:_LEVELS]:
        with contextlib.suppress(PermissionError):  # a place above ours that we may not read
            fsync(parent)


def _stands(path: Path, snapshot: Snapshot) -> bool:
    """Whether the checkpoint is there already, and whole, and says no less than the snapshot."""
    if not path.exists():
        return False
    try:
        there = read(path)
    except layout.DamagedCheckpoint:
        return False
    lacks_hooks = there.scalars["unfinished"] is not None and snapshot.scalars["unfinished"] is None
    lacks_point = bool(snapshot.about.get("rewind_point")) and not there.manifest.get("rewind_point")
    return not lacks_hooks and not lacks_point


def _cleared(path: Path) -> Path | None:
    """Free the name of a checkpoint that is to be replaced: keep a damaged one, return where a sound one waits."""
    if not path.exists():
        return None
    try:
        read(path)
    except layout.DamagedCheckpoint:
        quarantine(path)
        return None
    return set_aside(path)


def _refuse_non_finite(snapshot: Snapshot) -> None:
    for name, tensor in snapshot.model.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NotFinite(f"the checkpoint of step {snapshot.step} is not written: {name} holds what is no number")


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, int | str]:
    return _write_file(path, safetensors.torch.save(dict(tensors)))


def _write_file(path: Path, content: bytes) -> dict[str, int | str]:
    """Write and flush a file; return what the manifest says of it: of the content meant, not of what is read back."""
    write_new(path, content)
    return layout.fingerprint(content)
