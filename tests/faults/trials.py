"""The kinds of trials: which faults a run gets, drawn from its own random generator, before it is let finish."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from faults import moments
from faults.counts import Counts
from faults.disk import damage, fill, small_disk
from faults.evidence import checkpoints, trace_of
from faults.harness import Trial
from faults.matrix import STEPS, Configuration
from faults.moments import Kind, Moment, wait_for
from faults.workshop import LIMIT_SECONDS, Workshop


def kill(
    workshop: Workshop,
    folder: Path,
    configuration: Configuration,
    chance: random.Random,
    counts: Counts,
    kinds: tuple[Kind, ...] = ("anywhere", "step", "save", "evaluation", "save", "anywhere", "save", "step"),
    cold: bool = True,
) -> None:
    """SIGKILL again and again: some moments anywhere in the life of a process, the others ever later in the run.

    Where processes need not be cold, those that are killed anywhere still are: half their life is their imports.
    """
    trial = Trial(workshop, folder, configuration, counts)
    for moment in spread(kinds, chance):
        trial.kill(moment, cold or moment.kind == "anywhere")
    trial.finish(cold)


def term(workshop: Workshop, folder: Path, configuration: Configuration, chance: random.Random, counts: Counts) -> None:
    """Signals that ask to save and end, at such moments."""
    trial = Trial(workshop, folder, configuration, counts)
    numbers = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP]
    for moment in spread(("step", "evaluation", "save", "anywhere"), chance):
        trial.signal(chance.choice(numbers), moment)
    trial.finish()


def full(workshop: Workshop, folder: Path, configuration: Configuration, chance: random.Random, counts: Counts) -> None:
    """The disk fills up, all but a random few bytes, and has space again before the next start."""
    with small_disk(folder, 24) as disk:
        trial = Trial(workshop, disk, configuration, counts)
        for moment in spread(("anywhere", "step", "save", "evaluation"), chance):
            fill_once(trial, moment, chance.choice([0, 100, 4096, 20_000, 200_000]))
        trial.finish()


def fill_once(trial: Trial, moment: Moment, free_bytes: int, cold: bool = True) -> int | None:
    """Fill the disk at the moment and wait for the process to end, free it; return the status."""
    before = trace_of(trial.run)
    process = trial.start(cold)
    if not wait_for(moment, process, trial.folder, trial.life_seconds, before):
        trial.check(process.wait(LIMIT_SECONDS) == 0, f"ended with {process.returncode} before the disk was full")
        return None
    said = len(trial.log)
    filler = fill(trial.folder, free_bytes)
    status = process.wait(LIMIT_SECONDS)
    filler.unlink()
    trial.counts.faults["full"] += 1
    trial.counts.hits[f"full disk: exit {status}"] += 1
    trial.check(status in (0, 1), f"a full disk ended it with {status}")
    trial.check(status == 0 or "No space left" in trial.log[said:], "a full disk, and not a word of it")
    trial.check(status == 0 or "Traceback" not in trial.log[said:], "a traceback for a full disk")
    return status


def damaged(
    workshop: Workshop, folder: Path, configuration: Configuration, chance: random.Random, counts: Counts
) -> None:
    """Kill, damage a file of the newest checkpoint, start: it must be noticed, kept aside, and made good."""
    trial = Trial(workshop, folder, configuration, counts)
    for moment in spread(("step", "save", "evaluation"), chance):
        if trial.kill(moment):
            damage_newest(trial, chance)
    trial.finish()
    check_quarantine(trial)


def damage_newest(trial: Trial, chance: random.Random) -> bool:
    """Damage a file of the newest checkpoint if there is one before it; return whether there was."""
    if len(found := checkpoints(trial.run)) < 2:
        return False
    damage(chance.choice(sorted(found[-1].iterdir())), chance)
    trial.counts.faults["damage"] += 1
    return True


def check_quarantine(trial: Trial) -> None:
    """All damage was said, and what was damaged lies aside."""
    assert trial.run is not None
    aside = list(trial.run.glob("checkpoints/damaged_*"))
    done = trial.counts.faults["damage"]
    trial.check(trial.log.count("is damaged") >= done, f"{done} times damaged, and less often said")
    trial.check(bool(aside) == (done > 0), f"{done} times damaged, and aside lie {aside}")


def pair(workshop: Workshop, folder: Path, configuration: Configuration, chance: random.Random, counts: Counts) -> None:
    """Two processes at once, the second up to a second later: one trains, the other leaves it to it."""
    trial = Trial(workshop, folder, configuration, counts)
    first = trial.start()
    time.sleep(chance.random())
    second = trial.start()
    statuses = sorted(process.wait(LIMIT_SECONDS) for process in (first, second))
    counts.faults["pair"] += 1
    trial.check(statuses in ([0, 2], [0, 0]), f"two at once ended with {statuses}")
    trial.finish()


KINDS: dict[str, Callable[[Workshop, Path, Configuration, random.Random, Counts], None]] = {
    "kill": kill,
    "term": term,
    "full": full,
    "damage": damaged,
    "pair": pair,
}
"""What `soak.py --kinds` knows."""


def spread(kinds: tuple[Kind, ...], chance: random.Random) -> list[Moment]:
    """One random moment of each kind, those about a step in rising order, so that no run is over before its last."""
    width = (STEPS - 5) / len(kinds)
    order = chance.sample(kinds, len(kinds))
    return [
        moments.drawn(chance, kind, int(1 + place * width), int(1 + (place + 1) * width))
        for place, kind in enumerate(order)
    ]
