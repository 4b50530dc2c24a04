"""Runs sorted into arms: by the sweep's plan, or by variant where there is no plan."""

import math
import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from atomiclm.study.comparison import Column, Unfinished
from atomiclm.study.ledger import Cell, StudyLedger
from atomiclm.study.runs import RunResult
from atomiclm.study.table import differing_columns
from atomiclm.study.wording import format_value

MOST_NAMED = 4
"""Differing keys that can name an arm; with more it is called as its folders are."""

_WORST_FIRST = ("failed", "torn", "diverged", "interrupted", "missing", "running")


@dataclass(frozen=True)
class Group:
    """The runs of one arm.

    Attributes:
        runs: those with a figure, in the order of the plan, or by seed.
        diverged: those that ended without one.
        planned: how many are wanted.
    """

    name: str
    runs: Sequence[RunResult]
    diverged: Sequence[RunResult]
    planned: int


@dataclass(frozen=True)
class Grouped:
    """All runs, each in its place."""

    groups: Sequence[Group]
    columns: Sequence[Column]
    unfinished: Sequence[Unfinished]
    unplanned: Sequence[str]

    @property
    def compared(self) -> list[RunResult]:
        """Runs of the arms, each once though it may be in two."""
        runs = (run for group in self.groups for run in (*group.runs, *group.diverged))
        return list({run.folder.path: run for run in runs}.values())


def without_figures_diverged(runs: Sequence[RunResult], metric: str) -> list[RunResult]:
    """Runs as they are to be counted: one that came to its end with a metric that is no number has diverged."""

    def counted(run: RunResult) -> RunResult:
        value = run.summary.get(metric)
        if run.done and isinstance(value, float) and not math.isfinite(value):
            return replace(run, state="diverged", error=f"{metric} is {value}")
        return run

    return [counted(run) for run in runs]


def by_plan(runs: Sequence[RunResult], ledger: StudyLedger) -> Grouped:
    """Arms of the plan, in its order; a run that two arms share is in both."""
    known: dict[str, RunResult] = {}
    for run in runs:
        digest = run.folder.run_id.rpartition("-")[2]
        if digest not in known or run.done:
            known[digest] = run
    cells: dict[str, list[Cell]] = defaultdict(list)
    for cell in ledger.cells:
        cells[cell.arm].append(cell)
    groups, unfinished = [], []
    for arm, wanted in cells.items():
        there = [known[cell.digest] for cell in wanted if cell.digest in known]
        groups.append(_group(arm, there, len(wanted)))  # in the order of the plan, which sequential looks go by
        for cell in wanted:
            if (found := known.get(cell.digest)) is None:
                unfinished.append(Unfinished(arm, cell.seed, cell.run_id, "missing", "", "", cell.command))
            elif not found.done:
                unfinished.append(_unfinished(found, arm, cell.seed, cell.command))
    planned = {cell.digest for cell in ledger.cells}
    unplanned = [run.folder.run_id for digest, run in known.items() if digest not in planned]
    return Grouped(groups, _columns(groups), _sorted(unfinished), unplanned)


def by_variant(runs: Sequence[RunResult]) -> Grouped:
    """Arms of what is there: runs that differ only in the seed, called by what tells them apart."""
    variants: dict[str, list[RunResult]] = defaultdict(list)
    for run in runs:
        if run.done or run.state == "diverged":
            variants[run.variant].append(run)
    groups = [_group(variant, sorted(there, key=_seed), len(there)) for variant, there in variants.items()]
    columns = _columns(groups)
    names = _names(groups, columns)
    groups = [replace(group, name=names[group.name]) for group in groups]
    unfinished = [
        _unfinished(run, names.get(str(run.summary.get("variant")), ""), run.seed, started_by(run))
        for run in runs
        if not run.done
    ]
    return Grouped(groups, columns, _sorted(unfinished), [])


def started_by(run: RunResult) -> str:
    """The command that trained a run, as its environment.json has it; "" where it does not say."""
    words = run.environment.get("command")
    if not isinstance(words, list) or not words:
        return ""
    return " ".join(["python -m atomiclm.train", *(shlex.quote(str(word)) for word in words[1:])])


def _group(name: str, runs: Sequence[RunResult], planned: int) -> Group:
    ended, diverged = [run for run in runs if run.done], [run for run in runs if run.state == "diverged"]
    return Group(name, ended, diverged, planned)


def _seed(run: RunResult) -> tuple[bool, Any]:
    return (True, str(run.seed)) if not isinstance(run.seed, int) else (False, run.seed)


def _columns(groups: Sequence[Group]) -> list[Column]:
    return differing_columns([[run.config for run in (*group.runs, *group.diverged)] for group in groups])


def _names(groups: Sequence[Group], columns: Sequence[Column]) -> dict[str, str]:
    """Of each variant: its differing values where they are few, else what its folders are called, else its hash."""
    names = {}
    for group in groups:
        run = [*group.runs, *group.diverged][0]
        values = [f"{column.short}={format_value(run.config.get(column.key))}" for column in columns]
        folder = re.sub(r"-?seed=[^-]*-[0-9a-f]+$", "", run.folder.run_id)
        names[group.name] = " ".join(values) if 0 < len(values) <= MOST_NAMED else folder or group.name
    taken = list(names.values())
    return {variant: name if taken.count(name) == 1 else variant for variant, name in names.items()}


def _unfinished(run: RunResult, arm: str, seed: int | None, command: str) -> Unfinished:
    # The command would find a run that has diverged, and leave it at that.
    command = "" if run.state == "diverged" else command
    return Unfinished(arm, seed, run.folder.run_id, run.state, run.progress(), run.error, command)


def _sorted(unfinished: Sequence[Unfinished]) -> list[Unfinished]:
    """What went wrong before what only takes time; else as planned."""
    ranks = {state: rank for rank, state in enumerate(_WORST_FIRST)}
    return sorted(unfinished, key=lambda one: ranks.get(one.state, len(ranks)))
