"""A sweep: every cell is validated before the first one begins; what is done is skipped, and a failure stops no other.

The cells of a study are its arms times its seeds; `-m key=1,2` on the command line multiplies them further, or makes a
sweep without a study. What is wanted is written to `study.json` beside the runs, so that `compare` can miss a cell that
never began.
"""

import itertools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from atomiclm.cli import UserError
from atomiclm.config.compose import key_and_value, override_key, value_of
from atomiclm.config.errors import RunFailed
from atomiclm.config.expand_overrides import FILE_PROFILE
from atomiclm.config.validate import cautions
from atomiclm.sweep.display import Display
from atomiclm.sweep.factors import factors_of
from atomiclm.sweep.ledger import Cell, StudyLedger, TunedValue, read_ledger, write_ledger
from atomiclm.sweep.plan import PlannedCell, arms_of, pending_tuning, plan_cells, plan_sweep
from atomiclm.sweep.run_status import ended, of_other_code, refuse_other_texts, take_over
from atomiclm.sweep.study import Study
from atomiclm.sweep.tuning import TUNING_SUFFIX, describe, plan_trials, tune
from atomiclm.tracking import RunFolder, find_cell, is_locked
from atomiclm.tracking.run_folder import EARLIER_DIGITS

_SHOWN = 3
"""Runs that a note names."""

Launch = Callable[[Sequence[PlannedCell], int], Sequence[BaseException | None]]
"""Runs cells as jobs, of which the first has the number given; returns what each raised."""

Look = Callable[[Path, Study, int], tuple[int, str]]
"""(folder, study, seeds an arm has) -> how many it is to have, and why."""


@dataclass
class CellLauncher:
    """Runs cells by one of Hydra's launchers.

    Attributes:
        launch: runs them and returns when all have ended.
        one_by_one: whether it runs them in this process, one after the other.
    """

    launch: Launch
    one_by_one: bool


