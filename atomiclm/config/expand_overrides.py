"""From what a person typed to the overrides of one run of a study.

A study's file says what is true of all its runs; then, each able to change what came before: the profile, the arm,
what was tuned for the arm, and last what was typed. `expand_overrides` writes that order out, so that everything after
it (composition, names, identities, Hydra itself) sees plain overrides, the same whether a cell runs alone or in a
sweep. It reads the study's own file and composes nothing.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from atomiclm.config.compose import (
    PRESETS,
    compose,
    overridden,
    override_key,
    override_value,
    parsed,
    resolved,
    value_of,
)
from atomiclm.config.errors import ConfigError, Fault, nearest
from atomiclm.config.experiments import find_experiment, read_experiment
from atomiclm.config.paths import CONF

if TYPE_CHECKING:
    from atomiclm.sweep.study import Study

FILE_PROFILE = "cpu"
"""The profile that is the experiment's file itself."""


def expand_overrides(overrides: Sequence[str], tuned: Mapping[str, float] | None = None) -> list[str]:
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
    return overridden(overridden(declared, _tuned(overridden(declared, typed), tuned)), typed)


def declared_overrides(overrides: Sequence[str]) -> list[str]:
    """Return what the study's file itself says of the chosen profile and arm.

    Raises:
        ConfigError: there is no such arm or profile.
    """
    profile, arm = value_of("profile", overrides) or FILE_PROFILE, value_of("arm", overrides)
    declared: list[str] = []
    if profile != FILE_PROFILE:
        profiles = _listed("profiles", overrides)
        if profile not in profiles:
            advice = nearest(profile, [FILE_PROFILE, *profiles])
            raise ConfigError([Fault("profile", f"'{profile}' is no profile of this experiment{advice}")])
        # A name of its own: runs of unlike budgets are not to lie in one folder.
        declared = overridden([f"name={_file_setting('name', overrides)}-{profile}"], profiles[profile])
    if arm is not None:
        arms = _listed("arms", overrides)
        if arm not in arms:
            several = all(name in arms for name in arm.split(","))
            advice = "; add -m for a run of each" if several else nearest(arm, arms)
            rule = f"'{arm}' is no arm of this study{advice}"
            raise ConfigError([Fault("arm", rule if arms else f"'{arm}': no experiment that has arms was chosen")])
        declared = overridden(declared, arms[arm])
    return declared


def expand_sweep(overrides: Sequence[str]) -> list[str]:
    """The same for a sweep, whose cells choose their arms themselves: those of its profile, if it is one."""
    single = [one for one in single_values(overrides) if override_key(one) != "arm"]
    return overridden(declared_overrides(single), overrides)


def read_study(overrides: Sequence[str]) -> "Study":
    """Return the study that `overrides` choose and change, under their profile.

    Raises:
        ConfigError: the study's own faults; the rest of the configuration is not looked at.
    """
    expanded = expand_sweep(single_values(overrides))
    return study_of(compose([one for one in expanded if _root(one) in ("study", *PRESETS)]))


def study_of(config: DictConfig) -> "Study":
    """Return the study of a composed configuration.

    Raises:
        ConfigError: the study's own faults.
    """
    from atomiclm.config.build import build
    from atomiclm.config.study_rules import study_faults
    from atomiclm.config.validate import node_faults
    from atomiclm.sweep.study import Study

    node = resolved(config).get("study")
    if not isinstance(node, dict):
        rule = f"{node!r} is not a mapping; leave it out, or fill in question, arms, seeds"
        raise ConfigError([Fault("study", rule)])
    if faults := node_faults("study", node):
        raise ConfigError(faults)
    try:
        study = build(node)
    except ValueError as error:
        raise ConfigError([Fault("study", str(error))]) from error
    assert isinstance(study, Study)
    if faults := study_faults(study):
        raise ConfigError(faults)
    return study


def study_folder(overrides: Sequence[str]) -> Path:
    """The folder that the runs of `overrides` lie in: output_dir/name."""
    return Path(_setting("output_dir", overrides)) / _setting("name", overrides)


