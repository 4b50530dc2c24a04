"""What a run was made from and what it made, as W&B artifacts, so that W&B draws the lineage."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from atomiclm.atomic_io import to_json
from atomiclm.tracking.run_folder import RunFolder

Artifacts = Literal["none", "small", "all"]
"""none; small: the tokenizer and the facts about the corpus, some kilobytes; all: the newest checkpoint as well."""

CORPUS_FACTS = ("corpus_sha256", "validation_sha256", "validation_bytes", "train_bytes", "train_tokens", "vocab_size")
"""What the data artifact says of the corpus. Its shards stay where they are: they can be made again, and checked."""


def log_artifacts(run: Any, folder: RunFolder, which: Artifacts) -> None:
    """Send the artifacts of a run: first what it used, then what it made.

    W&B compares contents: a tokenizer that a hundred runs share is one version, used by a hundred runs.

    Args:
        run: the W&B run, online.
        folder: the run's folder.
        which: how much; what the folder does not have (a run that has not begun has no checkpoint) is left out.
    """
    if which == "none":
        return
    summary = folder.read_summary()
    if folder.tokenizer.is_file():
        sha256 = hashlib.sha256(folder.tokenizer.read_bytes()).hexdigest()
        facts = {"sha256": sha256, "vocab_size": summary.get("vocab_size")}
        run.use_artifact(_artifact(f"tokenizer-{sha256[:12]}", "tokenizer", facts, [folder.tokenizer]))
    if "corpus_sha256" in summary:
        manifest = {key: summary[key] for key in CORPUS_FACTS if key in summary}
        # A run's own setting of where the text lies says nothing to others, and would make each machine's corpus new.
        source = {key: value for key, value in folder.read_config().get("data", {}).items() if key != "path"}
        facts = {**manifest, "source": source}
        name = f"data-{summary['corpus_sha256'][:12]}"
        run.use_artifact(_artifact(name, "data", facts, [], {"manifest.json": to_json(facts, indent=2).decode()}))
    checkpoint = newest_checkpoint(folder) if which == "all" else None
    if checkpoint is not None:
        files = sorted(path for path in checkpoint.iterdir() if path.is_file())
        manifest_sha256 = hashlib.sha256((checkpoint / "manifest.json").read_bytes()).hexdigest()
        facts = {"sha256": manifest_sha256, "step": int(checkpoint.name.partition("_")[2]), "state": summary["state"]}
        facts |= {"variant": summary["variant"], "seed": summary.get("seed")}
        artifact = _artifact(f"checkpoint-{run.id}", "model", facts, files)
        run.log_artifact(artifact, aliases=["latest", checkpoint.name])


def newest_checkpoint(folder: RunFolder) -> Path | None:
    """Return the newest complete checkpoint: its manifest is written last."""
    complete = sorted(folder.checkpoints.glob("step_*/manifest.json"))
    return complete[-1].parent if complete else None


def within(seconds: float, action: Callable[[], None]) -> None:
    """Do something that has no timeout of its own, and wait so long for it.

    Raises:
        TimeoutError: it is still not done; it goes on in a thread that does not keep the process alive.
        Exception: whatever it raised.
    """
    raised: list[Exception] = []

    def act() -> None:
        try:
            action()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"not done after {seconds:g} s")
    if raised:
        raise raised[0]


def _artifact(
    name: str, kind: str, metadata: dict[str, Any], files: list[Path], texts: dict[str, str] | None = None
) -> Any:
    """Make a W&B artifact of files that stay where they are, and of texts."""
    from wandb import Artifact

    artifact = Artifact(name, type=kind, metadata=metadata)
    for path in files:
        artifact.add_file(str(path), policy="immutable", skip_cache=True)  # otherwise wandb copies it, twice
    for file_name, text in (texts or {}).items():
        with artifact.new_file(file_name, mode="w", encoding="utf-8") as file:
            file.write(text)
    return artifact
