"""Compose a configuration outside Hydra's own run, and take one apart into what the rest of the package reads."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from atomiclm.config.experiments import ExperimentsSearchPath, ExperimentsSource
from atomiclm.config.faults import ConfigError, Fault, nearest
from atomiclm.config.file_source import FileConfigSource
from atomiclm.config.hydra_node import hydra_faults
from atomiclm.config.interpolation import interpolation_faults
from atomiclm.config.overrides import overridden
from atomiclm.config.paths import CONF

PRESETS = ("experiments", "debug")
"""Groups whose options set values of other groups, and are no settings themselves."""


type Sources = tuple[tuple[str | None, str | None], ...]
"""Where configurations are found: part of the key of whatever is remembered of them."""


def register_plugins() -> Plugins:
    """Teach Hydra to read configs, `experiments/` among them. Safe to call again."""
    plugins = Plugins.instance()
    plugins.register(ExperimentsSource)
    plugins.register(ExperimentsSearchPath)
    SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource
    return plugins


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
    repository = ConfigLoaderImpl(_search_path()).repository
    of_groups = [override for override in parsed if _chooses(override, repository)]
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
    if faults := interpolation_faults(unresolved(composition.config)):
        raise ConfigError(faults)
    config = OmegaConf.create({"hydra": copy.deepcopy(composition.hydra)})
    repository = ConfigLoaderImpl(_search_path()).repository
    typed = [one for one in parsed(overrides) if one.is_hydra_override() and not _chooses(one, repository)]
    ConfigLoaderImpl._apply_overrides_to_config(typed, config)
    return unresolved(config)["hydra"], [one.key_or_group for one in typed]


def parsed(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides; they can list what `group=glob(*)` stands for."""
    register_plugins()
    return OverridesParser.create(ConfigLoaderImpl(_search_path())).parse_overrides(list(overrides))


def without_null(overrides: Sequence[str]) -> list[str]:
    """Return `overrides` with `group=null` in Hydra's words, `~group`: it reads null in a list of defaults only.

    Raises:
        ConfigError: a group of which one option must be chosen.
    """
    repository = ConfigLoaderImpl(_search_path()).repository
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


def _chooses(override: Override, repository: IConfigRepository) -> bool:
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
        ConfigError: an interpolation that is not to be followed, see `interpolation.py`.
    """
    if faults := interpolation_faults(unresolved(config)):
        raise ConfigError(faults)
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
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


def unknown_setting(key: str, overrides: Sequence[str]) -> Fault | None:
    """Return the fault of a setting that the options chosen by `overrides` do not have, with the nearest name.

    None where they do have it.
    """
    base = _options_chosen(overrides)
    parent, _, name = key.rpartition(".")
    node: Any = unresolved(base)
    for part in parent.split(".") if parent else []:
        node = node.get(part, {}) if isinstance(node, dict) else {}
    siblings = [str(sibling) for sibling in node if not str(sibling).startswith("_")] if isinstance(node, dict) else []
    if name in siblings:
        return None
    elsewhere = [path for path in _paths(unresolved(base)) if path.endswith(f".{name}")]
    if elsewhere:
        return Fault(key, f"no such setting here; did you mean {' or '.join(elsewhere)}?")
    groups = ("experiments", "debug") if not parent else ()
    return Fault(key, f"no such setting{nearest(name, [*siblings, *groups])}")


def _options_chosen(overrides: Sequence[str]) -> DictConfig:
    """The configuration with the options that `overrides` choose and no value set; the default one if that fails."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        repository = ConfigLoaderImpl(_search_path()).repository
        chosen = [one for one in parsed if _chooses(one, repository) and not one.is_sweep_override()]
        return compose([one.input_line or "" for one in chosen])
    except (HydraException, ConfigError):
        return compose([])


def _paths(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if not str(key).startswith("_"):
            yield f"{prefix}{key}"
            if isinstance(value, dict):
                yield from _paths(value, f"{prefix}{key}.")


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


def sources() -> Sources:
    """The search path of the running command."""
    return tuple((entry.provider, entry.path) for entry in _search_path().get_path())


_also_in: list[str] = []


def search_also_in(config_dir: str) -> None:
    """Let configurations be found in the command's `--config-dir` before Hydra itself has been told of it."""
    _also_in[:] = [str(Path(config_dir).absolute())]


def _search_path() -> ConfigSearchPath:
    """Return the running command's own sources (it may have been given --config-dir), or the shipped ones."""
    path = ConfigSearchPathImpl()
    if HydraConfig.initialized():
        for source in HydraConfig.get().runtime.config_sources:
            path.append(source.provider, f"{source.schema}://{source.path}")
        return path
    path.append("hydra", "pkg://hydra.conf")
    path.append("main", f"file://{CONF}")
    for folder in _also_in:
        path.append("command-line", f"file://{folder}")
    ExperimentsSearchPath().manipulate_search_path(path)
    path.append("schema", "structured://")
    return path
