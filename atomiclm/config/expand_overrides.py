"""From what a person typed to the overrides of every run of a study or a sweep.

A study's file says what is true of all its runs; then, each able to change what came before: the profile, the arm,
what was tuned for the arm, and last what was typed. `expand_overrides` writes that order out as plain overrides, the
same whether a cell runs alone or in a sweep. It reads the study's own file and composes nothing.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Sweep
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from atomiclm.config.command_line import explain
from atomiclm.config.compose import overridden, override_key, parsed, resolved, unresolved, value_of
from atomiclm.config.errors import ConfigError, Fault, nearest
from atomiclm.config.plugins import CONF, find_experiment, read_experiment

if TYPE_CHECKING:
    from atomiclm.sweep.study import Study

FILE_PROFILE = "cpu"  # the profile that is the experiment's file itself
MAX_CELLS = 10_000  # of a sweep, all composed and validated before the first is trained


def expand_overrides(overrides: Sequence[str], tuned: Mapping[str, float] | None = None) -> list[str]:
    """Return the overrides of one run: those of its profile and its arm written out before what was typed.

    Overrides that are expanded already stay as they are. `tuned` is what tuning chose for each arm; None: as the ledger
    beside the study's runs has it. ConfigError: no such arm or profile, or an arm that has not been tuned yet.
    """
    declared = declared_overrides(overrides)
    typed = [override for override in overrides if override not in declared]
    return overridden(overridden(declared, _tuned(overridden(declared, typed), tuned)), typed)


def expand_sweep(overrides: Sequence[str]) -> list[str]:
    """The same for a sweep, whose cells choose their arms themselves: those of its profile, if it is one."""
    single = [one.input_line or "" for one in parsed(overrides) if not one.is_sweep_override()]
    return overridden(declared_overrides([one for one in single if override_key(one) != "arm"]), overrides)


def declared_overrides(overrides: Sequence[str]) -> list[str]:
    """Return what the study's file itself says of the chosen profile and arm."""
    profile, arm = value_of("profile", overrides) or FILE_PROFILE, value_of("arm", overrides)
    declared: list[str] = []
    if profile != FILE_PROFILE:
        profiles = listed("profiles", overrides)
        if profile not in profiles:
            advice = nearest(profile, [FILE_PROFILE, *profiles])
            raise ConfigError([Fault("profile", f"'{profile}' is no profile of this experiment{advice}")])
        # A name of its own: runs of unlike budgets are not to lie in one folder.
        name = _setting("name", [one for one in overrides if override_key(one) != "name"])
        declared = overridden([f"name={name}-{profile}"], profiles[profile])
    if arm is not None:
        arms = listed("arms", overrides)
        if not arms:
            raise ConfigError([Fault("arm", f"'{arm}': no experiment that has arms was chosen")])
        if arm not in arms:
            several = all(name in arms for name in arm.split(","))
            advice = "; add -m for a run of each" if several else nearest(arm, arms)
            raise ConfigError([Fault("arm", f"'{arm}' is no arm of this study{advice}")])
        declared = overridden(declared, arms[arm])
    return declared


def _tuned(overrides: Sequence[str], tuned: Mapping[str, float] | None) -> list[str]:
    """What tuning chose for the arm, as an override; nothing where nothing is tuned, or a value was typed."""
    arm, key = value_of("arm", overrides), _tuned_key(overrides)
    if arm is None or key is None or value_of(key, overrides) is not None:
        return []
    if tuned is None:
        from atomiclm.sweep.ledger import read_ledger

        folder = Path(_setting("output_dir", overrides)) / _setting("name", overrides)
        ledger = read_ledger(folder)
        tuned = {name: choice.value for name, choice in ledger.tuned.items()} if ledger else {}
        if arm not in tuned:
            rule = f"is tuned for every arm of this study, and {folder} has no value for {arm} yet"
            raise ConfigError([Fault(key, f"{rule}; run the study with -m, or give {key}=...")])
    return [f"{key}={tuned[arm]!r}"]


