"""Checkpoints: a folder that is either complete and verified, or not there. Nothing in it can execute code.

    checkpoints/
        step_00001000/
            model.safetensors       `TrainState.model_tensors`: what evaluation, sampling and export read
            optimizer.safetensors   `TrainState.optimizer_tensors`
            state.json              `TrainState.scalars`, and the rows of the record that belong to it
            manifest.json           size and sha256 of the other three, and what exact resuming depends on; written last
        .tmp-step_00001010/         being written, or left by a kill: never read
        damaged_step_00000990/      found damaged, saved for inspection: never read

A folder of a temporary name is filled, forced to disk and renamed in one atomic step. Only then are older ones removed
(`prune`), so a crash or a power cut at any moment leaves at least the one before. Every byte that is read is compared
with the manifest first: of 400 single flipped bits in a safetensors file the library noticed 7.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import safetensors.torch
import torch
from torch import Tensor

from atomiclm.atomic_io import from_json, fsync, read_file, to_json, write_new
from atomiclm.cli import UserError
from atomiclm.tracking.run_folder import CHECKPOINT_NAME, RunFolder, checkpoints_in
from atomiclm.training.state import OtherModel, TrainState
from atomiclm.training.step import Diverged

FORMAT_VERSION, OLDEST_FORMAT = 3, 2
"""Format 1 recorded neither the interval since the last row nor averages, and is not read."""

ADDED_IN_FORMAT_3: Mapping[str, Any] = {
    "skipped": [], "bad_steps": 0, "recent_losses": [], "unfinished": None, "validated": None, "best": None,
    "record_rows": None,
}  # fmt: skip

MANIFEST, MODEL, OPTIMIZER, STATE = "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"
FILES = (MODEL, OPTIMIZER, STATE)
"""What a manifest vouches for."""

TEMPORARY, RETIRED, REPLACED, DAMAGED = ".tmp-", ".old-", ".replaced-", "damaged_"


class DamagedCheckpoint(UserError):
    """A checkpoint whose files are not what its manifest says, or do not say what a checkpoint says."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run at one moment: copied, so that it can be written while training goes on, or read from a checkpoint."""

    model: dict[str, Tensor]  # on the CPU
    optimizer: dict[str, Tensor]
    scalars: dict[str, Any]
    manifest: Mapping[str, Any]  # what it says, or is to say beside the files

    @classmethod
    def take(cls, state: TrainState, about: Mapping[str, Any] | None = None, **scalars: Any) -> Self:
        """Copy the state of a run: the only part of saving that training waits for."""
        # Copied also where they are on the CPU already; contiguous, as safetensors wants them.
        # Of several processes all take part, and rank 0 has it.
        model, optimizer = (
            {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in tensors if state.processes.is_first}
            for tensors in (state.model_tensors(), state.optimizer_tensors())
        )
        return cls(model, optimizer, {**state.scalars(), **scalars}, about or {})


def stored_step(path: Path) -> int:
    found = CHECKPOINT_NAME.fullmatch(path.name)
    if found is None:
        raise UserError(f"{path} is not the folder of a checkpoint; they are called step_00001000")
    return int(found[1])


def had_some(folder: Path) -> bool:
    """Whether there is a trace of checkpoints that are gone: a damaged one moved aside, a link to nowhere."""
    return any(folder.glob(f"{DAMAGED}*")) or (folder.is_symlink() and not folder.exists())


def clean_up(folder: Path) -> None:
    """Restore or remove what kills have left half written, half replaced or half removed; needs the run's lock."""
    for path in folder.glob(f"{REPLACED}*"):
        final = path.with_name(path.name.removeprefix(REPLACED))
        if not final.exists():
            os.rename(path, final)
    for prefix in (REPLACED, TEMPORARY, RETIRED):
        for path in folder.glob(f"{prefix}*"):
            shutil.rmtree(path, ignore_errors=True)


def remove(path: Path) -> None:
    """Rename, then remove: a kill in between leaves nothing that looks like a checkpoint."""
    shutil.rmtree(_renamed(path, RETIRED), ignore_errors=True)


def _renamed(path: Path, prefix: str) -> Path:
    target = path.with_name(f"{prefix}{path.name}")
    shutil.rmtree(target, ignore_errors=True)
    os.rename(path, target)
    return target


