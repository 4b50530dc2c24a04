"""What W&B gets of a run, all of it read from the run's own folder: description, rows, summary and artifacts.

So the live mirror and `python -m atomiclm.sync`, weeks later and elsewhere, send the same.
"""

import hashlib
import math
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from atomiclm.atomic_io import from_json, to_json
from atomiclm.tracking.record import AXES
from atomiclm.tracking.run_folder import RunFolder, checkpoints_in

LONGEST_NAME = 128
LONGEST_TAG = 64

IDENTITY = ("name", "run_id", "variant", "seed")
"""Entries of `summary.json` that say which run it is; they are at the top of W&B's configuration."""

RESULTS = (*AXES, "state", "error", "best", "anchors", "tokens_per_second", "decode_tokens_per_second", "cpu_seconds")
"""Entries of `summary.json` that say what became of the run, besides those with a '/' in their names."""

NOT_SENT = ("command", "variables")
"""Entries of `environment.json` that stay on this machine: they are full of its paths."""

NOT_MIRRORED = ("checkpoint",)
"""Events that stay out of W&B: they have no figures, and come by the clock, so a resumed run has them elsewhere."""

HIGHER_IS_BETTER = ("accuracy",)
"""Last parts of the names of figures whose best value is the largest; of all others it is the smallest."""

SAMPLE_COLUMNS = ("step", "tokens", "prompt", "text")

TABLE_SECONDS = 5.0
"""How long the table of samples may hold up the rows behind it."""

Artifacts = Literal["none", "small", "all"]
"""none; small: the tokenizer and the facts about the corpus, some kilobytes; all: the newest checkpoint as well."""

CORPUS_FACTS = ("corpus_sha256", "validation_sha256", "validation_bytes", "train_bytes", "train_tokens", "vocab_size")
"""What the data artifact says of the corpus. Its shards stay where they are: they can be made again, and checked."""


# ---------------------------------------------------------------------------------------------------------------------
# Description.


def described(folder: RunFolder, arm: str | None = None) -> dict[str, Any]:
    """Return the arguments of `wandb.init` that say what the run is.

    The configuration is the run's own, nested as in config.yaml, and beside it `study`, `arm` (if it is known),
    `variant` (all but the seed: W&B's tables cannot group by that themselves), `run_id`, `derived` (what follows from
    the configuration: parameters, FLOPs, hashes of the corpus) and `environment` (versions, commit and machine of the
    last process that trained the run).

    Raises:
        UserError: config.yaml, environment.json or summary.json is missing or damaged.
    """
    config, summary, process = folder.read_config(), folder.read_summary(), folder.read_environments()[-1]
    environment = {key: value for key, value in process.items() if key not in NOT_SENT}
    study, variant = str(summary.get("name", folder.name)), str(summary["variant"])
    top = {"study": study, **({} if arm is None else {"arm": arm}), "variant": variant, "run_id": folder.run_id}
    facts = {key: value for key, value in summary.items() if key not in IDENTITY and not _is_result(key)}
    return {
        "id": wandb_id(folder),
        "name": folder.run_id[:LONGEST_NAME],
        "group": f"{study}/{variant}"[-LONGEST_NAME:],  # the seeds of one configuration
        "job_type": "train",
        "tags": [study[:LONGEST_TAG]],
        "config": {**config, **top, "derived": facts, "environment": environment},
    }


def wandb_id(folder: RunFolder) -> str:
    """Return the id of this folder's run in W&B, chosen once and saved in `wandb/id`.

    The hash in the run's name alone would be that of the same configuration trained elsewhere, or before `outputs/` was
    emptied, and W&B would append to that run's history. Under a sweep's agent it is the id that the agent waits for.
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
    return 0 if summary.get("state") == "done" else 75 if is_interrupted(summary) else 1


def is_interrupted(summary: Mapping[str, Any]) -> bool:
    """Whether a run has only been interrupted, by a signal or by a kill.

    W&B shows it as preempted if that is said before the exit code, which must not be 0; a sweep's agent then hands the
    run out again (docs.wandb.ai, "Signal handling and sweep runs").
    """
    return summary.get("state") in ("interrupted", "running")


def final_figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what W&B's summary gets at the end of a run, beside what its rows left there.

    Final validation figures come as "final/...": under their own names W&B has the smallest and the last value of the
    rows, and a plain number is what a bar of the final metric can show.
    """
    final: dict[str, Any] = {}
    for key, value in figures({key: value for key, value in summary.items() if _is_result(key)}):
        group, _, rest = key.partition("/")
        final[f"final/{rest}" if group == "validation" else key] = value
    final["state"] = str(summary.get("state", "running"))
    if error := summary.get("error"):
        named = isinstance(error, Mapping)
        final["error"] = f"{error.get('type')}: {error.get('message')}" if named else str(error)
    return final


