"""Runs sorted into arms, by a study's plan or by variant; the settings that tell arms apart; which is the baseline."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from atomiclm.cli import UserError
from atomiclm.comparison.results import Column, Unfinished
from atomiclm.comparison.runs import numbers_of
from atomiclm.comparison.wording import format_value
from atomiclm.config import IDENTITY
from atomiclm.sweep.factors import last_parts
from atomiclm.sweep.ledger import Cell
from atomiclm.tracking.run_folder import digest_of
from atomiclm.tracking.run_result import RunResult

MOST_NAMED = 4
"""Differing keys that can name an arm; with more it is called as its folders are."""

_ENDED = ("done", "diverged")
_WORST_FIRST = ("failed", "torn", "diverged", "interrupted", "missing", "running")


@dataclass(frozen=True)
class Group:
    """The runs of one arm."""

    name: str
    runs: Sequence[RunResult]  # those with a figure, in the order of the plan, or by seed
    diverged: Sequence[RunResult]  # those that ended without one
    planned: int  # how many are wanted

    @property
    def ended(self) -> list[RunResult]:
        return [*self.runs, *self.diverged]

    @property
    def config(self) -> Mapping[str, Any]:
        """Of its first run; empty without one."""
        return self.ended[0].config if self.ended else {}


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
        return list({run.folder.path: run for group in self.groups for run in group.ended}.values())


def without_figures_diverged(runs: Sequence[RunResult], metric: str) -> list[RunResult]:
    """Runs as they are to be counted: one that came to its end with a metric that is no number has diverged."""
    return [
        replace(run, state="diverged", error=f"{metric} is {run.summary[metric]!s:.30}")
        if run.done and not math.isfinite(numbers_of(run).get(metric, 0.0))
        else run
        for run in runs
    ]


def by_plan(runs: Sequence[RunResult], cells: Sequence[Cell]) -> Grouped:
    """Arms of a study's plan, in its order; a run that two arms share is in both."""
    known = _of_cells(runs, cells)
    groups = []
    for arm, wanted in _by_arm(cells).items():
        there = [known[cell.run_id] for cell in wanted if cell.run_id in known]
        groups.append(_group(arm, there, len(wanted)))  # in the order of the plan, which sequential looks go by
    planned = {run.folder.path for run in known.values()}
    unplanned = [run.folder.run_id for run in runs if run.folder.path not in planned]
    return Grouped(groups, _columns(groups), _worst_first(_left(cells, known)), unplanned)


def by_variant(runs: Sequence[RunResult], cells: Sequence[Cell] = ()) -> Grouped:
    """Arms of what is there: runs that differ only in the seed, called by what tells them apart.

    cells: of the sweeps from the command line that are on record. Their arms come first, under their own names, and
    what is missing of them is reported.
    """
    variants: dict[str, list[RunResult]] = defaultdict(list)
    for run in runs:
        if run.state in _ENDED:
            variants[run.variant].append(run)
    for there in variants.values():
        there.sort(key=lambda run: (False, run.seed) if isinstance(run.seed, int) else (True, str(run.seed)))
    known = _of_cells(runs, cells) if cells else {}
    swept = []
    for arm, wanted in _by_arm(cells).items():
        found = [known[cell.run_id] for cell in wanted if cell.run_id in known]
        own = next((str(run.summary["variant"]) for run in found if "variant" in run.summary), "")
        there = variants.pop(own, [])
        left = len(wanted) - sum(run.state in _ENDED for run in found)
        if there or left:  # else two sweeps had the arm, under two names
            swept.append(_group(arm, there, len(there) + left))
    rest = [_group(variant, there, len(there)) for variant, there in variants.items()]
    columns = _columns([*swept, *rest])
    names = _names(rest, columns, [group.name for group in swept])
    groups = [*swept, *(replace(group, name=names[group.name]) for group in rest)]
    planned = {run.folder.path for run in known.values()}
    unfinished = [
        _unfinished(run, names.get(str(run.summary.get("variant")), ""), run.seed, run.folder.command())
        for run in runs
        if not run.done and run.folder.path not in planned
    ]
    return Grouped(groups, columns, _worst_first([*_left(cells, known), *unfinished]), [])


def _of_cells(runs: Sequence[RunResult], cells: Sequence[Cell]) -> dict[str, RunResult]:
    """The run of each cell that has one, by the cell's run id; UserError: two folders hold one run."""
    known: dict[str, RunResult] = {}
    for run in runs:
        twin = known.setdefault(digest_of(run.folder.run_id), run)
        if twin is not run:
            raise UserError(
                f"{twin.folder.path} and {run.folder.path} are copies of one run: their names end in the same hash; "
                "move one of them to another folder"
            )
    return {cell.run_id: known[cell.digest] for cell in cells if cell.digest in known}