def write(snapshot: Snapshot, folder: Path, before_publishing: Callable[[], None] = lambda: None) -> Path:
    """Write a snapshot into the folder of the run's checkpoints, and return its own folder there.

    A run is a function of its configuration, so a sound checkpoint of the same step is the same checkpoint and stays,
    unless its hooks were cut short then and are not now, or it is to become a rewind point. `before_publishing` forces
    to disk what the checkpoint refers to. Where the disk is full or gone (OSError) what was begun is removed and the
    checkpoints before are untouched; weights that are not finite are Diverged.
    """
    step = snapshot.scalars["step"]
    final, there = folder / f"step_{step:08d}", None
    if final.exists():
        with contextlib.suppress(DamagedCheckpoint):
            there = read(final)
            lacks_hooks = there.scalars["unfinished"] is not None and snapshot.scalars["unfinished"] is None
            lacks_point = snapshot.manifest.get("rewind_point") and not there.manifest.get("rewind_point")
            if not lacks_hooks and not lacks_point:
                return final
    for name, tensor in snapshot.model.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise Diverged(f"diverged at step {step}: {name} is not finite")
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for parent in list(folder.absolute().parents)[:3]:  # of the run, its study, all outputs: may be new too
            with contextlib.suppress(PermissionError):  # a folder above ours that we may not read
                fsync(parent)
    temporary = folder / f"{TEMPORARY}{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        files = {
            MODEL: _write_file(temporary / MODEL, safetensors.torch.save(snapshot.model)),
            OPTIMIZER: _write_file(temporary / OPTIMIZER, safetensors.torch.save(snapshot.optimizer)),
            STATE: _write_file(temporary / STATE, to_json(snapshot.scalars) + b"\n"),
        }
        manifest = {"format": FORMAT_VERSION, "step": step, "files": files, **snapshot.manifest}
        manifest["sha256"] = manifest_sha256(manifest)
        write_new(temporary / MANIFEST, to_json(manifest) + b"\n")
        fsync(temporary)
        before_publishing()
        if final.exists():
            _renamed(final, DAMAGED if there is None else REPLACED)
        os.rename(temporary, final)
        fsync(folder)
    finally:
        clean_up(folder)  # after a failure what was to be replaced comes back
    return final


def _write_file(path: Path, content: bytes) -> dict[str, Any]:
    """Return what the manifest is to say of the file: of the content meant, not of what is read back."""
    write_new(path, content)
    return fingerprint(content)


