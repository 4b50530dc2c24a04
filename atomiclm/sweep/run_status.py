"""How far a run is, as its folder says: what a sweep still has to train, can take over, or must not mix."""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atomiclm.cli import UserError
from atomiclm.config.load import corpus_sha256
from atomiclm.config.run import RunConfig, code_hashes, defining
from atomiclm.tracking import RunFolder, write_summary
from atomiclm.tracking.run_folder import digest_of

LOG = "log.txt"
"""In a run folder: what a cell of a sweep prints."""


def summary_of(folder: RunFolder) -> dict[str, Any]:
    """The run's summary; empty where there is none yet."""
    return folder.read_summary() if os.path.lexists(folder.summary) else {}


def ended(folder: RunFolder) -> dict[str, Any] | None:
    """Return the summary of a run that needs no more training, and lacks no file that training writes; or None."""
    summary = summary_of(folder)
    files = (folder.config, folder.environment, folder.tokenizer)
    is_whole = all(map(os.path.lexists, files)) and any(folder.checkpoints.glob("step_*/manifest.json"))
    is_ended = summary.get("state") == "diverged" or (summary.get("state") == "done" and is_whole)
    return summary if is_ended else None


def take_over(run: RunConfig) -> Path | None:
    """Copy the run from the folder of another study that has trained it to its end; return that, None where none has.

    Runs are functions of what defines them, so the baseline of one study may be an arm of the next. Only of runs on
    this machine, of the same configuration and text, under the same output_dir; the W&B mirror is not copied.
    """
    folder = run.folder
    if folder.exists() and any(path.name != LOG for path in folder.iterdir()):
        return None
    for twin in sorted(Path(run.values["output_dir"]).glob(f"*/*-{digest_of(run.run_id)}")):
        summary = ended(RunFolder(twin))
        if summary is None or not _is_defined_as(run, RunFolder(twin)):
            continue
        if summary["corpus_sha256"] != corpus_sha256(run.values):
            continue
        folder.parent.mkdir(parents=True, exist_ok=True)
        copy = Path(tempfile.mkdtemp(prefix=".taken-", dir=folder.parent))
        try:
            ignored = shutil.ignore_patterns("wandb", ".lock", LOG)
            shutil.copytree(twin, copy, ignore=ignored, dirs_exist_ok=True)
            (copy / "config.yaml").write_text(run.to_yaml(), encoding="utf-8")
            names = {"name": run.values["name"], "run_id": run.run_id, "taken_over_from": str(twin)}
            write_summary(copy / "summary.json", {**summary, **names})
            copy.chmod(0o755)
            if folder.exists():  # all it holds is what a cell printed before it was refused
                (folder / LOG).unlink(missing_ok=True)
                folder.rmdir()
            os.rename(copy, folder)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        return twin
    return None


def _is_defined_as(run: RunConfig, folder: RunFolder) -> bool:
    """Whether a folder holds a run of this configuration, whatever hash is in its name."""
    mine = defining(run.values)
    try:
        return defining(folder.read_config()) == mine
    except (UserError, ValueError, TypeError):  # no configuration of ours
        return False


def refuse_other_text(folder: RunFolder, now: str) -> None:
    """Raise UserError where a run was trained on another text than is there `now`, of that sha256.

    The text behind a path, or behind another Python, may have changed since.
    """
    known = summary_of(folder).get("corpus_sha256")
    if known not in (None, now):
        raise UserError(
            f"{folder.path} was trained on another text (corpus sha256 {known[:12]}, now {now[:12]}); "
            "restore the text, or give another name=..."
        )


def refuse_other_texts(runs: Sequence[RunConfig]) -> None:
    """Raise UserError where one of `runs` was trained on another text: figures of a sweep would be of two texts."""
    now: dict[str, str] = {}
    for run in runs:
        key = json.dumps(run.values["data"], sort_keys=True)
        if key not in now:
            now[key] = corpus_sha256(run.values)
        refuse_other_text(RunFolder(run.folder), now[key])


def of_other_code(runs: Sequence[RunConfig]) -> list[RunConfig]:
    """Those of finished runs that another version of atomiclm's code trained, or of a user's own module."""
    others = []
    for run in runs:
        now = code_hashes(run.values)
        try:
            made_by = RunFolder(run.folder).read_environments()[-1]
        except UserError:
            continue
        if any(made_by.get(name) not in (None, digest) for name, digest in now.items()):
            others.append(run)
    return others
