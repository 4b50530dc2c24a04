"""`study.json`: what a sweep set out to do, beside the runs in which it is done.

The runs say what became of each cell; the ledger says which cells there are, so that one that never began is missed.
It is written before the first cell trains and again whenever the plan grows (tuned values, more seeds).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from atomiclm.atomic_io import read_json
from atomiclm.cli import UserError
from atomiclm.machine import usable_cores
from atomiclm.sweep.factors import Factor, FactorialArm, factors_of
from atomiclm.sweep.study import Study
from atomiclm.tracking import Place, RunFolder
from atomiclm.tracking.record import write_summary
from atomiclm.tracking.run_folder import digest_of

LEDGER_FILE = "study.json"
FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """One run that the sweep wants."""

    arm: str  # name of its arm; of a sweep from the command line, what is special about it
    seed: int
    run_id: str  # name of its run folder beside the ledger, of which only the digest after the last "-" identifies it
    overrides: Sequence[str]  # what `atomiclm train` takes to run this cell alone

    @property
    def digest(self) -> str:
        """The part of the run id that says what the run is."""
        return digest_of(self.run_id)

    @property
    def command(self) -> str:
        """The command that runs it alone, for a shell."""
        import shlex

        return " ".join(["atomiclm train", *map(shlex.quote, self.overrides)])


@dataclass(frozen=True)
class Declared:
    """A prediction as it stood at one time."""

    sha256: str  # `Study.prediction_sha256`
    time: str  # when the ledger first saw it, ISO 8601 with time zone
    finished_cells: int  # how many runs had ended by then; a prediction made before the results has 0


@dataclass(frozen=True)
class TunedValue:
    """What tuning chose for an arm."""

    value: float  # of the setting
    trials: Mapping[str, float]  # mean metric on the dev split by value tried, over the seeds; NaN where one diverged
    interior: bool  # whether better than both its neighbours; False: the grid ended first


@dataclass(frozen=True)
class StudyLedger:
    """The plan of a sweep."""

    name: str  # of the study; its folder's
    command: str  # what was typed last, for a shell
    cells: Sequence[Cell]  # every run that is wanted, arm by arm
    study: Study  # the declaration; of a sweep from the command line one without arms
    declared: Sequence[Declared] = ()  # the predictions, oldest first; more than one: it was changed
    tuned: Mapping[str, TunedValue] = field(default_factory=dict)  # by arm, where the study tunes
    looks: Sequence[int] = ()  # of a sequential study, the numbers of seeds at which it was looked at
    profile: str = "cpu"  # or smoke, gpu
    threads: int | None = None  # CPU threads of every cell that does not say itself; None: another launcher's affair
    cores: int | None = None  # that could be used where that was chosen

    def threads_here(self) -> int | None:
        """The threads that were chosen, if that was for a machine with as many cores as this; else None."""
        return self.threads if self.cores == usable_cores() else None

    def factors(self) -> tuple[list[Factor], dict[str, FactorialArm]]:
        """What the sweep varies, and each arm's levels; nothing of a study that declares arms."""
        variants = variants_of(self.study, self.cells)
        factors, arms = factors_of(list(variants.values()))
        return factors, dict(zip(variants, arms, strict=True))

    def with_prediction(self, time: str, finished_cells: int) -> "StudyLedger":
        """Note the study's prediction, if it is a new one."""
        sha256 = self.study.prediction_sha256()
        if self.declared and self.declared[-1].sha256 == sha256:
            return self
        return replace(self, declared=[*self.declared, Declared(sha256, time, finished_cells)])


def variants_of(study: Study, cells: Sequence[Cell]) -> dict[str, dict[str, str]]:
    """For each arm its level of every factor: of a study as it declares them, of none that declares arms.

    Of a sweep from the command line, the values of the keys that its cells were given and in which the arms differ;
    what was tuned for each arm is no factor.
    """
    if study.is_declared:
        levels = study.levels
        return {cell.arm: levels[cell.arm] for cell in cells if cell.arm in levels}
    tuned = study.tuning.key if study.tuning else None
    own: dict[str, dict[str, str]] = {}
    for cell in cells:
        pairs = [override.partition("=") for override in cell.overrides]
        own[cell.arm] = {
            key.lstrip("+~"): "null" if key.startswith("~") else value
            for key, _, value in pairs
            if key not in ("seed", "name", tuned)
        }
    keys = {key for values in own.values() for key in values}
    varied = [key for key in keys if len({values.get(key) for values in own.values()}) > 1]
    return {arm: {key: value for key, value in values.items() if key in varied} for arm, values in own.items()}


def place_of(folder: RunFolder) -> Place:
    """The place of a run in the sweep whose ledger lies beside it; UserError: the ledger is damaged."""
    ledger = read_ledger(folder.path.absolute().parent)
    cells = ledger.cells if ledger else ()
    arm = next((cell.arm for cell in cells if cell.digest == digest_of(folder.run_id)), None)
    if ledger is None or arm is None:
        return Place()
    factors, arms = ledger.factors()
    levels = zip(factors, arms[arm].levels, strict=True) if arm in arms else ()
    return Place(arm, {factor.name: factor.values[level] for factor, level in levels}, ledger.study.question)


def write_ledger(folder: Path, ledger: StudyLedger) -> None:
    """Write `folder/study.json`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_summary(folder / LEDGER_FILE, {"format": FORMAT, **asdict(ledger)})


def read_ledger(folder: Path) -> StudyLedger | None:
    """Read `folder/study.json`; None where there is none. UserError: it is damaged, or of another format."""
    file = folder / LEDGER_FILE
    try:
        values = read_json(file)
        if values.pop("format") != FORMAT:
            raise UserError("written by another version of atomiclm")
        return StudyLedger(
            **{
                **values,
                "cells": [Cell(**cell) for cell in values["cells"]],
                "study": Study.from_json(values["study"]),
                "declared": [Declared(**entry) for entry in values["declared"]],
                "tuned": {arm: TunedValue(**entry) for arm, entry in values["tuned"].items()},
            }
        )
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{file} cannot be read ({error}); remove it, and the next sweep writes a new one, without what it noted: "
            "when the prediction was first seen, and the looks"
        ) from error
