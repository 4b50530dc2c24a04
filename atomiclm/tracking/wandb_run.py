"""What W&B gets of a run: description, rows, summary, artifacts; all from its folder, so that `sync` sends the same."""

import hashlib
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomiclm.atomic_io import from_json, to_json
from atomiclm.tracking.record import AXES
from atomiclm.tracking.run_folder import RunFolder, checkpoints_in
from atomiclm.tracking.run_result import error_line, flatten

LONGEST_NAME, LONGEST_TAG = 128, 64
# Of `summary.json`: which run it is, at the top of W&B's configuration; what became of it, beside names with a '/'.
IDENTITY = ("name", "run_id", "variant", "seed")
RESULTS = (
    *AXES,
    "state",
    "error",
    "best",
    "anchors",
    "tokens_per_second",
    "decode_tokens_per_second",
    "cpu_seconds",
    "peak_memory_bytes",
)
NOT_SENT = ("command", "variables")  # of `environment.json`: they are full of this machine's paths
# Exit code of a run that is to be resumed: W&B shows one that was marked so before as preempted, and a sweep's agent
# hands it out again (docs.wandb.ai, "Signal handling and sweep runs").
INTERRUPTED = 75
# What the data artifact says of the corpus. Its shards stay where they are: they can be made again, and checked.
CORPUS_FACTS = ("corpus_sha256", "validation_sha256", "validation_bytes", "train_bytes", "train_tokens", "vocab_size")


@dataclass(frozen=True)
class Place:
    """The place of a run in its sweep; nothing where it is in none."""

    arm: str = ""  # its arm's label: "kv1 theta1e5 gelu"
    factors: Mapping[str, str | float] = field(default_factory=dict)  # the arm's level of each factor, by its name
    question: str = ""  # the study's


def factor_key(name: str) -> str:
    """A factor's key in W&B's configuration; a dot there would mean a key within a key."""
    return f"factor/{name.replace('.', '/')}"


def describe(folder: RunFolder, place: Place, tags: Sequence[str]) -> dict[str, Any]:
    """The arguments of `wandb.init` that say what the run is; UserError where a file of its is missing or damaged.

    The configuration is the run's own, nested as in config.yaml, and beside it `study`, `arm` and `factor/...` (where
    known), `variant` (all but the seed, by which W&B's tables cannot group), `run_id`, `derived` (what follows from the
    configuration: parameters, FLOPs, hashes of the corpus) and `environment` (of the last process that trained it).
    """
    config, summary, process = folder.read_config(), folder.read_summary(), folder.read_environments()[-1]
    study, variant = str(summary.get("name", folder.name)), str(summary["variant"])
    config |= {"study": study, "variant": variant, "run_id": folder.run_id} | ({"arm": place.arm} if place.arm else {})
    config |= {factor_key(name): level for name, level in place.factors.items()}
    derived = [key for key in summary if key not in (*IDENTITY, *RESULTS) and "/" not in key]
    config["derived"] = {key: summary[key] for key in derived}
    config["environment"] = {key: value for key, value in process.items() if key not in NOT_SENT}
    return {
        "id": wandb_id(folder),
        "name": (f"{place.arm} s{summary['seed']}" if place.arm else folder.run_id)[:LONGEST_NAME],
        "group": f"{study}/{place.arm or variant}"[-LONGEST_NAME:],  # the seeds of one configuration
        "job_type": "train",
        "notes": place.question or None,
        "tags": [study[:LONGEST_TAG], *tags],
        "config": config,
    }


def wandb_id(folder: RunFolder) -> str:
    """The id of this folder's run in W&B, chosen once and saved in `wandb/id`; under an agent the one it waits for.

    The run's hash alone would be that of the same configuration trained elsewhere, or before `outputs/` was emptied,
    and W&B would append to that run's history.
    """
    file = folder.wandb / "id"
    if not file.is_file():
        folder.wandb.mkdir(parents=True, exist_ok=True)
        digest = re.sub(r"[^\w.=-]", "_", folder.run_id.rpartition("-")[2][:40])
        given = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
        file.write_text(given or f"{digest}-{secrets.token_hex(3)}", encoding="utf-8")
    return file.read_text(encoding="utf-8")


