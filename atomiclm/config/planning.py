"""The cells of a sweep: from what was typed to validated runs, before anything is trained or written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.errors import CompactHydraException
from omegaconf.errors import OmegaConfBaseException

from atomiclm.config.compose import parsed, without_null
from atomiclm.config.composition_faults import composition_fault
from atomiclm.config.declared import axes, expanded
from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.identity import IDENTITY
from atomiclm.config.overrides import override_key, override_value, value_of
from atomiclm.config.run import RunConfig, read_cell
from atomiclm.config.sweep_size import sweep_size_faults
from atomiclm.sweep.ledger import Cell
from atomiclm.sweep.study import Study


@dataclass(frozen=True)
class Wanted:
    """A cell, the configuration that it is, and the overrides that make it, arm and profile written out."""

    cell: Cell
    run: RunConfig
    overrides: Sequence[str]


def planned(
    typed: Sequence[str], study: Study, seeds: Sequence[int], tuned: Mapping[str, float] | None = None
) -> list[Wanted]:
    """Return the cells of a sweep: the product of what was typed, the study's arms and `seeds`; each validated.

    All cells of one seed come before those of the next, so that an interrupted sweep has whole comparisons.

    Args:
        typed: the overrides of the command, lists of values among them.
        study: what `typed` choose.
        seeds: of every arm, unless seeds were typed.
        tuned: what tuning chose for each arm; None: as the ledger has it.

    Raises:
        ConfigError: the faults of all cells, more cells than are run, or cells that would not lie in one folder.
    """
    overrides = parsed([*typed, *axes(study, typed, seeds)])
    if faults := list(sweep_size_faults(overrides)):
        raise ConfigError(faults)
    swept = [override_key(one.input_line or "") for one in overrides if one.is_sweep_override()]
    products = [cell for batch in BasicSweeper.split_arguments(overrides, None) for cell in batch]
    order = list(dict.fromkeys(value_of("seed", cell) for cell in products))
    products.sort(key=lambda cell: order.index(value_of("seed", cell)))  # seeds outside all other axes
    wanted = validated([without_null(cell) for cell in products], tuned, swept)
    if len({one.run.folder.parent for one in wanted}) > 1:
        raise ConfigError([Fault("name", "the cells of a sweep lie in one folder: give one name and one output_dir")])
    if faults := [*_text_faults(swept), *_tuning_faults(typed, study, swept, wanted)]:
        raise ConfigError(faults)
    return wanted


def validated(
    cells: Sequence[Sequence[str]], tuned: Mapping[str, float] | None = None, swept: Sequence[str] = ()
) -> list[Wanted]:
    """Compose and validate every cell; of two that a match makes one run, the first is kept.

    An arm matched to itself is itself, so a sweep over match=none,parameters has its baseline twice, and trains it
    once. Two cells that are one run for any other reason are a mistake, and so are two arms of a study.

    Args:
        cells: the overrides of each, as somebody would type them.
        tuned: what tuning chose for each arm; None: as the ledger has it.
        swept: the keys that the command line lists several values of.

    Raises:
        ConfigError: the faults of all cells, each once, with the first cell that has it.
    """
    faults: dict[str, Fault] = {}
    wanted: dict[str, Wanted] = {}
    numbers: dict[str, int] = {}
    for number, overrides in enumerate(cells, start=1):
        written_out = list(overrides)
        try:
            written_out = expanded(overrides, tuned)
            run = read_cell(written_out, swept)
        except (ConfigError, CompactHydraException, OmegaConfBaseException) as error:
            told = error.faults if isinstance(error, ConfigError) else [composition_fault(error, written_out)]
            for fault in told:
                where = f"cell {number} of {len(cells)} ({_special(overrides, cells)})"
                faults.setdefault(str(fault), Fault(fault.path, f"{fault.message}  [{where}]"))
            continue
        cell = Cell(_arm(overrides, swept), int(run.values["seed"]), run.run_id, list(overrides))
        twin = wanted.setdefault(cell.digest, Wanted(cell, run, written_out))
        first = numbers.setdefault(cell.digest, number)
        if first != number and not _are_matched_alike(cell, twin.cell, written_out, twin.overrides):
            rule = f"cells {first} and {number} are the same run"
            names = f"({_special(cells[first - 1], cells)}; {_special(overrides, cells)})"
            fix = f"arms and swept values must differ in {', '.join(IDENTITY)}, and what is typed wins over arms"
            # Once for two arms, not for each of their seeds.
            faults.setdefault(f"{twin.cell.arm} = {cell.arm}", Fault("sweep", f"{rule} {names}; {fix}"))
    if faults:
        raise ConfigError(list(faults.values()))
    return list(wanted.values())


def _text_faults(swept: Sequence[str]) -> list[Fault]:
    rule = "the runs of a sweep are scored on one text, or they cannot be compared; choose validation or dev"
    return [Fault("held_out", rule)] if "held_out" in swept else []


def _tuning_faults(
    typed: Sequence[str], study: Study, swept: Sequence[str], wanted: Sequence[Wanted]
) -> Iterator[Fault]:
    """What goes against a study that tunes: a value is chosen for each arm as it stands, on seeds apart."""
    tuning = study.tuning
    if tuning is None or tuning.key in map(override_key, typed):
        return
    if others := [key for key in swept if key not in ("seed", "arm")]:
        rule = f"this study tunes {tuning.key} for its arms and takes no other axis"
        yield Fault(others[0], f"{rule}; make arms of the values, or give {tuning.key}=...")
    if shared := {one.cell.seed for one in wanted} & set(tuning.seeds):
        rule = f"{sorted(shared)} are seeds of study.tuning; a value tuned on a seed flatters that seed"
        yield Fault("seed", f"{rule}; choose others")


def _arm(overrides: Sequence[str], swept: Sequence[str]) -> str:
    """The arm's name, and what the command line sweeps over beside it."""
    arm = value_of("arm", overrides)
    varied = [one for one in overrides if override_key(one) in swept and override_key(one) not in ("seed", "arm")]
    return " ".join([*([arm] if arm else []), *map(_short, varied)]) or "default"


def _short(override: str) -> str:
    return f"{override_key(override).replace('/', '.').rpartition('.')[2]}={override_value(override)}"


def _special(cell: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """The overrides of `cell` that not all cells have."""
    shared = set(cell).intersection(*cells) if len(cells) > 1 else set()
    return " ".join(override for override in cell if override not in shared)


def _are_matched_alike(cell: Cell, other: Cell, one: Sequence[str], another: Sequence[str]) -> bool:
    """Whether two cells of one arm are one run because a match had nothing to change."""
    matches = [[override for override in own if override.startswith("match")] for own in (one, another)]
    return value_of("arm", cell.overrides) == value_of("arm", other.overrides) and matches[0] != matches[1]
