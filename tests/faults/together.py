"""Two processes on one run: started at once, alone or as sweeps, or one while the other is being killed."""

import json
import random
import signal
import time
from pathlib import Path

from faults.counts import Counts
from faults.evidence import differences, run_folder, trained_steps
from faults.harness import Unequal
from faults.matrix import IN_CI, Configuration
from faults.workshop import LIMIT_SECONDS, Workshop

KINDS = ("alone", "sweep", "killed")

LASTING = Configuration("one that lasts", (*IN_CI[0].overrides, "trainer.max_steps=100"))
"""Long enough for the second process to come to the folder while the first trains."""

KILL_SECONDS = 1.5
"""About how long the second process takes to come to the folder; the first is killed within this time."""


def together(workshop: Workshop, folder: Path, kind: str, chance: random.Random) -> str:
    """One trial; returns what the second process did, in words.

    alone: one trains, the other names it and leaves with 2; or, coming late, finds the run done.
    sweep: the other waits, and then skips the cell.
    killed: the second starts while the first trains, which is then killed: it goes on with the run, or was there too
        early, names the first, and leaves with 2; the same command once more ends the run.

    Raises:
        Unequal: another outcome, or a run that is not bit-equal to the one that a single process trained.
    """
    reference = workshop.reference(LASTING)
    workshop.furnish(folder)
    arguments = [*LASTING.overrides, *(["-m"] if kind == "sweep" else [])]

    def check(holds: bool, complaint: str) -> None:
        if not holds:
            raise Unequal(f"{folder} ({kind}): {complaint}\n{log()[-3000:]}")

    def log() -> str:
        return (folder.parent / f"{folder.name}.log").read_text(encoding="utf-8")

    first = workshop.start(arguments, folder, cold=False)
    if kind == "killed":
        step = chance.randrange(1, 20)
        deadline = time.monotonic() + LIMIT_SECONDS
        while trained_steps(run_folder(folder)) < step and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        second = workshop.start(arguments, folder, cold=False)
        time.sleep(chance.random() * KILL_SECONDS)
        first.send_signal(signal.SIGKILL)
    else:
        second = workshop.start(arguments, folder, cold=False)
    statuses = sorted((first.wait(LIMIT_SECONDS), second.wait(LIMIT_SECONDS)))
    refused = log().count("is being trained by another process (pid ")
    if kind == "alone":
        check(statuses in ([0, 2], [0, 0]), f"exit statuses {statuses}")
        check(refused == statuses.count(2), f"{refused} were told that another trains, {statuses}")
        outcome = "refused" if refused else "found it done"
    elif kind == "sweep":
        check(statuses == [0, 0], f"exit statuses {statuses}")
        outcome = "waited, then skipped" if "which another process (pid " in log() else "found it done"
    else:
        check(statuses in ([-signal.SIGKILL, 0], [-signal.SIGKILL, 2], [0, 0], [0, 2]), f"exit statuses {statuses}")
        check(refused == statuses.count(2), f"{refused} were told that another trains, {statuses}")
        outcome = "refused" if refused else "went on" if -signal.SIGKILL in statuses else "found it done"
        if 0 not in statuses:
            last = workshop.start(arguments, folder, cold=False).wait(LIMIT_SECONDS)
            check(last == 0, f"the same command once more ends with {last}")
    run = run_folder(folder)
    assert run is not None
    found = differences(run, reference)
    check(not found, "; ".join(found))
    trained = len(json.loads((run / "environment.json").read_text())["processes"])
    check(trained <= (2 if kind == "killed" else 1), f"{trained} processes trained it")
    return outcome


def series(workshop: Workshop, folder: Path, trials: int, seed: int) -> Counts:
    """So many trials, of all kinds in turn; what came of each is counted."""
    counts, chance = Counts(), random.Random(seed)
    for number in range(trials):
        kind = KINDS[number % len(KINDS)]
        place = folder / f"together_{number:02d}"
        outcome = together(workshop, place, kind, chance)
        counts.faults[f"two processes, {kind}"] += 1
        counts.trials[f"the second {outcome} ({kind}), equal"] += 1
    return counts