def run_sweep(typed: Sequence[str], study: Study, launcher: CellLauncher, look: Look) -> None:
    """Plan the cells and train those that have not ended; tune first, and add seeds, where the study says so.

    Args:
        typed: the overrides of the command.
        study: what they choose.
        launcher: runs cells.
        look: decides after each look at a sequential study.

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
            return
        looks.append(len(seeds))
        wanted, reason = look(folder, study, len(seeds))
        show([f"{folder.name}, look {len(looks)} at {len(seeds)} seeds: {reason}"])
        if wanted <= len(seeds):
            return
        taken = {*seeds, *(study.tuning.seeds if study.tuning else ())}
        fresh = (seed for seed in itertools.count(1) if seed not in taken)
        seeds += itertools.islice(fresh, wanted - len(seeds))


class Sweep:
    """One sweep into one folder: its ledger, what has ended there, and the training of the rest.

    Args:
        typed: the overrides of the command.
        study: what they choose.
        folder: where the runs lie.
        launcher: runs cells.
        is_tuning: the cells are trials, of which one that fails only rules its value out.
    """

    def __init__(
        self, typed: Sequence[str], study: Study, folder: Path, launcher: CellLauncher, is_tuning: bool = False
    ) -> None:
        self.typed = typed
        self.study = study
        self.folder = folder
        self.launcher = launcher
        self.is_tuning = is_tuning
        self.launched = 0

    def declare(self) -> None:
        """Put the prediction on record before anything is trained; which cells there will be is not known yet."""
        known = read_ledger(self.folder)
        if known is None or known.study.prediction_sha256() != self.study.prediction_sha256():
            cells = known.cells if known else ()
            paths = [path for cell in cells if (path := find_cell(self.folder, cell.run_id))]
            finished = sum(ended(RunFolder(path)) is not None for path in paths)
            self._write_ledger(cells, known.tuned if known else {}, known.looks if known else (), finished)

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
        refuse_other_texts([one.run for one in finished])
        self._write_ledger(self._cells(planned), tuned or {}, looks, len(finished))
        if others := of_other_code([RunFolder(one.run.folder) for one in finished]):
            named = ", ".join(folder.run_id for folder in others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
            rule = f"note: {len(others)} finished runs were made by other code of atomiclm than this ({named})"
            show([f"{rule}; remove their folders to train them again"])
        left = [one for one in planned if one not in finished]
        self._show_plan(planned, len(finished))
        warnings = list(cautions([(one.cell.arm, one.run.values) for one in left]))
        if warnings and not looks:  # later looks add seeds to the same arms
            show(warnings)
        failures = self._train(left, len(planned))
        if failures and not self.is_tuning:
            again = " ".join(["python -m atomiclm.train -m", *map(shlex.quote, self.typed)])
            listed = [_describe_failure(cell, error) for cell, error in failures]
            rest = f"The others are kept. Once that is mended, this runs what is left:\n  {again}"
            raise RunFailed("\n".join([f"{len(failures)} of {len(planned)} cells failed:", *listed, rest]))
        if not failures and not self.is_tuning:
            next_command = f"python -m atomiclm.compare {shlex.quote(str(self.folder))}"
            show([f"{len(planned)} of {len(planned)} cells done", f"next        {next_command}"])

    def _taken_over(self, one: PlannedCell) -> bool:
        """Whether another study has trained it. A sweep that is no study was given its name to train again."""
        twin = take_over(one.run) if self.study.is_declared else None
        if twin is not None:
            show([f"{one.run.folder.name}: taken over from {twin}"])
        return twin is not None

    # -----------------------------------------------------------------------------------------------------------------
    # The ledger.

    def _cells(self, planned: Sequence[PlannedCell]) -> list[Cell]:
        """What is wanted; and what other sweeps into the same folder wanted, as far as it is still of this study.

        Of sweeps that are no study, only what they trained, and no arm of a name that is wanted: under other settings
        beside it, it is another arm.
        """
        known = read_ledger(self.folder)
        mine = [one.cell for one in planned]
        digests = {digest for cell in mine for digest in (cell.digest, cell.digest[:EARLIER_DIGITS])}
        positions, names = {(cell.arm, cell.seed) for cell in mine}, {cell.arm for cell in mine}

        def stays(cell: Cell) -> bool:
            if cell.digest in digests:
                return False
            if self.study.is_declared:
                return cell.arm in self.study.arms and (cell.arm, cell.seed) not in positions
            return cell.arm not in names and find_cell(self.folder, cell.run_id) is not None

        return [*mine, *filter(stays, known.cells if known else ())]

    def _write_ledger(
        self, cells: Sequence[Cell], tuned: Mapping[str, TunedValue], looks: Sequence[int], finished: int
    ) -> None:
        known = read_ledger(self.folder)
        declared = known.declared if known else ()
        ledger = StudyLedger(
            name=self.folder.name,
            command=" ".join(["python -m atomiclm.train -m", *map(shlex.quote, self.typed)]),
            cells=cells,
            study=self.study,
            declared=declared,
            tuned=tuned or (known.tuned if known else {}),
            looks=list(looks),
            profile=value_of("profile", self.typed) or FILE_PROFILE,
        )
        if self.study.is_declared:
            ledger = ledger.with_prediction(datetime.now(UTC).isoformat(timespec="seconds"), finished)
            if declared and len(ledger.declared) > len(declared):
                show([f"{self.folder.name}: the prediction was changed after {finished} runs had ended; both are kept"])
        write_ledger(self.folder, ledger)

    # -----------------------------------------------------------------------------------------------------------------
    # Training.

    def _train(self, left: Sequence[PlannedCell], total: int) -> list[tuple[Cell, BaseException]]:
        """Train the cells that are left of `total`, shown as they end; return those that failed."""
        if not left:
            return []
        with Display(self.folder, [one.cell for one in left], total, self.study.metric) as display:
            if not self.launcher.one_by_one:
                return self._launch(left, display)
            failures: list[tuple[Cell, BaseException]] = []
            waiting = list(left)
            while waiting and not (failures and self.study.fail_fast):
                # Those that another process is training come last: it may have ended them by then.
                one = next((one for one in waiting if not is_locked(one.run.folder)), waiting[0])
                waiting.remove(one)
                failures += self._launch([one], display)
            return failures

    def _launch(self, planned: Sequence[PlannedCell], display: Display) -> list[tuple[Cell, BaseException]]:
        first, self.launched = self.launched, self.launched + len(planned)
        returned = [(one.cell, error) for one, error in zip(planned, self.launcher.launch(planned, first), strict=True)]
        display.look(returned)
        return [(cell, error) for cell, error in returned if error is not None]

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


def _describe_failure(cell: Cell, error: BaseException) -> str:
    message = str(error).strip() or "no message"
    return f"  {cell.arm} seed {cell.seed}: {type(error).__name__}: {message}\n    {cell.command}"


def show(lines: Sequence[str]) -> None:
    """Print lines about the sweep."""
    print("\n".join(lines), flush=True)