def figures(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the numbers of a nested mapping under flat names joined by '/', which W&B groups its panels by."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from figures(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            yield prefix + key, value


def _is_result(key: str) -> bool:
    return key in RESULTS or "/" in key


# ---------------------------------------------------------------------------------------------------------------------
# Rows.


class Rows:
    """Passes the rows of a `metrics.jsonl` on to one W&B run, in order; those the server has already are only read.

    Every row has all four axes, and `tokens` is the default one; another is chosen panel by panel. Never `step=`: wandb
    drops rows whose step is not larger than the last. Of each validation figure W&B's summary has the best and the last
    value. Samples are one table with all texts so far, in the summary, where W&B's table panel looks for it.

    Args:
        path: the record, which another thread or process appends to.
        run: the W&B run.
        held: how many rows the server has.

    Attributes:
        number: how many rows were read.
    """

    def __init__(self, path: Path, run: Any, held: int) -> None:
        self.path = path
        self.run = run
        self.held = held
        self.number = 0
        self._offset = 0
        self._extremes: dict[str, dict[str, float]] = {}
        self._samples: list[list[Any]] = []
        self._samples_sent = 0
        self._tables_fail = False
        run.define_metric("*", step_metric="tokens")

    @property
    def sent(self) -> int:
        """How many rows were passed on."""
        return max(0, self.number - self.held)

    def send(self) -> None:
        """Pass on the complete lines that were appended since the last call."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # being written
                row = from_json(line)
                if row["event"] not in NOT_MIRRORED:
                    self._put(row)
                self._offset += len(line)
        if self.held and self._extremes:
            self.run.summary.update(self._extremes)  # wandb forgets the best value when a run is resumed
        self.send_samples()

    def _put(self, row: Mapping[str, Any]) -> None:
        self._samples += [
            [row["step"], row["tokens"], sample["prompt"], sample["text"]] for sample in row.get("samples", ())
        ]
        for key, value in figures(row):
            if not key.startswith("validation/"):
                continue
            best, better = ("max", max) if key.rpartition("/")[2] in HIGHER_IS_BETTER else ("min", min)
            if key not in self._extremes:
                # By its full name: wandb lets "*" win over "validation/*".
                self.run.define_metric(key, step_metric="tokens", summary=f"{best},last")
                self._extremes[key] = {best: value}
            seen = [number for number in (self._extremes[key][best], value) if not math.isnan(number)]
            self._extremes[key] = {best: better(seen, default=math.nan), "last": value}
        if self.number >= self.held:
            self.run.log(dict(figures(row)))
        self.number += 1

    def send_samples(self) -> bool:
        """Send the table of all samples so far, if there are new ones; returns whether all of them were sent.

        A table is an artifact to wandb, which asks the server about it before it goes on: for minutes if the server no
        longer answers. So this is given up after TABLE_SECONDS, and then not tried again.
        """
        if self._samples_sent < len(self._samples) and not self._tables_fail:
            from wandb import Table

            table = Table(columns=list(SAMPLE_COLUMNS), data=list(self._samples))
            try:
                within(TABLE_SECONDS, lambda: self.run.summary.update({"samples": table}))
                self._samples_sent = len(self._samples)
            except Exception:
                self._tables_fail = True
        return self._samples_sent == len(self._samples)


# ---------------------------------------------------------------------------------------------------------------------
# Artifacts.


def log_artifacts(run: Any, folder: RunFolder, which: Artifacts) -> None:
    """Send the artifacts of an online run, so that W&B draws the lineage: what it used, then what it made.

    W&B compares contents: a tokenizer that a hundred runs share is one version, used by a hundred runs. What the folder
    does not have (a run that has not begun has no checkpoint) is left out.
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
        artifact = _artifact(f"data-{summary['corpus_sha256'][:12]}", "data", {**manifest, "source": source}, [])
        with artifact.new_file("manifest.json", mode="w", encoding="utf-8") as file:
            file.write(to_json({**manifest, "source": source}, indent=2).decode())
        run.use_artifact(artifact)
    complete = [path for path in checkpoints_in(folder.checkpoints) if (path / "manifest.json").is_file()]
    if which == "all" and complete:
        checkpoint = complete[0]
        files = sorted(path for path in checkpoint.iterdir() if path.is_file())
        manifest_sha256 = hashlib.sha256((checkpoint / "manifest.json").read_bytes()).hexdigest()
        facts = {"sha256": manifest_sha256, "step": int(checkpoint.name.partition("_")[2]), "state": summary["state"]}
        facts |= {"variant": summary["variant"], "seed": summary.get("seed")}
        artifact = _artifact(f"checkpoint-{run.id}", "model", facts, files)
        run.log_artifact(artifact, aliases=["latest", checkpoint.name])


def _artifact(name: str, kind: str, metadata: dict[str, Any], files: list[Path]) -> Any:
    from wandb import Artifact

    artifact = Artifact(name, type=kind, metadata=metadata)
    for path in files:
        artifact.add_file(str(path), policy="immutable", skip_cache=True)  # otherwise wandb copies it, twice
    return artifact


def within(seconds: float, action: Callable[[], object]) -> None:
    """Do something that has no timeout of its own, and wait so long for it.

    Raises:
        TimeoutError: it is still not done; it goes on in a thread that does not prevent the process from ending.
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
