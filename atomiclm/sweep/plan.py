"""The cells of a sweep: from what was typed to validated runs, before anything is trained or written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from atomiclm.config import IDENTITY
from atomiclm.config.build import build
from atomiclm.config.command_line import composing
from atomiclm.config.compose import key_and_value, override_key, value_of, without_null
from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.expand_overrides import expand_overrides, product
from atomiclm.config.plugins import config_dir_flag
from atomiclm.config.run import RunConfig, read_cell
from atomiclm.sweep.factors import factors_of
from atomiclm.sweep.ledger import Cell
from atomiclm.sweep.study import Study, Tuning
from atomiclm.tracking import Console


@dataclass(frozen=True)
class PlannedCell:
    """A cell, the configuration that it is, and the overrides that make it, arm and profile written out."""

    cell: Cell
    run: RunConfig
    overrides: Sequence[str]

    @property
    def job(self) -> list[str]:
        """What a launcher is given: the overrides, and the run's name, which depends on what the sweep varies."""
        return [*without_null(self.overrides), f"hydra.job.name='{self.run.run_id}'"]

    def with_threads(self, number: int) -> "PlannedCell":
        """The same cell on so many CPU threads, unless it says itself on how many."""
        runtime = build(self.run.values["runtime"])
        if runtime.num_threads is not None or number == runtime.torchs_threads:
            return self
        setting = f"runtime.num_threads={number}"
        cell = replace(self.cell, overrides=[*self.cell.overrides, setting])
        return replace(self, cell=cell, overrides=[*self.overrides, setting])


