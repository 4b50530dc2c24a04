"""A sweep: every cell is validated before the first one begins; what is done is skipped, and a failure stops no other.

The cells of a study are its arms times its seeds; `-m key=1,2` on the command line multiplies them further, or makes a
sweep without a study. What is wanted is written to `study.json` beside the runs, so that `compare` can miss a cell that
never began.
"""

import itertools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from atomiclm.cli import UserError, report
from atomiclm.config.compose import key_and_value, override_key, value_of
from atomiclm.config.errors import RunFailed
from atomiclm.config.expand_overrides import FILE_PROFILE
from atomiclm.config.plugins import config_dir_flag
from atomiclm.config.validate import cautions
from atomiclm.sweep.display import Display
from atomiclm.sweep.factors import factors_of
from atomiclm.sweep.ledger import Cell, StudyLedger, TunedValue, read_ledger, write_ledger
from atomiclm.sweep.plan import PlannedCell, arms_of, pending_tuning, plan_cells, plan_sweep
from atomiclm.sweep.run_status import ended, of_other_code, refuse_other_texts, summary_of, take_over
from atomiclm.sweep.side_by_side import Share, share_machine, train_side_by_side
from atomiclm.sweep.study import Study
from atomiclm.sweep.tuning import TUNING_SUFFIX, describe, plan_trials, tune
from atomiclm.tracking import RunFolder, find_cell, is_locked

_SHOWN = 3
"""Runs that a note names."""

Launch = Callable[[Sequence[PlannedCell], int], Sequence[str | None]]
"""Runs cells as jobs, of which the first has the number given; returns what each failed of."""


@dataclass
class CellLauncher:
    """One of Hydra's launchers: `launch` returns when all cells have ended; `one_by_one` in this process, unless
    several at a time pay off, for which we have processes of our own."""

    launch: Launch
    one_by_one: bool


def run_sweep(typed: Sequence[str], study: Study, launcher: CellLauncher) -> None:
    """Plan the cells of the overrides `typed`, which choose `study`, and train those that have not ended; tune first,
    and add seeds, where the study says so.

    Raises:
        ConfigError: the faults of all cells, before the first begins.
        RunFailed: cells failed; the others have run.
    """
    show(["planning the cells"])
    cells = plan_sweep(typed, study)
    folder = cells[0].run.folder.parent
    sweep = Sweep(typed, study, folder, launcher)
    tuned: dict[str, TunedValue] = {}
    if tuning := pending_tuning(study, typed):
        planned = {one.cell.arm for one in cells}  # of two arms that a match makes one run, the first
        arms = {arm: own for arm, own in arms_of(typed, study).items() if study.is_declared or arm in planned}
        if study.is_declared:
            sweep.declare()
        trial_study = Study(metric=study.metric, direction=study.direction, fail_fast=study.fail_fast)
        trial_folder = folder.with_name(folder.name + TUNING_SUFFIX)
        trials = Sweep(typed, trial_study, trial_folder, launcher, is_tuning=True)
        tuned = tune(study, arms, partial(plan_trials, tuning, arms, typed, folder.name), trials.run)
        show(describe(tuning, tuned))
    values = {arm: choice.value for arm, choice in tuned.items()}
    seeds, looks = list(study.seeds), list[int]()
    while True:
        if tuned or looks:
            cells = plan_cells(typed, study, seeds, values or None)
        sweep.run(cells, tuned, looks)
        if study.sequential is None or "seed" in map(override_key, typed):
            break
        from atomiclm.comparison.analysis import compare_folder  # statistics: only a sequential study asks
        from atomiclm.comparison.seeds import next_look

        looks.append(len(seeds))
        wanted, reason = next_look(compare_folder(folder), study, len(seeds))
        show([f"{folder.name}, look {len(looks)} at {len(seeds)} seeds: {reason}"])
        if wanted <= len(seeds):
            break
        taken = {*seeds, *(study.tuning.seeds if study.tuning else ())}
        fresh = (seed for seed in itertools.count(1) if seed not in taken)
        seeds += itertools.islice(fresh, wanted - len(seeds))
    facts = {"folder": str(folder), "runs": [_facts(one) for one in cells]}
    report([f"{len(cells)} of {len(cells)} cells done"], facts)
    show([f"next        atomiclm compare {shlex.quote(str(folder))}"])


