"""A family in a process of its own, with limits; an input that brings the process down is a finding like others."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
GIVE_UP_SECONDS = 300


@dataclass
class Report:
    """What came of a family's inputs, by outcome; `faults` say which input, and what it broke."""

    family: str
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    next_input: int = 0
    done: list[str] = field(default_factory=list)

    @property
    def num_inputs(self) -> int:
        return self.counts.total()

    def line(self) -> str:
        """One line of a table."""
        counts = "  ".join(f"{name} {self.counts[name]:>7,}" for name in ("accepted", "refused", "fault"))
        return f"{self.family:<12} seed {self.seed}  inputs {self.num_inputs:>8,}  {counts}"

    @classmethod
    def total(cls, reports: list["Report"]) -> "Report":
        """Of all families."""
        return cls("in all", reports[0].seed, sum((report.counts for report in reports), Counter()))


def run(
    family: str,
    seed: int,
    kept: Path,
    *,
    count: int | None = None,
    seconds: float | None = None,
    only: str | None = None,
    share: float = 1.0,
    by_hypothesis: int = 0,
) -> Report:
    """Run the shaped inputs of a family, then `count` drawn ones, or as many as `seconds` allow; or `only` one.

    kept: a folder for inputs that broke the law
    share: how much of the shaped inputs, which ones by the seed
    by_hypothesis: how many more are drawn by hypothesis, which makes one that breaks the law as small as it can
    """
    report = Report(family, seed)
    end = None if seconds is None else time.monotonic() + seconds
    skip: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        while True:
            order = {
                "family": family, "seed": seed, "work": work, "kept": str(kept), "first": report.next_input,
                "only": only,
                "count": None if count is None else count - report.next_input, "share": share, "skip": skip,
                "by_hypothesis": 0 if only else by_hypothesis,
                "seconds": None if end is None else end - time.monotonic(),
            }  # fmt: skip
            ended, at = _child(order, report)
            if at is None:
                return report
            # It died, or hung where no alarm could reach it: that input is to blame, and the others go on.
            report.counts["fault"] += 1
            report.faults.append(f"{family} {at} (seed {seed}): {ended}")
            _keep(Path(work), kept, f"{family}-{at}")
            if only is not None:
                return report
            skip = [*report.done, at]
            if at.isdecimal():  # they come after the shaped ones
                report.next_input, share = int(at) + 1, 0.0
            elif at == "smallest":  # and those of hypothesis last
                return report


def _child(order: dict, report: Report) -> tuple[str, str | None]:
    """Run until done or dead; how it ended, and the input it was at when it died."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GOMP_SPINCOUNT": "0",
        "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'tests' / 'training'}",
    }
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-m", "fuzz.child", json.dumps(order)],
        stdout=subprocess.PIPE,
        stderr=None if order["only"] else subprocess.PIPE,
        env=environment,
        text=True,
    )
    at: str | None = None
    killed = _Killer(child)
    assert child.stdout is not None
    for line in child.stdout:
        killed.touch()
        message = json.loads(line)
        if "at" in message:
            at = message["at"]
        if "outcome" in message:
            report.done.append(str(at))
            report.counts[message["outcome"]] += 1
            if message["outcome"] == "fault":
                report.faults.append(f"{report.family} {at} (seed {report.seed}): {message['reason']}")
        if "next" in message:
            report.next_input = message["next"]
        if message.get("done"):
            at = None
    said = child.stderr.read() if child.stderr else ""
    child.wait()
    killed.stop()
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
    if at is None and child.returncode:
        raise RuntimeError(f"the family {report.family} could not be run:\n{said}")
    how = f"signal {signal.Signals(-child.returncode).name}" if child.returncode < 0 else f"exit {child.returncode}"
    return f"the process ended by {how}: {said[-600:]}", at


class _Killer:
    """Ends a child that has said nothing for five minutes."""

    def __init__(self, child: subprocess.Popen) -> None:
        self._child = child
        self._stopped = threading.Event()
        self._last = time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()

    def touch(self) -> None:
        self._last = time.monotonic()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(1):
            if time.monotonic() - self._last > GIVE_UP_SECONDS:
                self._child.kill()
                return


def _keep(work: Path, kept: Path, name: str) -> None:
    found = work / "input"
    if found.exists():
        shutil.move(found, kept / name.replace("/", "_")[:100])