def fingerprint(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def manifest_sha256(manifest: Mapping[str, Any]) -> str:
    content = to_json({key: value for key, value in manifest.items() if key != "sha256"})
    return hashlib.sha256(content).hexdigest()


def read(path: Path) -> Snapshot:
    """Return all of one checkpoint, verified, in the present format. Raises DamagedCheckpoint where it is not sound."""
    manifest = read_manifest(path)
    model, optimizer = _tensors(path, manifest, MODEL), _tensors(path, manifest, OPTIMIZER)
    scalars = _parsed(path / STATE, _verified(path, manifest, STATE))
    if scalars.get("step") != manifest["step"]:
        raise DamagedCheckpoint(f"{path} is damaged: its state is of step {shown(scalars.get('step'))}")
    if manifest["format"] == 2:
        scalars |= {**ADDED_IN_FORMAT_3, "batch": scalars["step"]}
    return Snapshot(model, optimizer, scalars, manifest)


def read_model(path: Path) -> dict[str, Tensor]:
    """Return the model tensors of one checkpoint; raises as `read`."""
    return _tensors(path, read_manifest(path), MODEL)


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of one checkpoint; what it says of the files is not checked here. Raises as `read`."""
    try:
        content = read_file(path / MANIFEST, 1 << 20)
    except (OSError, UserError) as error:
        raise DamagedCheckpoint(f"{path} is damaged: {error}") from error
    manifest = _parsed(path / MANIFEST, content)
    version, files = manifest.get("format"), manifest.get("files")
    if not isinstance(version, int) or not OLDEST_FORMAT <= version <= FORMAT_VERSION:
        raise DamagedCheckpoint(
            f"{path} has format {shown(version)}; this version of atomiclm reads {OLDEST_FORMAT} to {FORMAT_VERSION}"
        )
    if version > 2 and manifest.get("sha256") != manifest_sha256(manifest):
        raise DamagedCheckpoint(f"{path} is damaged: {MANIFEST} is not what was saved")
    if manifest.get("step") != stored_step(path):
        raise DamagedCheckpoint(f"{path} is damaged: its manifest is of step {shown(manifest.get('step'))}")
    known = files if isinstance(files, dict) else {}
    if not all(isinstance(known.get(name), dict) and isinstance(known[name].get("sha256"), str) for name in FILES):
        raise DamagedCheckpoint(f"{path} is damaged: its manifest has no sha256 of each of {', '.join(FILES)}")
    return manifest


def newest_sound(run: RunFolder, say: Callable[[str], None]) -> Path:
    """Return the newest checkpoint of `run` whose weights are what was written; `say` is called for each damaged one,
    and UserError says what to do where there is none."""
    folder = run.checkpoints
    if (found := _first_sound(checkpoints_in(folder), read_model, folder)) is not None:
        path, _, damaged = found
        for error in damaged.values():
            say(f"{error}; taking {path.name}")
        return path
    has_ended = run.read_summary().get("state") in ("done", "diverged")
    if has_ended or any(row.get("event") == "checkpoint" for row in run.read_rows()):
        raise UserError(f"the checkpoints of {run.path} are gone from {folder}; {run.train_again()}")
    raise UserError(
        f"{folder} has no checkpoint yet; the first comes after runtime.checkpoint_every_seconds, or at the end: wait "
        f"for it, or type: {run.command() or 'the command that started the run'}"
    )


def final_checkpoint(run: RunFolder) -> Path:
    """Return the last checkpoint of a run that is done; UserError: it is not done, or its checkpoints are gone."""
    saved = checkpoints_in(run.checkpoints)
    if not saved:
        return newest_sound(run, print)  # which says why there are none
    summary, names = run.read_summary(), ", ".join(one.name for one in saved)
    if summary.get("state") != "done":
        raise UserError(f"{run.path} has not ended, so name one of its checkpoints: {names}")
    if summary.get("step") != stored_step(saved[0]):
        rule = f"the last checkpoint of {run.path}, of step {shown(summary.get('step'))}, is gone"
        raise UserError(f"{rule}; name one of its others: {names}")
    return saved[0]


def resume(state: TrainState, folder: Path, say: Callable[[str], None]) -> Snapshot | None:
    """Restore the newest sound checkpoint under `folder`, and return it; None where there is none to restore.

    A damaged one is reported and moved out of the way, and the one before is tried. Needs the run's lock.

    Raises:
        DamagedCheckpoint: there are checkpoints and none is sound.
        OtherModel: a sound checkpoint is of another model; the message names what differs.
    """
    if not state.processes.is_first:
        return _follow(state)
    clean_up(folder)
    return _restore_newest(state, checkpoints_in(folder), folder, say)


def rewind(state: TrainState, folder: Path, say: Callable[[str], None]) -> None:
    """Restore the newest sound rewind point, and remove the checkpoints beyond it. Raises DamagedCheckpoint if there is
    none."""

    def may_be_rewind_point(path: Path) -> bool:
        try:
            return bool(read_manifest(path).get("rewind_point"))
        except DamagedCheckpoint:
            return True  # to be reported as damaged, not passed over

    if not state.processes.is_first:
        _follow(state)
        return
    if _restore_newest(state, filter(may_be_rewind_point, checkpoints_in(folder)), folder, say) is None:
        raise DamagedCheckpoint(f"{folder} has no checkpoint to rewind to")
    for path in checkpoints_in(folder):
        if stored_step(path) > state.step:
            remove(path)


def _restore_newest(
    state: TrainState, paths: Iterable[Path], folder: Path, say: Callable[[str], None]
) -> Snapshot | None:
    def restore(path: Path) -> Snapshot:
        return _restore(state, path, state.processes.from_first(read(path)))

    try:
        found = _first_sound(paths, restore, folder)
    except DamagedCheckpoint:
        state.processes.from_first(None)
        raise
    if found is None:
        state.processes.from_first(None)
        return None
    path, content, damaged = found
    # Only with a sound one in hand: if there were none, the next start must find them and refuse as this one does.
    for other, error in damaged.items():
        say(f"{error}; moved to {_renamed(other, DAMAGED).name}, resuming from {path.name}")
    return content


def _follow(state: TrainState) -> Snapshot | None:
    """What `_restore_newest` is in the other processes: they restore what rank 0 has read, as often as it does."""
    while (content := state.processes.from_first(cast(Snapshot | None, None))) is not None:
        with contextlib.suppress(DamagedCheckpoint):
            return _restore(state, Path(), content)
    return None


def _restore(state: TrainState, path: Path, content: Snapshot) -> Snapshot:
    try:
        state.restore(content.scalars, content.model, content.optimizer)
    except OtherModel as error:
        raise OtherModel(f"{path}: {shown(str(error), 1000)}") from None
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError) as error:
        # The hashes are right, so another program wrote it like this.
        raise DamagedCheckpoint(f"{path} is damaged: its state is invalid ({shown(error)})") from error
    return content


def _first_sound[T](
    paths: Iterable[Path], use: Callable[[Path], T], folder: Path
) -> tuple[Path, T, dict[Path, DamagedCheckpoint]] | None:
    """Return the first of `paths` that `use` does not find damaged, what that gave, and the damaged ones before it;
    None where there are no paths."""
    damaged: dict[Path, DamagedCheckpoint] = {}
    for path in paths:
        try:
            return path, use(path), damaged
        except DamagedCheckpoint as error:
            damaged[path] = error
    if not damaged:
        return None
    raise DamagedCheckpoint(
        f"no checkpoint under {folder} is sound: {'; '.join(map(str, damaged.values()))}. "
        f"Remove {folder.parent} to train from the start."
    )


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
    if fingerprint(content) != expected:
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
        if not isinstance(value, dict):
            raise UserError("it holds no JSON object")
        return value
    except UserError as error:
        raise DamagedCheckpoint(f"{file} is damaged: {shown(str(error))}") from error


def shown(value: object, limit: int = 120) -> str:
    """Return a value out of a file for a message: printable, and no longer than `limit` characters."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= limit else f"{text[:limit]}..."