def _tuned_key(overrides: Sequence[str]) -> str | None:
    """The setting that the study tunes for its arms."""
    experiment = experiment_of(overrides)
    option = value_of("study/tuning", [*chosen_by(experiment), *overrides])
    if option is None:
        return None
    own = (experiment.get("study") or {}).get("tuning") or {}
    file = CONF / "study" / "tuning" / f"{option}.yaml"
    key: str | None = own.get("key") or OmegaConf.select(OmegaConf.load(file), "key")
    return key


def listed(name: str, overrides: Sequence[str]) -> dict[str, list[str]]:
    """The arms or profiles of the chosen experiment, under what was typed; composition reports those that are none."""
    node = OmegaConf.create({"study": experiment_of(overrides).get("study") or {}})
    changed = ("study.arms", "study.factors") if name == "arms" else (f"study.{name}",)
    for one in parsed([override for override in overrides if override_key(override).startswith(changed)]):
        with suppress(OmegaConfBaseException):
            if not one.is_sweep_override() and not one.is_delete():
                OmegaConf.update(node, one.key_or_group, one.value(), force_add=True)
    if name == "arms" and isinstance(factors := OmegaConf.select(node, "study.factors"), DictConfig) and factors:
        from atomiclm.sweep.factors import declared_arms

        with suppress(ValueError):  # which composition reports
            return {
                arm: [f"{key}={level}" for key, level in own.items()]
                for arm, own in declared_arms(unresolved(factors)).items()
            }
    found = OmegaConf.select(node, f"study.{name}")
    lists = unresolved(found) if isinstance(found, DictConfig) else {}
    return {key: list(map(str, words)) for key, words in lists.items() if isinstance(words, list)}


def _setting(key: str, overrides: Sequence[str]) -> str:
    """A top-level setting: as it was typed, or the debug preset has it, or the experiment, or the primary config."""
    if (typed := value_of(key, overrides)) is not None:
        return typed.strip("'\"")
    files = [CONF / "debug" / f"{value_of('debug', overrides)}.yaml", CONF / "config.yaml"]
    debug, primary = (OmegaConf.select(OmegaConf.load(file), key) if file.is_file() else None for file in files)
    return str(debug or experiment_of(overrides).get(key) or primary)


def experiment_of(overrides: Sequence[str]) -> dict[str, Any]:
    """The file of the chosen experiment; empty where there is none, which composition reports."""
    file = find_experiment(value_of("experiments", overrides) or "")
    return _content(file, file.stat().st_mtime_ns) if file else {}


def chosen_by(experiment: Mapping[str, Any]) -> list[str]:
    """The options that an experiment's file chooses in its defaults, as overrides."""
    return [
        f"{str(key).removeprefix('override ').lstrip('/')}={'null' if option is None else option}"
        for entry in experiment.get("defaults", [])
        if isinstance(entry, Mapping)
        for key, option in entry.items()
    ]


@lru_cache(maxsize=8)
def _content(file: Path, changed: int) -> dict[str, Any]:
    return unresolved(read_experiment(file))


# The study of a configuration, and what its arms and profiles may set: refused before the first of them is composed.

_OF_NEITHER: Mapping[str, str] = {
    "seed": "study.seeds lists the seeds, the same for every arm",
    "arm": "the command chooses it",
    "profile": "the command chooses it",
    "experiments": "an experiment does not contain another",
    "held_out": "all runs of a study are scored on the same text",
    "hydra": "that is for the command line",
}
_OF_NO_ARM: Mapping[str, str] = {
    **_OF_NEITHER,
    "name": "all runs of a study lie in one folder",
    "output_dir": "all runs of a study lie in one folder",
    "study": "the study is the same for all its arms",
}  # why a setting is not an arm's to change; most of these would be read from elsewhere, and pass without effect


