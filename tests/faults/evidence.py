"""What a run folder shows from outside: what it must be equal in, and where a kill has hit it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.matrix import EVALUATIONS, SAMPLES, STEPS

_CLOCK = ("seconds", "train/tokens_per_second", "train/flops_utilization", "save_seconds")
_TENSORS = ("model.safetensors", "optimizer.safetensors")


def run_folder(folder: Path) -> Path | None:
    """The one run under `folder`; None before there is one."""
    found = [path for path in folder.glob("outputs/runs/*") if path.is_dir()]
    assert len(found) <= 1, f"one configuration has made two runs: {found}"
    return found[0] if found else None


def rows(run: Path | None) -> list[dict[str, Any]]:
    """The whole rows of the record so far."""
    if run is None or not (run / "metrics.jsonl").exists():
        return []
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def timeless(run: Path) -> list[dict[str, Any]]:
    """The rows that must be equal: without checkpoints, which come by the clock, and what the clock measures."""
    kept = (row for row in rows(run) if row["event"] != "checkpoint")
    return [{key: value for key, value in row.items() if key not in _CLOCK} for row in kept]


def trained_steps(run: Path | None) -> int:
    """The last step with a row of training metrics."""
    return max((row["step"] for row in rows(run) if row["event"] == "train"), default=0)


def temporaries(run: Path | None) -> set[tuple[str, int]]:
    """Checkpoints being written, or left half written: names and inodes, to tell new ones from old ones."""
    if run is None:
        return set()
    found = set()
    for path in run.glob("checkpoints/.tmp-*"):
        try:
            found.add((path.name, path.stat().st_ino))
        except FileNotFoundError:  # it was renamed meanwhile
            continue
    return found


@dataclass(frozen=True)
class Trace:
    """What a run folder held before a process was started, to tell its doing from that of those before."""

    temporaries: set[tuple[str, int]]
    written: int


def trace_of(run: Path | None) -> Trace:
    """Take the trace of a run folder: its unfinished checkpoints, and when its record was last written."""
    try:
        written = (run / "metrics.jsonl").stat().st_mtime_ns if run else 0
    except FileNotFoundError:
        written = 0
    return Trace(temporaries(run), written)


def checkpoints(run: Path | None) -> list[Path]:
    """Published checkpoints, oldest first."""
    return sorted(run.glob("checkpoints/step_*")) if run else []


def differences(run: Path, reference: Path) -> list[str]:
    """In what a run is not the reference: weights, optimizer state, record; empty when they are bit-equal."""
    found = []
    last, wanted_last = checkpoints(run)[-1:], checkpoints(reference)[-1:]
    if [path.name for path in last] != [path.name for path in wanted_last]:
        return [f"the last checkpoint is {last}, not {wanted_last}"]
    for name in _TENSORS:
        hashes = [hashlib.sha256((path / name).read_bytes()).hexdigest() for path in (*last, *wanted_last)]
        if hashes[0] != hashes[1]:
            found.append(f"{name}: sha256 {hashes[0][:12]}, not {hashes[1][:12]}")
    mine, theirs = timeless(run), timeless(reference)
    if mine != theirs:
        at = next((i for i, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]), None)
        first = "" if at is None else f"; first in row {at}: {mine[at]}, not {theirs[at]}"
        found.append(f"metrics.jsonl: {len(mine)} rows, not {len(theirs)}{first}")
    state = json.loads((run / "summary.json").read_text())["state"]
    if state != "done":
        found.append(f"summary.json: state {state}")
    return found


@dataclass(frozen=True)
class Hit:
    """Where a run was killed, by what is left of it."""

    in_save: bool
    in_evaluation: bool
    in_sample: bool
    before_first_checkpoint: bool


def where_it_was_hit(run: Path | None, before: Trace) -> Hit:
    """Read it from the folder: a temporary checkpoint that was not there before; a step whose evaluation is missing."""
    written = [row for row in rows(run) if row["event"] != "checkpoint"]
    step = written[-1]["step"] if written else 0
    there = {row["event"] for row in written if row["step"] == step}
    trained = "train" in there
    evaluating = trained and is_marked(step, EVALUATIONS) and "validation" not in there
    return Hit(
        in_save=bool(temporaries(run) - before.temporaries),
        in_evaluation=evaluating,
        in_sample=trained and not evaluating and is_marked(step, SAMPLES) and "sample" not in there,
        before_first_checkpoint=not checkpoints(run),
    )


def is_marked(step: int, times: int) -> bool:
    """Whether one of `times` evenly spaced moments of the run comes with this step."""
    return step * times // STEPS > (step - 1) * times // STEPS
