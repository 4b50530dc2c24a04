"""The names in a folder of checkpoints, and how a checkpoint changes its name: each way in one atomic rename."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomiclm.atomic_io import fsync, to_json
from atomiclm.cli import UserError
from atomiclm.tracking.run_folder import CHECKPOINT_NAME

FORMAT_VERSION = 3
MANIFEST, MODEL, OPTIMIZER, STATE = "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"
FILES = (MODEL, OPTIMIZER, STATE)
"""What a manifest vouches for."""

TEMPORARY, RETIRED, REPLACED, DAMAGED = ".tmp-", ".old-", ".replaced-", "damaged_"


class DamagedCheckpoint(UserError):
    """A checkpoint whose files are not what its manifest says, or do not say what a checkpoint says."""


def name_of(step: int) -> str:
    """Return the name of the folder of the checkpoint after `step` optimizer steps."""
    return f"step_{step:08d}"


def stored_step(path: Path) -> int:
    """Return the step that the name of a checkpoint's folder says."""
    found = CHECKPOINT_NAME.fullmatch(path.name)
    if found is None:
        raise UserError(f"{path} is not the folder of a checkpoint; they are called {name_of(1000)}")
    return int(found[1])


def had_some(folder: Path) -> bool:
    """Whether there is a trace of checkpoints that are gone: a damaged one moved aside, a link to nowhere."""
    if folder.is_symlink() and not folder.exists():
        return True
    return folder.is_dir() and any(path.name.startswith(DAMAGED) for path in folder.iterdir())


def fingerprint(content: bytes) -> dict[str, Any]:
    """Return what a manifest says of a file's content."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def manifest_sha256(manifest: Mapping[str, Any]) -> str:
    """Return the hash that a manifest carries of the rest of itself."""
    content = to_json({key: value for key, value in manifest.items() if key != "sha256"})
    return hashlib.sha256(content).hexdigest()


def quarantine(path: Path) -> Path:
    """Move a damaged checkpoint to a name that nothing reads, in place of an older one of that name."""
    target = _renamed(path, DAMAGED)
    fsync(path.parent)
    return target


def set_aside(path: Path) -> Path:
    """Move a checkpoint that a newer one of the same step replaces to a name from which `clean_up` restores it."""
    return _renamed(path, REPLACED)


def remove(path: Path) -> None:
    """Rename, then remove: a kill in between leaves nothing that looks like a checkpoint."""
    shutil.rmtree(_renamed(path, RETIRED), ignore_errors=True)


def clean_up(folder: Path) -> None:
    """Restore or remove what kills have left half written, half replaced or half removed; needs the run's lock."""
    for path in folder.glob(f"{REPLACED}*"):
        final = path.with_name(path.name.removeprefix(REPLACED))
        if not final.exists():
            os.rename(path, final)
        shutil.rmtree(path, ignore_errors=True)
    for prefix in (TEMPORARY, RETIRED):
        for path in folder.glob(f"{prefix}*"):
            shutil.rmtree(path, ignore_errors=True)


def _renamed(path: Path, prefix: str) -> Path:
    target = path.with_name(f"{prefix}{path.name}")
    shutil.rmtree(target, ignore_errors=True)
    os.rename(path, target)
    return target
