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

from atomiclm.config.compose import overridden, override_key, parsed, resolved, value_of
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


def expand_sweep(overrides: Sequence[str]) -> list[str]:
    """The same for a sweep, whose cells choose their arms themselves: those of its profile, if it is one."""
    single = [one.input_line or "" for one in parsed(overrides) if not one.is_sweep_override()]
    return overridden(declared_overrides([one for one in single if override_key(one) != "arm"]), overrides)


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
        name = _setting("name", [one for one in overrides if override_key(one) != "name"])
        declared = overridden([f"name={name}-{profile}"], profiles[profile])
    if arm is not None:
        arms = _listed("arms", overrides)
        if arm not in arms:
            several = all(name in arms for name in arm.split(","))
            advice = "; add -m for a run of each" if several else nearest(arm, arms)
            rule = f"'{arm}' is no arm of this study{advice}"
            raise ConfigError([Fault("arm", rule if arms else f"'{arm}': no experiment that has arms was chosen")])
        declared = overridden(declared, arms[arm])
    return declared


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
    experiment = _experiment(overrides)
    defaults = [entry for entry in experiment.get("defaults", []) if isinstance(entry, Mapping)]
    chosen = [value for entry in defaults for group, value in entry.items() if str(group).endswith("/study/tuning")]
    option = value_of("study/tuning", overrides) or next(iter(chosen), None)
    if option is None:
        return None
    own = (experiment.get("study") or {}).get("tuning") or {}
    return own.get("key") or OmegaConf.select(OmegaConf.load(CONF / "study" / "tuning" / f"{option}.yaml"), "key")


def _listed(name: str, overrides: Sequence[str]) -> dict[str, list[str]]:
    """The arms or profiles of the chosen experiment, under what was typed.

    Those that are not written as such, composition reports.
    """
    node = OmegaConf.create({"study": _experiment(overrides).get("study") or {}})
    for one in parsed([override for override in overrides if override_key(override).startswith(f"study.{name}")]):
        with suppress(OmegaConfBaseException):
            if not one.is_sweep_override() and not one.is_delete():
                OmegaConf.update(node, one.key_or_group, one.value(), force_add=True)
    study: Any = cast(dict[str, Any], OmegaConf.to_container(node, resolve=False))["study"]
    listed = study.get(name) if isinstance(study, dict) else None
    lists = listed.items() if isinstance(listed, dict) else ()
    return {str(key): list(map(str, words)) for key, words in lists if isinstance(words, list)}


def _setting(key: str, overrides: Sequence[str]) -> str:
    """A top-level setting: as it was typed, or the debug preset has it, or the experiment, or the primary config."""
    if (typed := value_of(key, overrides)) is not None:
        return typed.strip("'\"")
    files = [CONF / "debug" / f"{value_of('debug', overrides)}.yaml", CONF / "config.yaml"]
    debug, primary = (OmegaConf.select(OmegaConf.load(file), key) if file.is_file() else None for file in files)
    return str(debug or _experiment(overrides).get(key) or primary)


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