def _by_arm(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    arms: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        arms[cell.arm].append(cell)
    return arms


def _group(name: str, runs: Sequence[RunResult], planned: int) -> Group:
    ended, diverged = [run for run in runs if run.done], [run for run in runs if run.state == "diverged"]
    return Group(name, ended, diverged, planned)


def _left(cells: Sequence[Cell], known: Mapping[str, RunResult]) -> Iterator[Unfinished]:
    """What is left to do of a plan, with the commands that do it."""
    for cell in cells:
        if (found := known.get(cell.run_id)) is None:
            yield Unfinished(cell.arm, cell.seed, cell.run_id, "missing", "", "", cell.command)
        elif not found.done:
            yield _unfinished(found, cell.arm, cell.seed, cell.command)


def _unfinished(run: RunResult, arm: str, seed: int | None, command: str) -> Unfinished:
    # The command would find a run that has diverged, and leave it at that.
    command = "" if run.state == "diverged" else command
    return Unfinished(arm, seed, run.folder.run_id, run.state, run.progress(), run.error, command)


def _worst_first(unfinished: Iterable[Unfinished]) -> list[Unfinished]:
    """What went wrong before what only takes time; else as planned."""
    ranks = {state: rank for rank, state in enumerate(_WORST_FIRST)}
    return sorted(unfinished, key=lambda one: ranks.get(one.state, len(ranks)))


def _names(groups: Sequence[Group], columns: Sequence[Column], others: Sequence[str]) -> dict[str, str]:
    """Of each variant: its differing values where they are few, else what its folders are called, else its hash."""
    names = {}
    for group in groups:
        values = [f"{column.short}={format_value(group.config.get(column.key))}" for column in columns]
        folder = re.sub(r"-?seed=[^-]*-[0-9a-f]+$", "", group.ended[0].folder.run_id)
        names[group.name] = " ".join(values) if 0 < len(values) <= MOST_NAMED else folder or group.name
    taken = Counter([*names.values(), *others])
    return {variant: name if taken[name] == 1 else variant for variant, name in names.items()}


# --------------------------------------------------------------------------------------------- what tells arms apart


def _columns(groups: Sequence[Group]) -> list[Column]:
    return differing_columns([[run.config for run in group.ended] for group in groups])


def differing_columns(arms: Sequence[Sequence[Mapping[str, Any]]]) -> list[Column]:
    """The keys that tell the arms apart, in the order of the configuration.

    A key that takes several values within one arm follows the seed (an interpolated `${seed}`), and is no difference.

    arms: for each the configurations of its runs, under dotted names; one without runs says nothing.
    """
    known = [configs for configs in arms if configs]
    keys = dict.fromkeys(key for configs in known for config in configs for key in config)
    differing = []
    for key in keys:
        if key == "seed" or key.split(".")[0] not in IDENTITY or key.endswith("._partial_"):
            continue
        values = [{repr(config.get(key)) for config in configs} for configs in known]
        if all(len(own) == 1 for own in values) and len(set.union(*values)) > 1:
            differing.append(key)
    return [Column(key, short) for key, short in last_parts(differing).items()]


# ------------------------------------------------------------------------------------------------------ the baseline


def choose_baseline(
    groups: Sequence[Group], columns: Sequence[Column], wanted: str | None, declared: str | None, is_planned: bool
) -> tuple[str | None, str]:
    """Return the baseline's name, and a note where nobody chose it.

    What is `wanted` is an arm's name, or `key=value` of a differing key, a UserError where it is not one of the arms.
    Of arms in the order of a plan the first is the baseline; else the arm with the most usual value of most keys: to
    choose it by its result would make the differences smaller or larger than they are.
    """
    names = [group.name for group in groups]
    if wanted is not None:
        return wanted if wanted in names else _by_value(groups, columns, wanted), ""
    if declared in names:
        return declared, ""
    if not groups:
        return None, ""
    chosen = names[0] if is_planned else _most_usual(groups, columns).name
    if len(groups) == 1:
        return chosen, ""
    why = "the first of the sweep" if is_planned else "the first with the most usual settings"
    lack = f"The baseline {declared} is not in the plan" if declared else "No baseline was declared"
    return chosen, f"{lack}; differences are to {chosen}, {why} (--baseline chooses another)."


def _by_value(groups: Sequence[Group], columns: Sequence[Column], wanted: str) -> str:
    """The one arm that `wanted` ("key=value") describes."""
    key, _, value = wanted.partition("=")
    own = [column.key for column in columns if key in (column.key, column.short) or column.key.endswith(f".{key}")]
    found = [
        group.name
        for group in groups
        if group.ended and any(value in (str(group.config.get(k)), format_value(group.config.get(k))) for k in own)
    ]
    if len(found) == 1:
        return found[0]
    problem = f"{wanted!r} is {len(found)} of the arms" if found else f"{wanted!r} is none of the arms"
    names = found or [group.name for group in groups]
    raise UserError(f"--baseline: {problem}; give one of: {', '.join(map(repr, names)) or 'none has ended'}")


def _most_usual(groups: Sequence[Group], columns: Sequence[Column]) -> Group:
    counts = {column.key: Counter(repr(group.config.get(column.key)) for group in groups) for column in columns}
    usual = [sum(count[repr(group.config.get(key))] for key, count in counts.items()) for group in groups]
    return max(zip(usual, groups, strict=True), key=lambda one: (one[0], len(one[1].runs)))[1]