def _facts(one: PlannedCell) -> dict[str, Any]:
    folder = RunFolder(one.run.folder)
    return {"run": str(folder.path), "arm": one.cell.arm, "seed": one.cell.seed, **summary_of(folder)}


class Sweep:
    """One sweep into one folder: its ledger, what has ended there, and the training of the rest.

    is_tuning: the cells are trials, of which one that fails only rules its value out
    """

    def __init__(
        self, typed: Sequence[str], study: Study, folder: Path, launcher: CellLauncher, is_tuning: bool = False
    ) -> None:
        self.typed, self.study, self.folder, self.launcher = typed, study, folder, launcher
        self.command = " ".join(["atomiclm train -m", *map(shlex.quote, [*config_dir_flag(), *typed])])
        self.is_tuning = is_tuning
        self.launched = 0
        self.share: Share | None = None  # of this machine, among the cells; None: the launcher's affair

    def declare(self) -> None:
        """Put the prediction on record before anything is trained; which cells there will be is not known yet."""
        known = read_ledger(self.folder)
        if known is None or known.study.prediction_sha256() != self.study.prediction_sha256():
            cells, looks = (known.cells, known.looks) if known else ((), ())
            paths = [path for cell in cells if (path := find_cell(self.folder, cell.run_id))]
            finished = sum(ended(RunFolder(path)) is not None for path in paths)
            self._write_ledger(known, cells, {}, looks, finished)

    def run(
        self, planned: Sequence[PlannedCell], tuned: Mapping[str, TunedValue] | None = None, looks: Sequence[int] = ()
    ) -> None:
        """Train what has not ended.

        Raises:
            RunFailed: cells failed; the others have run.
            UserError: a finished run was trained on another text than is there now, or the folder holds a study that
                this sweep is not of, whose declaration it would replace.
        """
        known = read_ledger(self.folder)
        if known and known.study.is_declared and not self.study.is_declared:
            raise UserError(
                f"name: {self.folder} holds the study of `{known.command}`, and this sweep is not of it; "
                "give the sweep another name=..."
            )
        finished = [one for one in planned if ended(RunFolder(one.run.folder)) or self._taken_over(one)]
        left = [one for one in planned if one not in finished]
        refuse_other_texts([one.run for one in finished])
        if self.launcher.one_by_one and left:
            threads = known.threads_here() if known else None
            self.share = share_machine([one.run for one in planned], [one.run for one in left], threads)
            left = [one.with_threads(self.share.threads) for one in left]
        known = read_ledger(self.folder)  # another sweep into the folder may have written it meanwhile
        cells = self._cells(planned, known.cells if known else ())
        self._write_ledger(known, cells, tuned or {}, looks, len(finished))
        if others := of_other_code([one.run for one in finished]):
            named = ", ".join(run.run_id for run in others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
            rule = f"note: finished runs that were made by other code than this: {len(others)} ({named})"
            show([f"{rule}; remove their folders to train them again"])
        self._show_plan(planned, len(finished))
        if self.share and str(self.share):
            show([f"  {self.share}"])
        warnings = list(cautions([(one.cell.arm, one.run.values) for one in left]))
        if warnings and not looks:  # later looks add seeds to the same arms
            show(warnings)
        failures = self._train(left, len(planned))
        if failures and not self.is_tuning:
            listed = [f"  {cell.arm} seed {cell.seed}: {failure}\n    {cell.command}" for cell, failure in failures]
            rest = f"The others are kept. Fix that; this runs what is left:\n  {self.command}"
            raise RunFailed("\n".join([f"{len(failures)} of {len(planned)} cells failed:", *listed, rest]))

    def _taken_over(self, one: PlannedCell) -> bool:
        """Whether another study has trained it. A sweep that is no study was given its name to train again."""
        twin = take_over(one.run) if self.study.is_declared else None
        if twin is not None:
            show([f"{one.run.folder.name}: copied from {twin}"])
        return twin is not None

    def _cells(self, planned: Sequence[PlannedCell], known: Sequence[Cell]) -> list[Cell]:
        """What is wanted; and what is `known` of other sweeps into the folder, as far as it is of this study still.

        Of sweeps that are no study, only what they trained, and no arm of a name that is wanted: under other settings
        beside it, it is another arm.
        """
        mine = [one.cell for one in planned]
        digests = {cell.digest for cell in mine}
        positions, names = {(cell.arm, cell.seed) for cell in mine}, {cell.arm for cell in mine}

        def stays(cell: Cell) -> bool:
            if cell.digest in digests:
                return False
            if self.study.is_declared:
                return cell.arm in self.study.arms and (cell.arm, cell.seed) not in positions
            return cell.arm not in names and find_cell(self.folder, cell.run_id) is not None

        return [*mine, *filter(stays, known)]

    def _write_ledger(
        self,
        known: StudyLedger | None,
        cells: Sequence[Cell],
        tuned: Mapping[str, TunedValue],
        looks: Sequence[int],
        finished: int,
    ) -> None:
        before = known or StudyLedger(self.folder.name, self.command, cells, self.study)
        ledger = replace(
            before,
            name=self.folder.name,
            command=self.command,
            cells=cells,
            study=self.study,
            tuned=tuned or before.tuned,
            looks=list(looks),
            profile=value_of("profile", self.typed) or FILE_PROFILE,
        )
        if self.share:
            ledger = replace(ledger, threads=self.share.threads, cores=self.share.cores)
        if self.study.is_declared:
            ledger = ledger.with_prediction(datetime.now(UTC).isoformat(timespec="seconds"), finished)
            if before.declared and len(ledger.declared) > len(before.declared):
                show([f"{self.folder.name}: the prediction was changed after {finished} runs had ended; both are kept"])
        write_ledger(self.folder, ledger)

    def _train(self, left: Sequence[PlannedCell], total: int) -> list[tuple[Cell, str]]:
        """Train the cells that are left of `total`, shown as they end; return those that failed, and of what."""
        if not left:
            return []
        waiting, failures = list(left), dict[str, str]()  # by the cell's digest

        def take() -> PlannedCell | None:
            """The next cell; those that another process is training come last: it may have ended them by then."""
            if not waiting or (failures and self.study.fail_fast):
                return None
            one = next((one for one in waiting if not is_locked(one.run.folder)), waiting[0])
            waiting.remove(one)
            return one

        with Display(self.folder, [one.cell for one in left], total, self.study.metric) as display:

            def end(one: PlannedCell, failure: str | None) -> None:
                display.look([(one.cell, failure)])
                if failure is not None:
                    failures[one.cell.digest] = failure

            def launch(planned: Sequence[PlannedCell]) -> None:
                first, self.launched = self.launched, self.launched + len(planned)
                for one, failure in zip(planned, self.launcher.launch(planned, first), strict=True):
                    end(one, failure)

            if self.share is None:
                launch(left)
            elif self.share.cells > 1:
                train_side_by_side(take, end, self.share.cells)
            else:
                while one := take():
                    launch([one])
        return [(one.cell, failures[one.cell.digest]) for one in left if one.cell.digest in failures]

    def _show_plan(self, planned: Sequence[PlannedCell], finished: int) -> None:
        """The cells that are wanted: of a sweep from the command line its factors, of a study its arms."""
        arms = list(dict.fromkeys(one.cell.arm for one in planned))
        seeds = dict.fromkeys(one.cell.seed for one in planned)
        done = f"; {finished} done" if finished else ""
        if self.is_tuning:
            show([f"{self.folder}: {len(planned)} trials{done}"])
            return
        lines = [f"{self.folder}: {len(planned)} cells, {len(arms)} arms, seeds {', '.join(map(str, seeds))}{done}"]
        if self.study.is_declared:
            lines.append(f"  {', '.join(arms)}")
        else:
            swept = [dict(map(key_and_value, own)) for own in arms_of(self.typed, self.study).values()]
            lines += [f"  {factor.name}: {', '.join(factor.levels)}" for factor in factors_of(swept)[0]]
        show(lines)


def show(lines: Sequence[str]) -> None:
    """Print lines about the sweep."""
    print("\n".join(lines), flush=True)
