"""How a checkpoint is read and restored: every byte is compared with the manifest first.

Of 400 single flipped bits in a safetensors file the library noticed 7; the others loaded as other weights without a
word. What is parsed is what was hashed: a file is read once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from atomiclm.atomic_io import from_json, read_file
from atomiclm.cli import UserError
from atomiclm.tracking.run_folder import RunFolder, checkpoints_in
from atomiclm.training.checkpoint import layout
from atomiclm.training.checkpoint.layout import DamagedCheckpoint
from atomiclm.training.state import OtherModel, TrainState

OLDEST_FORMAT = 2
"""Format 1 recorded neither the interval since the last row nor averages, and is not read."""

ADDED_IN_FORMAT_3: Mapping[str, Any] = {
    "skipped": [], "bad_steps": 0, "recent_losses": [], "unfinished": None, "validated": None, "best": None,
    "record_rows": None,
}  # fmt: skip
"""Steps over bad batches, interrupted evaluations, and how many rows the record had; also the manifest's own hash."""

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
        raise DamagedCheckpoint(f"{path} is damaged: its state is of step {shown(scalars.get('step'))}")
    if manifest["format"] == 2:
        scalars |= {**ADDED_IN_FORMAT_3, "batch": scalars["step"]}
    return Content(manifest, scalars, model, optimizer)


def read_model(path: Path) -> dict[str, Tensor]:
    """Return the model tensors of one checkpoint, for sampling and evaluation.

    Raises:
        DamagedCheckpoint: as `read`; the files it does not need are not looked at.
    """
    return _tensors(path, read_manifest(path), layout.MODEL)


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
            f"{path} has format {shown(version)}; "
            f"this version of atomiclm reads {OLDEST_FORMAT} to {layout.FORMAT_VERSION}"
        )
    if version > 2 and manifest.get("sha256") != layout.manifest_sha256(manifest):
        raise DamagedCheckpoint(f"{path} is damaged: {layout.MANIFEST} is not what was saved")
    if manifest.get("step") != layout.stored_step(path):
        raise DamagedCheckpoint(f"{path} is damaged: its manifest is of step {shown(manifest.get('step'))}")
    if not isinstance(files, dict) or not all(isinstance(files.get(name), dict) for name in layout.FILES):
        raise DamagedCheckpoint(f"{path} is damaged: its manifest does not name {', '.join(layout.FILES)}")
    return manifest


def newest_sound(run: RunFolder, say: Callable[[str], None]) -> Path:
    """Return the newest checkpoint of `run` whose weights are what was written; `say` is called for each damaged one.

    Raises:
        UserError: there is no checkpoint.
        DamagedCheckpoint: none is sound.
    """
    folder = run.checkpoints

    def check(path: Path) -> None:
        _verified(path, read_manifest(path), layout.MODEL)

    path, damaged = _newest(checkpoints_in(folder), check)
    if path is not None:
        for error in damaged.values():
            say(f"{error}; taking {path.name}")
        return path
    if damaged:
        raise DamagedCheckpoint(f"no checkpoint under {folder} is sound: {'; '.join(map(str, damaged.values()))}")
    if run.read_summary().get("state") in ("done", "diverged") or any(
        row.get("event") == "checkpoint" for row in run.read_rows()
    ):
        raise UserError(f"the checkpoints of {run.path} are gone from {folder}; {run.train_anew()}")
    raise UserError(
        f"{folder} has no checkpoint yet; the first comes after runtime.checkpoint_every_seconds, or at the end: wait "
        f"for it, or type: {run.command() or 'the command that started the run'}"
    )


def resume(state: TrainState, folder: Path, say: Callable[[str], None]) -> Content | None:
    """Restore the newest sound checkpoint under `folder`, and return it; None where there is none to restore.

    A damaged one is reported and moved out of the way, and the one before is tried. Needs the run's lock.

    Raises:
        DamagedCheckpoint: there are checkpoints and none is sound; training from the start would hide a loss.
        OtherModel: a sound checkpoint is of another model; the message names what differs.
    """
    layout.clean_up(folder)
    return _restore_newest(state, checkpoints_in(folder), folder, say)


def rewind(state: TrainState, folder: Path, say: Callable[[str], None]) -> Content:
    """Restore the newest sound rewind point, and remove the checkpoints beyond it, newest first.

    Raises:
        DamagedCheckpoint: none is sound.
    """

    def may_be_rewind_point(path: Path) -> bool:
        try:
            return bool(read_manifest(path).get("rewind_point"))
        except DamagedCheckpoint:
            return True  # to be reported as damaged, not passed over

    content = _restore_newest(state, filter(may_be_rewind_point, checkpoints_in(folder)), folder, say)
    if content is None:
        raise DamagedCheckpoint(f"{folder} has no checkpoint to rewind to")
    for path in checkpoints_in(folder):
        if layout.stored_step(path) > state.step:
            layout.remove(path)
    return content


def _restore_newest(
    state: TrainState, paths: Iterable[Path], folder: Path, say: Callable[[str], None]
) -> Content | None:
    restored: list[Content] = []
    path, damaged = _newest(paths, lambda path: restored.append(_restore(state, path)))
    if path is not None:
        # Only with a sound one in hand: if there were none, the next start must find them and refuse as this one does.
        for other, error in damaged.items():
            say(f"{error}; moved to {layout.quarantine(other).name}, resuming from {path.name}")
        return restored[0]
    if damaged:
        raise DamagedCheckpoint(
            f"no checkpoint under {folder} is sound: {'; '.join(map(str, damaged.values()))}. "
            f"Remove {folder.parent} to train from the start."
        )
    return None


def _newest(paths: Iterable[Path], use: Callable[[Path], None]) -> tuple[Path | None, dict[Path, DamagedCheckpoint]]:
    """Return the first of `paths` that `use` does not find damaged, and the damaged ones before it."""
    damaged: dict[Path, DamagedCheckpoint] = {}
    for path in paths:
        try:
            use(path)
        except DamagedCheckpoint as error:
            damaged[path] = error
            continue
        return path, damaged
    return None, damaged


def _restore(state: TrainState, path: Path) -> Content:
    content = read(path)
    try:
        state.restore(content.scalars, content.model, content.optimizer)
    except OtherModel as error:
        raise OtherModel(f"{path}: {shown(str(error), 1000)}") from None
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError) as error:
        # The hashes are right, so it was written like this: by another program, or to be read by us.
        raise DamagedCheckpoint(f"{path} is damaged: its state is invalid ({shown(error)})") from error
    return content


def _verified(path: Path, manifest: Mapping[str, Any], name: str) -> bytes:
    """Return a file's content, if it is what was written."""
    file, expected = path / name, manifest["files"][name]
    try:
        size = file.stat().st_size
        if size != expected.get("bytes"):
            raise UserError(f"{name} has {size:,} bytes, not {shown(expected.get('bytes'))}")
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
        raise DamagedCheckpoint(f"{path} is damaged: {name} holds no tensors ({shown(str(error))})") from error


def _parsed(file: Path, content: bytes) -> dict[str, Any]:
    try:
        value = from_json(content)
    except UserError as error:
        raise DamagedCheckpoint(f"{file} is damaged: {shown(str(error))}") from error
    if not isinstance(value, dict):
        raise DamagedCheckpoint(f"{file} is damaged: it holds no JSON object")
    return value


def shown(value: object, limit: int = 120) -> str:
    """Return what a message says of a value out of a file: printable, and no longer than `limit` characters."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= limit else f"{text[:limit]}..."
