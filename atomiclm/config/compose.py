"""Compose a configuration outside Hydra's own run, and take one apart into what the rest of the package reads."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.hydra_node import hydra_faults
from atomiclm.config.interpolation import interpolation_faults
from atomiclm.config.overrides import overridden
from atomiclm.config.paths import CONF
from atomiclm.config.search_path import Sources, groups, register_plugins, search_path, sources

PRESETS = ("experiments", "debug")
"""Groups whose options set values of other groups, and are no settings themselves."""


def compose(overrides: Sequence[str]) -> DictConfig:
    """Return the job configuration for `overrides`, as a command with these overrides would see it."""
    return _load(overrides).config


@dataclass(frozen=True)
class _Composition:
    """A composed job configuration, and the option chosen of each group."""

    config: DictConfig
    choices: dict[str, str]
    hydra: DictConfig


def _load(overrides: Sequence[str]) -> _Composition:
    """Compose. Choosing options and reading their files takes a tenth of a second, so that half is done once a choice.

    Values are set afterwards on a copy, by the same function of Hydra and in the same order as it would itself.
    """
    register_plugins()
    parsed = OverridesParser.create().parse_overrides(without_null(overrides))
    repository = groups()
    of_groups = [override for override in parsed if chooses(override, repository)]
    chosen = _choose(tuple(override.input_line or "" for override in of_groups), sources())
    config = copy.deepcopy(chosen.config)
    rest = [override for override in parsed if override not in of_groups and not override.is_hydra_override()]
    ConfigLoaderImpl._apply_overrides_to_config(rest, config)
    return _Composition(config, chosen.choices, chosen.hydra)


def compose_hydra(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the `hydra` node that a command with `overrides` would act on, and which of its settings they set.

    Raises:
        ConfigError: a file sets what is not a file's to set, see `hydra_node.py`; or refers to what is not to be
            followed, see `interpolation.py`.
    """
    composition = _load(overrides)
    resolved(composition.config)  # Hydra would follow its references first
    config = OmegaConf.create({"hydra": copy.deepcopy(composition.hydra)})
    repository = groups()
    typed = [one for one in parsed(overrides) if one.is_hydra_override() and not chooses(one, repository)]
    ConfigLoaderImpl._apply_overrides_to_config(typed, config)
    return unresolved(config)["hydra"], [one.key_or_group for one in typed]


def parsed(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides; they can list what `group=glob(*)` stands for."""
    register_plugins()
    return OverridesParser.create(ConfigLoaderImpl(search_path())).parse_overrides(list(overrides))


def without_null(overrides: Sequence[str]) -> list[str]:
    """Return `overrides` with `group=null` in Hydra's words, `~group`: it reads null in a list of defaults only.

    Raises:
        ConfigError: a group of which one option must be chosen.
    """
    repository = groups()
    words = []
    for override in overrides:
        group, _, option = override.partition("=")
        if option == "null" and repository.group_exists(group):
            if group in _load([]).choices:
                options = ", ".join(repository.get_group_options(group))
                raise ConfigError([Fault(group, f"null is none of its options; choose one of {options}")])
            words.append(f"~{group}")
        else:
            words.append(override)
    return words


def chooses(override: Override, repository: IConfigRepository) -> bool:
    """Whether an override chooses an option of a group, rather than setting a value."""
    return override.package is not None or repository.group_exists(override.key_or_group)


@lru_cache(maxsize=64)
def _choose(overrides: tuple[str, ...], found_in: Sources) -> _Composition:
    path = ConfigSearchPathImpl()
    for provider, source in found_in:
        path.append(str(provider), str(source))
    try:
        config = ConfigLoaderImpl(path).load_configuration("config", list(overrides), run_mode=RunMode.RUN)
    except (HydraException, OmegaConfBaseException, ConfigError):
        raise
    except Exception as error:  # what Hydra trips over in a file: a RecursionError, a KeyError, an assertion
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError([Fault("config", f"a file of it cannot be composed ({reason[:200]})")]) from error
    choices = _choices(config.hydra.runtime.choices)
    node = config.hydra
    with open_dict(config):
        del config["hydra"]
    if faults := hydra_faults(unresolved(node)):
        raise ConfigError(faults)
    return _Composition(config, choices, node)


def _choices(recorded: Mapping[str, Any]) -> dict[str, str]:
    return {
        group: str(option)
        for group, option in recorded.items()
        if not group.startswith("hydra/") and option not in (None, "null")
    }


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return plain containers with interpolations followed; values that are still required stay "???".

    Raises:
        ConfigError: an interpolation that is not to be followed, see `interpolation.py`, or that cannot be.
    """
    if faults := interpolation_faults(unresolved(config)):
        raise ConfigError(faults)
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except InterpolationResolutionError as error:
        raise ConfigError([Fault(error.full_key or "config", str(error).splitlines()[0])]) from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def unresolved(config: DictConfig) -> dict[str, Any]:
    """Return plain containers with interpolations as they are written."""
    container = OmegaConf.to_container(config, resolve=False)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


@lru_cache(maxsize=1)
def root_keys() -> tuple[str, ...]:
    """Return the top-level settings of the primary config; an experiment may not add any."""
    primary = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"), resolve=False)
    assert isinstance(primary, dict)
    entries = [entry for entry in primary.pop("defaults") if isinstance(entry, dict)]
    groups = [str(key) for entry in entries for key in entry if not str(key).startswith("override ")]
    return (
        *(group for group in groups if group not in PRESETS),
        *(str(key) for key in primary if key != "hydra"),
    )


def compose_base(overrides: Sequence[str], declared: Sequence[str]) -> tuple[dict[str, str], DictConfig]:
    """Return what to hold the configuration of `overrides` against to see what is special about it.

    That is: the options it chose otherwise than its experiment (and debug preset) do, and the configuration of that
    experiment with these options and nothing else overridden.

    Args:
        overrides: of the run.
        declared: those of them that its experiment's profile and arm brought.
    """
    choices = _load(overrides).choices
    presets = [f"{group}={choices[group]}" for group in PRESETS if group in choices]
    presets += [override for override in overrides if override in declared]
    base = _load(presets)
    chosen: dict[str, str] = {}
    # From the outside in: model=qwen3 brings its own options of model/..., and those are not choices of their own.
    for depth in range(1 + max(group.count("/") for group in choices)):
        here = {group: option for group, option in choices.items() if group.count("/") == depth}
        special = {group: option for group, option in here.items() if option != base.choices.get(group)}
        if special:
            chosen |= special
            base = _load(overridden(presets, [f"{group}={option}" for group, option in chosen.items()]))
    return chosen, base.config


def job_overrides() -> list[str]:
    """Return the overrides of the running job, those of its cell of a sweep included."""
    return [str(override) for override in HydraConfig.get().overrides.task] if HydraConfig.initialized() else []