def axes(study: "Study", overrides: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """Return what a study adds to a sweep: its seeds and its arms, unless they were typed."""
    given = {override_key(override) for override in overrides}
    if not study.is_declared:
        return []
    listed = {"seed": seeds, "arm": study.arms}
    return [f"{key}={','.join(map(str, values))}" for key, values in listed.items() if key not in given]


def single_values(overrides: Sequence[str]) -> list[str]:
    """Those of `overrides` that set one value, rather than list several to sweep over."""
    return [one.input_line or "" for one in parsed(overrides) if not one.is_sweep_override()]


def arms_of_experiment(overrides: Sequence[str], study: "Study") -> list[list[str]]:
    """Return the overrides of every arm that the chosen experiment declares, `overrides` among them; seeds aside.

    Where `overrides` choose an arm, and without an experiment that has any, they are the only one. An arm's setting
    that is tuned is shown at the middle of its grid.
    """
    if not study.arms or value_of("arm", overrides) is not None:
        return [list(overrides)]
    tuning = study.tuning
    untuned = {arm: tuning.grid(arm)[len(tuning.values) // 2] for arm in study.arms} if tuning else None
    return [expand_overrides([*overrides, f"arm={arm}"], untuned) for arm in study.arms]


def settings_that_differ(arms: Sequence[Sequence[str]]) -> list[Mapping[str, str]]:
    """Return, for every arm, those of its settings in which not all arms agree; of a study's arms their names."""
    settings = [{override_key(override): override_value(override) for override in arm} for arm in arms]
    if all("arm" in arm for arm in settings):
        return [{"arm": arm["arm"]} for arm in settings]
    shared = set(settings[0].items()).intersection(*(arm.items() for arm in settings))
    keys = [key for key in dict.fromkeys(key for arm in settings for key in arm) if key != "seed"]
    differing = [key for key in keys if any((key, arm.get(key)) not in shared for arm in settings)]
    return [{key: arm.get(key, "") for key in differing} for arm in settings]


def _tuned(overrides: Sequence[str], tuned: Mapping[str, float] | None) -> list[str]:
    """What tuning chose for the arm, as an override; nothing where nothing is tuned, or a value was typed."""
    arm = value_of("arm", overrides)
    key = _tuned_key(overrides)
    if arm is None or key is None or value_of(key, overrides) is not None:
        return []
    if tuned is None:
        from atomiclm.sweep.ledger import read_ledger

        ledger = read_ledger(study_folder(overrides))
        tuned = {name: choice.value for name, choice in ledger.tuned.items()} if ledger else {}
        if arm not in tuned:
            rule = f"is tuned for every arm of this study, and {study_folder(overrides)} has no value for {arm} yet"
            raise ConfigError([Fault(key, f"{rule}; run the study with -m, or give {key}=...")])
    return [f"{key}={tuned[arm]!r}"]


def _tuned_key(overrides: Sequence[str]) -> str | None:
    """The setting that the study tunes for its arms."""
    option = value_of("study/tuning", overrides)
    for entry in _experiment(overrides).get("defaults", []):
        if option is None and isinstance(entry, Mapping):
            option = next((value for group, value in entry.items() if str(group).endswith("/study/tuning")), None)
    own = _study(overrides).get("tuning") or {}
    if option in (None, "null"):
        return None
    return own.get("key") or _setting_of(CONF / "study" / "tuning" / f"{option}.yaml", "key")


def _listed(name: str, overrides: Sequence[str]) -> dict[str, list[str]]:
    """The arms or profiles of the chosen experiment. Those that are not written as such, composition reports."""
    node = _study(overrides).get(name)
    lists = node.items() if isinstance(node, Mapping) else ()
    return {str(key): list(map(str, words)) for key, words in lists if isinstance(words, list)}


def _study(overrides: Sequence[str]) -> dict[str, Any]:
    """What the file of the chosen experiment says of its study, under what was typed."""
    node = OmegaConf.create({"study": _experiment(overrides).get("study") or {}})
    for one in parsed([override for override in overrides if override_key(override).startswith("study.")]):
        with suppress(OmegaConfBaseException):  # composition says what is wrong with it
            if not one.is_sweep_override() and not one.is_delete():
                OmegaConf.update(node, one.key_or_group, one.value(), force_add=True)
    study = OmegaConf.to_container(node.study) if isinstance(node.study, DictConfig) else {}
    return cast(dict[str, Any], study)


def _experiment(overrides: Sequence[str]) -> dict[str, Any]:
    """The file of the chosen experiment; empty where there is none, which composition reports."""
    name = value_of("experiments", overrides)
    file = find_experiment(name) if name else None
    return _content(file, file.stat().st_mtime_ns) if file else {}


@lru_cache(maxsize=8)
def _content(file: Path, changed: int) -> dict[str, Any]:
    """An experiment's file, read again when it was changed."""
    content = OmegaConf.to_container(read_experiment(file), resolve=False)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _setting(key: str, overrides: Sequence[str]) -> str:
    typed = value_of(key, overrides)
    return typed.strip("'\"") if typed else _file_setting(key, overrides)


def _file_setting(key: str, overrides: Sequence[str]) -> str:
    """A top-level setting as the debug preset has it, or else the experiment, or else the primary config."""
    debug = CONF / "debug" / f"{value_of('debug', overrides)}.yaml"
    found = _setting_of(debug, key) if debug.is_file() else None
    return str(found or _experiment(overrides).get(key) or _setting_of(CONF / "config.yaml", key))


def _setting_of(file: Path, key: str) -> Any:
    return OmegaConf.select(OmegaConf.load(file), key)


def _root(override: str) -> str:
    return override_key(override).replace("/", ".").split(".")[0]
