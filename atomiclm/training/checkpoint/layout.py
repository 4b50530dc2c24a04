"""The names in a checkpoint folder, and what is asked of every file in it."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atomiclm.atomic_io import to_json
from atomiclm.user_error import UserError

FORMAT_VERSION = 3
MANIFEST, MODEL, OPTIMIZER, STATE = "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"
FILES = (MODEL, OPTIMIZER, STATE)
"""What a manifest vouches for."""

TEMPORARY, RETIRED, REPLACED, DAMAGED = ".tmp-", ".old-", ".replaced-", "damaged_"
_NAME = re.compile(r"step_(\d{8,18})")


class DamagedCheckpoint(UserError):
    """A checkpoint whose files are not what its manifest says, or do not say what a checkpoint says."""


def name_of(step: int) -> str:
    """Return the folder's name of the checkpoint after `step` optimizer steps."""
    return f"step_{step:08d}"


def stored_step(path: Path) -> int:
    """Return the step that a checkpoint folder's name says."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise UserError(f"{path} is not the folder of a checkpoint; they are called {name_of(1000)}")
    return int(found[1])


def candidates(folder: Path) -> list[Path]:
    """Return the checkpoints under `folder`, newest first; whether they are sound only `read` tells.

    One without a manifest is among them: a folder gets its name when it is whole, so it has lost the manifest since.
    """
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=stored_step, reverse=True)


def had_some(folder: Path) -> bool:
    """Whether something here tells of checkpoints that are no more: a damaged one put aside, a link to nowhere."""
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


def shown(value: object, limit: int = 120) -> str:
    """Return what a message says of a value out of a file: printable, and no longer than `limit` characters."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= limit else f"{text[:limit]}..."
