"""What W&B is told of a run, all of it read from the run's own folder.

So the live mirror and `python -m atomiclm.sync`, weeks later and elsewhere, say the same.
"""

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from atomiclm.tracking.record import AXES
from atomiclm.tracking.run_folder import RunFolder

LONGEST_NAME = 128
LONGEST_TAG = 64

IDENTITY = ("name", "run_id", "variant", "seed")
"""Entries of `summary.json` that say which run it is; they stand at the top of W&B's configuration."""

RESULTS = (*AXES, "state", "error", "best", "anchors", "tokens_per_second", "decode_tokens_per_second", "cpu_seconds")
"""Entries of `summary.json` that say what became of the run, besides those with a '/' in their names."""

NOT_SHOWN = ("command", "variables")
"""Entries of `environment.json` that stay on this machine: they are full of its paths."""


def described(folder: RunFolder, arm: str | None = None) -> dict[str, Any]:
    """Return the arguments of `wandb.init` that say what the run is.

    The configuration is the run's own, nested as in config.yaml, and beside it
    - `study`, `arm` (if it is known), `variant` (all but the seed: W&B's tables group by any key, but cannot group by
      "all but the seed") and `run_id`;
    - `derived`: what follows from the configuration (parameters, flops_per_token, hashes of the corpus);
    - `environment`: versions, commit and machine of the last process that trained the run.

    Args:
        folder: the run; it has config.yaml, environment.json and summary.json from its first second on.
        arm: the arm of its study.

    Raises:
        UserError: one of the three files is missing or damaged.
    """
    config, summary, process = folder.read_config(), folder.read_summary(), folder.read_environments()[-1]
    environment = {key: value for key, value in process.items() if key not in NOT_SHOWN}
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
    """Return the id of this folder's run in W&B, chosen once and kept in `wandb/id`.

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
    """0 for a run that is done, which W&B shows as finished; 75 for one that goes on; 1 for others, shown as failed."""
    return 0 if summary.get("state") == "done" else 75 if goes_on(summary) else 1


def goes_on(summary: Mapping[str, Any]) -> bool:
    """Whether a run that has ended for now has only been interrupted, by a signal or without a word.

    W&B shows it as preempted if it is told so before it is told the exit code, which must not be 0; under an agent, a
    sweep hands such a run out again (docs.wandb.ai, "Signal handling and sweep runs").
    """
    return summary.get("state") in ("interrupted", "running")


def final_figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what W&B's summary gets at the end of a run, beside what its rows left there.

    Final validation figures come as "final/...": under their own names W&B keeps the smallest and the last value of
    the rows, and a plain number is what a bar of the final metric can show.
    """
    final: dict[str, Any] = {}
    results = {key: value for key, value in summary.items() if _is_result(key)}
    for key, value in figures(results):
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
