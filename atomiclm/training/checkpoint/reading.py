"""How a checkpoint is read: every byte held against the manifest first.

Of 400 single flipped bits in a safetensors file the library noticed 7; the others loaded as other weights without a
word. What is parsed is what was hashed: a file is read once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from atomiclm.atomic_io import from_json, read_file
from atomiclm.tracking.run_folder import RunFolder
from atomiclm.training.checkpoint import layout
from atomiclm.training.checkpoint.layout import DamagedCheckpoint
from atomiclm.training.checkpoint.migration import OLDEST_FORMAT, migrated
from atomiclm.user_error import UserError

_LAST_WITHOUT_HASH = 2
"""The last format whose manifest carries no hash of itself."""

_LARGEST_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Content:
    """One checkpoint, verified, in the present format."""

    manifest: Mapping[str, Any]
    scalars: dict[str, Any]
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]


def read(path: Path) -> Content:
    """Return all of one checkpoint.

    Raises:
        DamagedCheckpoint: a file is missing, altered or unreadable, or the format is of another version.
    """
    manifest = read_manifest(path)
    model, optimizer = (_tensors(path, manifest, name) for name in (layout.MODEL, layout.OPTIMIZER))
    scalars = _parsed(path / layout.STATE, _verified(path, manifest, layout.STATE))
    if scalars.get("step") != manifest["step"]:
        raise DamagedCheckpoint(f"{path} is damaged: its state is of step {layout.shown(scalars.get('step'))}")
    return Content(manifest, migrated(scalars, manifest["format"]), model, optimizer)


def read_model(path: Path) -> dict[str, Tensor]:
    """Return the model tensors of one checkpoint; for sampling and evaluation.

    Raises:
        DamagedCheckpoint: as `read`; the files it does not need are not looked at.
    """
    return _tensors(path, read_manifest(path), layout.MODEL)


def newest_sound(run: RunFolder, say: Callable[[str], None]) -> Path:
    """Return the newest checkpoint of `run` whose weights are what was written; a damaged one is said aloud.

    Raises:
        UserError: there is no checkpoint.
        DamagedCheckpoint: none is sound.
    """
    folder = run.checkpoints
    damage = []
    for path in layout.candidates(folder):
        try:
            _verified(path, read_manifest(path), layout.MODEL)
        except DamagedCheckpoint as error:
            damage.append(str(error))
            continue
        for line in damage:
            say(f"{line}; taking {path.name}")
        return path
    if damage:
        raise DamagedCheckpoint(f"no checkpoint under {folder} is sound: {'; '.join(damage)}")
    if run.read_summary().get("state") in ("done", "diverged") or any(
        row.get("event") == "checkpoint" for row in run.read_rows()
    ):
        raise UserError(f"the checkpoints of {run.path} are gone from {folder}; {run.train_anew()}")
    raise UserError(
        f"{folder} has no checkpoint yet; the first comes after runtime.checkpoint_every_seconds, or at the end: wait "
        f"for it, or type: {run.command() or 'the command that started the run'}"
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of one checkpoint; what it says of the files is not checked here.

    Raises:
        DamagedCheckpoint: it cannot be read, or belongs to another step or format.
    """
    file = path / layout.MANIFEST
    try:
        content = read_file(file, _LARGEST_MANIFEST_BYTES)
    except (OSError, UserError) as error:
        raise DamagedCheckpoint(f"{path} is damaged: {error}") from error
    manifest = _parsed(file, content)
    version, files = manifest.get("format"), manifest.get("files")
    if not isinstance(version, int) or not OLDEST_FORMAT <= version <= layout.FORMAT_VERSION:
        raise DamagedCheckpoint(
            f"{path} has format {layout.shown(version)}; "
            f"this version of atomiclm reads {OLDEST_FORMAT} to {layout.FORMAT_VERSION}"
        )
    if version > _LAST_WITHOUT_HASH and manifest.get("sha256") != layout.manifest_sha256(manifest):
        raise DamagedCheckpoint(f"{path} is damaged: {layout.MANIFEST} is not what was saved")
    if manifest.get("step") != layout.stored_step(path):
        raise DamagedCheckpoint(f"{path} is damaged: its manifest is of step {layout.shown(manifest.get('step'))}")
    if not isinstance(files, dict) or not all(isinstance(files.get(name), dict) for name in layout.FILES):
        raise DamagedCheckpoint(f"{path} is damaged: its manifest does not name {', '.join(layout.FILES)}")
    return manifest


def _verified(path: Path, manifest: Mapping[str, Any], name: str) -> bytes:
    """Return a file's content, if it is what was written."""
    file, expected = path / name, manifest["files"][name]
    try:
        size = file.stat().st_size
        if size != expected.get("bytes"):
            wanted = layout.shown(expected.get("bytes"))
            raise UserError(f"{name} has {size:,} bytes, not {wanted}")
        # Read, not mapped: a mapped file keeps its disk blocks after the checkpoint is pruned.
        content = read_file(file, size)
    except (OSError, UserError) as error:
        raise DamagedCheckpoint(f"{path} is damaged: {error}") from error
    if layout.fingerprint(content) != expected:
        raise DamagedCheckpoint(f"{path} is damaged: {name} is not what was saved")
    return content


def _tensors(path: Path, manifest: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    content = _verified(path, manifest, name)
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # the library raises what it likes: SafetensorError, KeyError for a dtype, ValueError
        raise DamagedCheckpoint(f"{path} is damaged: {name} holds no tensors ({layout.shown(str(error))})") from error


def _parsed(file: Path, content: bytes) -> dict[str, Any]:
    try:
        value = from_json(content)
    except UserError as error:
        raise DamagedCheckpoint(f"{file} is damaged: {layout.shown(str(error))}") from error
    if not isinstance(value, dict):
        raise DamagedCheckpoint(f"{file} is damaged: it holds no JSON object")
    return value
