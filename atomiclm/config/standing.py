"""What there is of a run before it is trained: ended, ended under another study's name, or made of another text."""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atomiclm.cache_folder import default_cache_dir
from atomiclm.config.build import build
from atomiclm.config.identity import defining
from atomiclm.config.launching import show
from atomiclm.config.run import RunConfig
from atomiclm.data import corpus_sha256
from atomiclm.tracking import RunFolder, are_one_run, code_of, write_summary
from atomiclm.user_error import UserError

_NOT_TAKEN = ("wandb", ".lock", "log.txt")
_SHOWN = 3


def ended(folder: RunFolder) -> dict[str, Any] | None:
    """Return the summary of a run that needs no more training, and lacks no file that training writes; or None."""
    summary = summary_of(folder)
    files = (folder.config, folder.environment, folder.tokenizer)
    is_whole = all(map(os.path.lexists, files)) and any(folder.checkpoints.glob("step_*/manifest.json"))
    is_ended = summary.get("state") == "diverged" or (summary.get("state") == "done" and is_whole)
    return summary if is_ended else None


def summary_of(folder: RunFolder) -> dict[str, Any]:
    """The run's summary; empty where there is none yet."""
    return folder.read_summary() if os.path.lexists(folder.summary) else {}


def take_over(run: RunConfig) -> RunFolder | None:
    """Copy the run from the folder of another study that has trained it to its end; None where none has.

    Runs are functions of what defines them, so the baseline of one study may be an arm of the next. Only of runs on
    this machine, of the same configuration and text, under the same output_dir; the W&B mirror is not copied.
    """
    folder = RunFolder(run.folder)
    if folder.path.exists():
        return None
    for twin in sorted(Path(run.values["output_dir"]).glob("*/*-*")):
        if not are_one_run(twin.name, run.run_id):
            continue
        summary = ended(RunFolder(twin))
        if summary is None or not _is_defined_as(run, RunFolder(twin)):
            continue
        if summary["corpus_sha256"] != _corpus_sha256(run):
            continue
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        copy = Path(tempfile.mkdtemp(prefix=".taken-", dir=folder.path.parent))
        try:
            shutil.copytree(twin, copy, ignore=shutil.ignore_patterns(*_NOT_TAKEN), dirs_exist_ok=True)
            (copy / "config.yaml").write_text(run.to_yaml(), encoding="utf-8")
            names = {"name": run.values["name"], "run_id": run.run_id, "taken_over_from": str(twin)}
            write_summary(copy / "summary.json", {**summary, **names})
            copy.chmod(0o755)
            os.rename(copy, folder.path)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        show([f"{folder.path.name}: taken over from {twin}"])
        return folder
    return None


def _is_defined_as(run: RunConfig, folder: RunFolder) -> bool:
    """Whether a folder holds a run of this configuration, whatever hash is in its name."""
    mine = defining(run.values)
    try:
        return defining(folder.read_config()) == mine
    except (UserError, ValueError, TypeError):  # no configuration of ours
        return False


def refuse_other_text(folder: RunFolder, corpus_sha256: str) -> None:
    """Raise UserError where a run was trained on another text than is there now.

    The text behind a path, or behind another Python, may have changed since.
    """
    known = summary_of(folder).get("corpus_sha256")
    if known not in (None, corpus_sha256):
        raise UserError(
            f"{folder.path} was trained on another text (corpus sha256 {known[:12]}, now {corpus_sha256[:12]}); "
            "restore the text, or give another name=..."
        )


def refuse_other_texts(runs: Sequence[RunConfig]) -> None:
    """Raise UserError where one of `runs` was trained on another text: figures of a sweep would be of two texts."""
    now: dict[str, str] = {}
    for run in runs:
        key = json.dumps(run.values["data"], sort_keys=True)
        if key not in now:
            now[key] = _corpus_sha256(run)
        refuse_other_text(RunFolder(run.folder), now[key])


def _corpus_sha256(run: RunConfig) -> str:
    cache_dir = run.values["cache_dir"]
    return corpus_sha256(build(run.values["data"]), Path(cache_dir) if cache_dir else default_cache_dir())


def note_other_code(folders: Sequence[RunFolder]) -> None:
    """Say aloud which finished runs were made by other code than is there now; they are kept."""
    mine = code_of()
    others = [folder for folder in folders if _made_by(folder) not in (None, mine)]
    if others:
        named = ", ".join(folder.run_id for folder in others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
        show(
            [
                f"note: {len(others)} finished runs were made by other code of atomiclm than this ({named}); "
                "remove their folders to train them anew"
            ]
        )


def _made_by(folder: RunFolder) -> str | None:
    try:
        return folder.read_environments()[-1].get("code_sha256")
    except UserError:
        return None