def study_of(config: DictConfig) -> "Study":
    """Return the study of a composed configuration; ConfigError: the study's own faults."""
    from atomiclm.config.validate import Check
    from atomiclm.sweep.study import Study

    node, check = resolved(config).get("study"), Check()
    if not isinstance(node, dict):
        rule = f"{node!r} is not a mapping; leave it out, or fill in question, arms, seeds"
        raise ConfigError([Fault("study", rule)])
    study = check.node("study", node)
    check.end()
    assert isinstance(study, Study)
    faults = [
        fault
        for group, own, reserved in (("arms", study.arms, _OF_NO_ARM), ("profiles", study.profiles, _OF_NEITHER))
        for name, overrides in own.items()
        for fault in _listed_faults(f"study.{group}.{name}", overrides, reserved)
    ]
    for arm, own in study.arms.items():
        if study.tuning and study.tuning.key in map(override_key, own):
            rule = f"sets {study.tuning.key}, which study.tuning chooses for every arm"
            faults.append(Fault(f"study.arms.{arm}", f"{rule}; give the arm a grid in tuning.grids"))
    if faults:
        raise ConfigError(faults)
    return study


def _listed_faults(path: str, overrides: Sequence[str], reserved: Mapping[str, str]) -> Iterator[Fault]:
    """What is wrong with the overrides of an arm or a profile, as far as it shows without composing."""
    for override in overrides:
        try:
            (one,) = OverridesParser.create().parse_overrides([override])
        except OverrideParseException as error:
            yield Fault(path, f"'{override}': {explain(error, overrides).message}")
            continue
        if one.is_sweep_override():
            yield Fault(path, f"'{override}' lists several values; give each an arm, or list them on the command line")
        group = override_key(override).replace("/", ".").split(".")[0]
        if group in reserved:
            yield Fault(path, f"'{override}' is not to be set here: {reserved[group]}")
    keys = [override_key(override) for override in overrides]
    for key in dict.fromkeys(key for key in keys if keys.count(key) > 1):
        yield Fault(path, f"sets {key} twice; keep one of them")


# The cells of a sweep: every combination of the values that its overrides list.


def product(overrides: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return the keys that `overrides` list several values of, and the overrides of every cell, the last key fastest.

    ConfigError: values that cannot be listed, or more cells than are run; found before any is listed.
    """
    words = parsed(overrides)
    axes = [one for one in words if one.is_sweep_override()]
    faults = [Fault(one.key_or_group, rule) for one in axes if (rule := _rule(one.value()))]
    if not faults:
        lengths = {one.key_or_group: _length(one.value()) for one in axes}
        if (cells := math.prod(lengths.values())) > MAX_CELLS:
            axes_text = ", ".join(f"{length:,} of {key}" for key, length in lengths.items())
            rule = f"the sweep has {cells:,} cells ({axes_text}), and at most {MAX_CELLS:,} are run"
            faults = [Fault("-m", f"{rule}; list fewer values, or make several sweeps of it")]
    if faults:
        raise ConfigError(faults)
    words_of = {one.get_key_element(): _words(one) for one in words}  # the last of a key counts
    return [one.key_or_group for one in axes], [list(cell) for cell in itertools.product(*words_of.values())]


def _words(override: Override) -> list[str]:
    key = override.get_key_element()
    if override.is_sweep_override():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    if override.is_delete() and override.value() is None:
        return [override.input_line or ""]
    return [f"{key}={override.get_value_element_as_str()}"]


def _rule(value: object) -> str | None:
    """The rule that the values of an axis break."""
    if isinstance(value, IntervalSweep):
        return "an interval has no end of values; list those to be tried: 0.1,0.2,0.5, or range(0.1,0.6,0.1)"
    if isinstance(value, ChoiceSweep) and any(isinstance(one, Sweep) for one in value.list):
        return "a list of values holds single ones; write out the ranges in it"
    if isinstance(value, RangeSweep):
        numbers = (value.start, value.stop, value.step)
        if not all(number is not None and math.isfinite(number) for number in numbers) or not value.step:
            return "a range has three finite numbers, range(start,stop,step), and a step other than 0"
        if not _length(value):
            return f"no value from {value.start} to {value.stop}, left out, in steps of {value.step}; list some"
    return None


def _length(value: Any) -> int:
    """The number of values; of the options of a group, which are few and not looked at yet, 1."""
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if not isinstance(value, RangeSweep) or value.start is None or value.stop is None:
        return 1
    return max(0, math.ceil((value.stop - value.start) / value.step))
