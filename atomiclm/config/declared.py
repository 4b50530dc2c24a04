"""From what a person typed to the overrides of every run of a study.

A study's file says what is true of all its runs; then, each able to change what came before: the profile, the arm,
what was tuned for the arm, and last what was typed. `expanded` writes that order out, so that everything after it
(composition, names, identities, Hydra itself) sees plain overrides, the same whether a cell runs alone or in a sweep.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from atomiclm.config.build import build
from atomiclm.config.compose import PRESETS, compose, parsed, resolved
from atomiclm.config.errors import ConfigError, Fault, nearest
from atomiclm.config.overrides import overridden, override_key, value_of
from atomiclm.config.search_path import Sources, sources
from atomiclm.config.study_rules import study_faults
from atomiclm.config.validate import node_faults
from atomiclm.sweep.ledger import read_ledger
from atomiclm.sweep.study import Study

FILE_PROFILE = "cpu"
"""The profile that is the experiment's file itself."""


def read_study(overrides: Sequence[str]) -> Study:
    """Return the study that `overrides` choose and change, under their profile.

    Raises:
        ConfigError: the study's own faults; the rest of the configuration is not looked at.
    """
    given = [override for override in overrides if _is_of_study(override) or override_key(override) in PRESETS]
    declared = _built(given)
    changes = [override for override in _profile(declared, overrides) if _is_of_study(override)]
    return _built(overridden(changes, given)) if changes else declared


def declared_overrides(overrides: Sequence[str]) -> list[str]:
    """Return what the study's file itself says of the chosen profile and arm.

    Raises:
        ConfigError: there is no such arm or profile.
    """
    study = read_study(overrides)
    arm = value_of("arm", overrides)
    if arm is not None and arm not in study.arms:
        several = all(name in study.arms for name in arm.split(","))
        advice = "; add -m for a run of each" if several else nearest(arm, study.arms)
        rule = f"'{arm}' is no arm of this study{advice}"
        raise ConfigError([Fault("arm", rule if study.arms else f"'{arm}': no experiment that has arms was chosen")])
    return overridden(_profile(study, overrides), list(study.arms[arm]) if arm else [])


def expanded(overrides: Sequence[str], tuned: Mapping[str, float] | None = None) -> list[str]:
    """Return the overrides of one run: those of its profile and its arm written out before what was typed.

    Overrides that are expanded already stay as they are.

    Args:
        overrides: of one run, no lists of values; `arm=NAME` and `profile=NAME` among them.
        tuned: what tuning chose for each arm; None: as the ledger beside the study's runs has it.

    Raises:
        ConfigError: no such arm or profile; an arm whose setting has not been tuned yet.
    """
    declared = declared_overrides(overrides)
    typed = [override for override in overrides if override not in declared]
    chosen = overridden(declared, typed)
    return overridden(overridden(declared, _tuned(chosen, tuned)), typed)


def _built(overrides: Sequence[str]) -> Study:
    return _study(tuple(overrides), sources())


@lru_cache(maxsize=64)
def _study(overrides: tuple[str, ...], found_in: Sources) -> Study:
    """The study that presets and its own settings make; asked for every cell of a sweep, the same each time."""
    node = resolved(compose(overrides)).get("study")
    if not isinstance(node, dict):
        raise ConfigError(
            [Fault("study", f"{node!r} is not a mapping; leave it out, or fill in question, arms, seeds")]
        )
    faults = node_faults("study", node)
    if faults:
        raise ConfigError(faults)
    try:
        study = build(node)
    except ValueError as error:
        raise ConfigError([Fault("study", str(error))]) from error
    assert isinstance(study, Study)
    if faults := study_faults(study):
        raise ConfigError(faults)
    return study


@lru_cache(maxsize=64)
def _folder(overrides: tuple[str, ...], found_in: Sources) -> tuple[str, str]:
    """output_dir and name."""
    values = resolved(compose(overrides))
    return values["output_dir"], values["name"]


def _is_of_study(override: str) -> bool:
    return override_key(override).replace("/", ".").split(".")[0] == "study"


def _profile(study: Study, overrides: Sequence[str]) -> list[str]:
    """The overrides of the chosen profile, a name of its own among them: budgets are not to be mixed in a folder."""
    profile = value_of("profile", overrides) or FILE_PROFILE
    if profile == FILE_PROFILE:
        return []
    if profile not in study.profiles:
        known = [FILE_PROFILE, *study.profiles]
        raise ConfigError([Fault("profile", f"'{profile}' is no profile of this experiment{nearest(profile, known)}")])
    presets = [override for override in overrides if override_key(override) in PRESETS]
    name = _folder(tuple(presets), sources())[1]
    return overridden([f"name={name}-{profile}"], study.profiles[profile])


def _tuned(overrides: Sequence[str], tuned: Mapping[str, float] | None) -> list[str]:
    """What tuning chose for the arm, as an override; nothing where nothing is tuned, or a value was typed."""
    study, arm = read_study(overrides), value_of("arm", overrides)
    if study.tuning is None or arm is None or value_of(study.tuning.key, overrides) is not None:
        return []
    if tuned is None:
        folder = study_folder(overrides)
        ledger = read_ledger(folder)
        tuned = {name: choice.value for name, choice in ledger.tuned.items()} if ledger else {}
        if arm not in tuned:
            rule = f"is tuned for every arm of this study, and {folder} has no value for {arm} yet"
            fix = f"run the study with -m, or give {study.tuning.key}=..."
            raise ConfigError([Fault(study.tuning.key, f"{rule}; {fix}")])
    return [f"{study.tuning.key}={tuned[arm]!r}"]


def study_folder(overrides: Sequence[str]) -> Path:
    """The folder that the runs of `overrides` lie in: output_dir/name."""
    chosen = [one for one in overrides if override_key(one) in (*PRESETS, "name", "output_dir")]
    output_dir, name = _folder(tuple(chosen), sources())
    return Path(output_dir) / name


def axes(study: Study, overrides: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """Return what a study adds to a sweep: its seeds and its arms, unless they were typed."""
    given = {override_key(override) for override in overrides}
    if not study.is_declared:
        return []
    listed = {"seed": seeds, "arm": study.arms}
    return [f"{key}={','.join(map(str, values))}" for key, values in listed.items() if key not in given]


def single_values(overrides: Sequence[str]) -> list[str]:
    """Those of `overrides` that set one value, rather than list several to sweep over."""
    return [one.input_line or "" for one in parsed(overrides) if not one.is_sweep_override()]