def exit_code(summary: Mapping[str, Any]) -> int:
    """0 for a run that is done, shown as finished; 75 for one to be resumed; 1 for others, shown as failed."""
    return {"done": 0, "interrupted": INTERRUPTED, "running": INTERRUPTED}.get(str(summary.get("state")), 1)


def final_figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    """W&B's summary at the end; final validation figures come as "final/...", for the last rows left others there."""
    results = {key: value for key, value in summary.items() if key in RESULTS or "/" in key}
    final = {re.sub(r"^validation/", "final/", key): value for key, value in figures(results).items()}
    final["state"] = str(summary.get("state", "running"))
    if error := summary.get("error"):
        final["error"] = error_line(error)
    return final


def figures(values: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a nested mapping under names joined by '/', which W&B groups its panels by."""
    return {key: value for key, value in flatten(values, "/") if isinstance(value, int | float)}


class Rows:
    """Passes the rows of a `metrics.jsonl` on to one W&B run, in order; the first `held` the server has already.

    Every row has all four axes, and `tokens` is the default one. Never `step=`: wandb drops rows whose step is not
    larger than the last. Samples are one table with all texts so far, in the summary, where W&B's table panel looks for
    it. Checkpoints' own rows stay out: they come by the clock, so a resumed run has them elsewhere.
    """

    def __init__(self, path: Path, run: Any, held: int) -> None:
        self.path, self.run, self.held = path, run, held
        self.number, self._offset = 0, 0  # rows and bytes that were read
        self._samples: list[list[Any]] = []
        run.define_metric("*", step_metric="tokens")

    def send(self) -> bool:
        """Pass on the complete lines that were appended since the last call; returns whether there were any rows."""
        number, samples = self.number, len(self._samples)
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # being written
                self._offset += len(line)
                row = from_json(line)
                if row["event"] == "checkpoint":
                    continue
                for sample in row.get("samples", ()):
                    self._samples.append([row["step"], row["tokens"], sample["prompt"], sample["text"]])
                if self.number >= self.held:
                    self.run.log(figures(row))
                self.number += 1
        if len(self._samples) > samples:
            from wandb import Table

            table = Table(columns=["step", "tokens", "prompt", "text"], data=list(self._samples))
            self.run.summary.update({"samples": table})
        return self.number > number


def log_artifacts(run: Any, folder: RunFolder, checkpoint: bool) -> None:
    """Send what an online run used and made, for W&B's lineage; by content: runs share one version of a tokenizer."""
    from wandb import Artifact

    def artifact(name: str, kind: str, metadata: Mapping[str, Any], files: Sequence[Path]) -> Any:
        made = Artifact(name, type=kind, metadata=dict(metadata))
        for path in files:
            made.add_file(str(path), policy="immutable", skip_cache=True)  # else wandb copies it, twice
        return made

    summary = folder.read_summary()
    sha256 = hashlib.sha256(folder.tokenizer.read_bytes()).hexdigest()
    facts = {"sha256": sha256, "vocab_size": summary.get("vocab_size")}
    run.use_artifact(artifact(f"tokenizer-{sha256[:12]}", "tokenizer", facts, [folder.tokenizer]))
    # A run's own setting of where the text lies says nothing to others, and would make each machine's corpus new.
    source = {key: value for key, value in folder.read_config().get("data", {}).items() if key != "path"}
    manifest = {key: summary[key] for key in CORPUS_FACTS if key in summary} | {"source": source}
    data = artifact(f"data-{summary['corpus_sha256'][:12]}", "data", manifest, [])
    with data.new_file("manifest.json", mode="w", encoding="utf-8") as file:
        file.write(to_json(manifest, indent=2).decode())
    run.use_artifact(data)
    complete = [path for path in checkpoints_in(folder.checkpoints) if (path / "manifest.json").is_file()]
    if checkpoint and complete:
        newest = complete[0]
        sha256 = hashlib.sha256((newest / "manifest.json").read_bytes()).hexdigest()
        facts = {"sha256": sha256, "step": int(newest.name.partition("_")[2])}
        facts |= {key: summary.get(key) for key in ("state", "variant", "seed")}
        files = sorted(path for path in newest.iterdir() if path.is_file())
        run.log_artifact(artifact(f"checkpoint-{run.id}", "model", facts, files), aliases=["latest", newest.name])
