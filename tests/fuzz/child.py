"""The process that reads the inputs of one family. Its orders are JSON, and so is what it says, a line at a time."""

import json
import os
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import hypothesis
from fuzz.families import family
from fuzz.family import Make
from fuzz.judge import Guard, Verdict, judge, limit_memory
from hypothesis import HealthCheck, strategies


def main() -> None:
    order = json.loads(sys.argv[1])
    work = Path(order["work"])
    base = work / "base"
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    os.chdir(base)  # where a canary would land
    made = family(order["family"], base)
    guard = Guard(work)
    limit_memory()

    def judged(name: str, make: Make) -> Verdict:
        folder = work / "input"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        say(at=name)
        read = make(folder)
        verdict = judge(shown(read) if order["only"] else read, folder, guard)
        if order["only"]:
            print(verdict, file=sys.stderr)
        if verdict.outcome == "fault":
            keep(folder, Path(order["kept"]) / f"{order['family']}-{name.replace('/', '_')}"[:200])
        return verdict

    def one(name: str, make: Make) -> None:
        verdict = judged(name, make)
        say(outcome=verdict.outcome, reason=verdict.reason)

    def drawn(number: int) -> Make:
        rng = random.Random(f"{order['seed']} {order['family']} {number}")
        return lambda folder: made.drawn(rng, folder)

    only = order["only"]
    skip = set(order["skip"])
    for name, make in made.shaped() if order["share"] or only else ():
        chosen = random.Random(f"{order['seed']} {name}").random() < order["share"] and name not in skip
        if name == only or (only is None and chosen):
            one(name, make)
    if only is not None and only.isdecimal():
        one(only, drawn(int(only)))
    end = None if order["seconds"] is None else time.monotonic() + order["seconds"]
    number, past = order["first"], None if order["count"] is None else order["first"] + order["count"]
    while only is None and (past is None or number < past) and (end is None or time.monotonic() < end):
        one(str(number), drawn(number))
        number += 1
    if order["by_hypothesis"]:
        by_hypothesis(order, lambda name, rng: judged(name, lambda folder: made.drawn(rng, folder)))
    say(next=number, done=True)


def by_hypothesis(order: dict, judged: Callable[[str, random.Random], Verdict]) -> None:
    """Inputs that hypothesis draws; of those that break the law it looks for the smallest, which is reported."""
    name = "smallest"
    fault = Verdict("accepted")

    @hypothesis.seed(order["seed"])
    @hypothesis.settings(
        max_examples=order["by_hypothesis"], deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @hypothesis.given(strategies.randoms(use_true_random=False))
    def law(rng: random.Random) -> None:
        nonlocal fault
        verdict = judged(name, rng)
        if verdict.outcome == "fault":
            fault = verdict
            raise AssertionError(verdict.reason)
        say(outcome=verdict.outcome, reason=verdict.reason)

    try:
        law()
    except Exception:
        if fault.outcome != "fault":
            raise
        say(outcome="fault", reason=fault.reason)


def say(**message: object) -> None:
    print(json.dumps(message), flush=True)


def shown(read):
    """The same, with the traceback of what it raises."""

    def loud():
        try:
            return read()
        except BaseException:
            traceback.print_exc()
            raise

    return loud


def keep(folder: Path, where: Path) -> None:
    shutil.rmtree(where, ignore_errors=True)
    if sum(path.stat().st_blocks for path in folder.rglob("*") if path.is_file()) * 512 < 1 << 26:
        shutil.move(folder, where)


main()