def plan_sweep(typed: Sequence[str], study: Study) -> list[PlannedCell]:
    """Return the cells of the study that `typed` choose; what is yet to be tuned stands at the middle of its grid.

    Raises:
        ConfigError: the faults of all cells.
    """
    tuning = pending_tuning(study, typed)
    middle = {arm: tuning.grid(arm)[len(tuning.values) // 2] for arm in arms_of(typed, study)} if tuning else None
    return plan_cells(typed, study, study.seeds, middle)


def pending_tuning(study: Study, typed: Sequence[str]) -> Tuning | None:
    """The study's tuning; None where it has none, or a value of the tuned setting was typed."""
    tuning = study.tuning
    return None if tuning is None or tuning.key in map(override_key, typed) else tuning


def arms_of(typed: Sequence[str], study: Study) -> dict[str, list[str]]:
    """The overrides that make each arm: of a study that declares arms its name, else what the command line sweeps."""
    if study.is_declared:
        return {arm: [f"arm={arm}"] for arm in study.arms}
    swept, cells = product(typed)
    labels = _labels(cells, swept)
    if study.tuning and (strangers := [arm for arm in study.tuning.grids if arm not in labels]):
        names = ", ".join(dict.fromkeys(labels))
        raise ConfigError([Fault("study.tuning.grids", f"{strangers[0]!r} is none of the arms: {names}")])
    return {
        label: [one for one in cell if override_key(one) in swept and override_key(one) != "seed"]
        for label, cell in zip(labels, cells, strict=True)
    }


def plan_cells(
    typed: Sequence[str], study: Study, seeds: Sequence[int], tuned: Mapping[str, float] | None = None
) -> list[PlannedCell]:
    """Return the product of what was typed, the study's arms and `seeds`; each cell validated.

    All cells of one seed come before those of the next, so that an interrupted sweep has whole comparisons. Seeds that
    were typed replace `seeds`. `tuned` is what tuning chose for each arm; None: as the ledger has it.

    Raises:
        ConfigError: the faults of all cells, more cells than are run, or cells that would not lie in one folder.
    """
    axes: dict[str, Iterable[object]] = {"seed": seeds, "arm": study.arms} if study.is_declared else {}
    given = set(map(override_key, typed))
    listed = [f"{key}={','.join(map(str, values))}" for key, values in axes.items() if key not in given]
    swept, cells = product([*typed, *listed])
    order = list(dict.fromkeys(value_of("seed", cell) for cell in cells))
    cells.sort(key=lambda cell: order.index(value_of("seed", cell)))  # seeds outside all other axes
    labels = _labels(cells, swept)
    if tuned and not study.is_declared:
        assert study.tuning is not None
        known = [(cell, label) for cell, label in zip(cells, labels, strict=True) if label in tuned]
        cells = [[*cell, f"{study.tuning.key}={tuned[label]!r}"] for cell, label in known]
        labels = [label for _, label in known]
    planned = validate_cells([without_null(cell) for cell in cells], labels, tuned, swept)
    if not planned:
        raise ConfigError([Fault("study", "there is nothing to run")])
    if len({one.run.folder.parent for one in planned}) > 1:
        raise ConfigError([Fault("name", "the cells of a sweep lie in one folder: give one name and one output_dir")])
    if "held_out" in swept:
        rule = "the runs of a sweep are scored on one text, or they cannot be compared; choose validation or dev"
        raise ConfigError([Fault("held_out", rule)])
    if (tuning := pending_tuning(study, typed)) is not None:
        faults = []
        if study.is_declared and (others := [key for key in swept if key not in ("seed", "arm")]):
            rule = f"this study tunes {tuning.key} for its arms and takes no other axis"
            faults.append(Fault(others[0], f"{rule}; make arms of the values, or give {tuning.key}=..."))
        if shared := {one.cell.seed for one in planned} & set(tuning.seeds):
            rule = f"{sorted(shared)} are seeds of study.tuning; a value tuned on a seed flatters that seed"
            faults.append(Fault("seed", f"{rule}; choose others"))
        if faults:
            raise ConfigError(faults)
    return planned


def validate_cells(
    cells: Sequence[Sequence[str]],
    arms: Sequence[str],
    tuned: Mapping[str, float] | None = None,
    swept: Sequence[str] = (),
) -> list[PlannedCell]:
    """Compose and validate every cell; of two that a match makes one run, the first stays.

    An arm matched to itself is itself, so a sweep over match=none,parameters has its baseline twice, and trains it
    once. Two cells that are one run for any other reason are a mistake, and so are two arms of a study.

    `arms` names the arm of each cell, `swept` the keys that the command line lists several values of. ConfigError: the
    faults of all cells, each once, with the first cell that has it.
    """
    faults: dict[str, Fault] = {}
    planned: dict[str, tuple[int, PlannedCell]] = {}
    console = Console()
    for number, overrides in enumerate(cells, start=1):
        console.still(f"checking cell {number} of {len(cells)}", after=3.0)
        try:
            with composing(overrides):
                written_out = expand_overrides(overrides, tuned)
            with composing(written_out):
                run = read_cell(written_out, swept)
        except ConfigError as error:
            where = f"[cell {number} of {len(cells)} ({_own_overrides(overrides, cells)})]"
            for fault in error.faults:
                faults.setdefault(str(fault), Fault(fault.path, f"{fault.message}  {where}"))
            continue
        cell = Cell(arms[number - 1], int(run.values["seed"]), run.run_id, [*config_dir_flag(), *overrides])
        first, twin = planned.setdefault(cell.digest, (number, PlannedCell(cell, run, written_out)))
        if first == number or _differ_in_match_alone(overrides, written_out, twin):
            continue
        rule = f"cells {first} and {number} are the same run"
        names = f"({_own_overrides(cells[first - 1], cells)}; {_own_overrides(overrides, cells)})"
        fix = f"they must differ in {', '.join(IDENTITY)}; a value on the command line overrides an arm's"
        # Once for two arms, not for each of their seeds.
        faults.setdefault(f"{twin.cell.arm} = {cell.arm}", Fault("sweep", f"{rule} {names}; {fix}"))
    console.still("")
    if faults:
        raise ConfigError(list(faults.values()))
    return [one for _, one in planned.values()]


def _labels(cells: Sequence[Sequence[str]], swept: Sequence[str]) -> list[str]:
    """For each cell its arm's name: the study's, and the levels of what the command line sweeps beside it."""
    keys = [key for key in swept if key not in ("seed", "arm")]
    levels = [{key: value for key, value in map(key_and_value, cell) if key in keys} for cell in cells]
    names = ((value_of("arm", cell), arm.label) for cell, arm in zip(cells, factors_of(levels)[1], strict=True))
    return [" ".join(filter(None, words)) or "default" for words in names]


def _own_overrides(cell: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """The overrides of `cell` that not all cells have."""
    shared = set(cell).intersection(*cells) if len(cells) > 1 else set()
    return " ".join(override for override in cell if override not in shared)


def _differ_in_match_alone(overrides: Sequence[str], written_out: Sequence[str], twin: PlannedCell) -> bool:
    """Whether a cell is the same run as `twin`, of the same arm, because a match had nothing to change."""
    own, others = ([one for one in each if one.startswith("match")] for each in (written_out, twin.overrides))
    return value_of("arm", overrides) == value_of("arm", twin.cell.overrides) and own != others
