"""Compose a configuration with Hydra, and take overrides and configurations apart.

Overrides are the words of a command: `key=value`, `group=option`, `~group`. Inside a command Hydra is initialized with
that command's search path, and what is composed there follows it; elsewhere with the shipped one.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError

from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.experiments import ExperimentsSource, SearchPath
from atomiclm.config.interpolation import interpolation_faults
from atomiclm.config.paths import CONF

APP = "atomiclm"
"""What Hydra calls the job, unless it is a cell of ours: that is called as its run."""

PRESETS = ("experiments", "debug")
"""Groups whose options set values of other groups, and are no settings themselves."""


@contextmanager
def initialized(config_dir: str | None = None) -> Iterator[ConfigLoader]:
    """Hydra's loader of configurations: that of the running command, or one for as long as the context is open.

    Args:
        config_dir: a folder of the user's to look for options in after the shipped ones.

    Raises:
        ConfigError: there is no such folder.
    """
    hydra = GlobalHydra.instance()
    if hydra.is_initialized():
        yield hydra.config_loader()
        return
    if config_dir is not None and not Path(config_dir).is_dir():
        raise ConfigError([Fault("--config-dir", f"{config_dir} is no folder")])
    SearchPath.config_dir = str(Path(config_dir).absolute()) if config_dir else None
    Plugins.instance().register(ExperimentsSource)
    Plugins.instance().register(SearchPath)
    with initialize_config_dir(str(CONF), job_name=APP, version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def compose(overrides: Sequence[str]) -> DictConfig:
    """Return the job configuration for `overrides`, as a command with these overrides would see it.

    Within a command, cells that differ in their seed alone are composed once.
    """
    seeds = [override for override in overrides if re.fullmatch(r"seed=\d+", override)]
    others = tuple(override for override in overrides if override not in seeds)
    with initialized() as loader:
        known = _composed.setdefault(loader, {})
        if others not in known:
            known[others] = compose_all(others, RunMode.RUN)
            with open_dict(known[others]):
                del known[others]["hydra"]
    config = copy.deepcopy(known[others])
    if seeds:
        config.seed = int(seeds[-1].partition("=")[2])
    return config


_composed: WeakKeyDictionary[ConfigLoader, dict[tuple[str, ...], DictConfig]] = WeakKeyDictionary()
"""By the loader that composed them, which a command has one of."""


def compose_all(overrides: Sequence[str], mode: RunMode) -> DictConfig:
    """The same with the node `hydra`, of a run or a sweep, where Hydra is initialized.

    Raises:
        ConfigError: `null` for a group of which one option must be chosen, or a file cannot be composed.
        HydraException: see `explain.py`.
    """
    loader = GlobalHydra.instance().config_loader()
    words = without_null(overrides)
    try:
        config = loader.load_configuration("config", words, run_mode=mode)
    except (RecursionError, AssertionError, KeyError, TypeError) as error:  # what Hydra trips over in a file
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError([Fault("config", f"a file of it cannot be composed ({reason[:200]})")]) from error
    return config


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


def job_overrides() -> list[str]:
    """Return the overrides of the running job, those of its cell of a sweep included."""
    if not HydraConfig.initialized():
        return []
    # Not by iteration, which would follow what an override refers to.
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return list(map(str, cast(list[Any], overrides)))


def in_sweep() -> bool:
    """Whether the running job is a cell of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN


def parsed(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides; they can list what `group=glob(*)` stands for."""
    with initialized() as loader:
        return OverridesParser.create(loader).parse_overrides(list(overrides))


def chooses(override: Override) -> bool:
    """Whether an override chooses an option of a group, rather than setting a value."""
    return override.package is not None or bool(_options(override.key_or_group))


def without_null(overrides: Sequence[str]) -> list[str]:
    """Return `overrides` with `group=null` in Hydra's words, `~group`: it reads null in a list of defaults only.

    Raises:
        ConfigError: a group of which one option must be chosen.
    """
    words = []
    for override in overrides:
        group, _, option = override.partition("=")
        options = _options(group) if option == "null" else []
        if options and not _takes_null(group):
            rule = f"null is none of its options; choose one of {', '.join(options)}"
            raise ConfigError([Fault(group, rule)])
        words.append(f"~{group}" if options else override)
    return words


def _options(group: str) -> list[str]:
    """The options of a group; none of what is no group."""
    if "." in group:  # quickly: most overrides set a value
        return []
    with initialized() as loader:
        known = _group_options.setdefault(loader, {})
        if group not in known:
            known[group] = loader.get_group_options(group)
        return known[group]


_group_options: WeakKeyDictionary[ConfigLoader, dict[str, list[str]]] = WeakKeyDictionary()


def _takes_null(group: str) -> bool:
    """Whether any of the shipped options that the group is a part of leaves it out by default."""
    parent, _, name = group.rpartition("/")
    texts = (file.read_text(encoding="utf-8") for file in (CONF / parent).glob("*.yaml"))
    return any(re.search(rf"^ *- {re.escape(name)}: null\b", text, re.MULTILINE) for text in texts)


def override_key(override: str) -> str:
    """The key that an override sets: model.dim of ++model.dim=64."""
    return override.partition("=")[0].lstrip("+~")


def override_value(override: str) -> str:
    """What it sets the key to: `~group` chooses none of the group's options."""
    return "null" if override.startswith("~") else override.partition("=")[2]


def value_of(key: str, overrides: Sequence[str]) -> str | None:
    """What the last of `overrides` that sets `key` sets it to; None for null, and where none does."""
    found = [override_value(override) for override in overrides if override_key(override) == key]
    return found[-1] if found and found[-1] not in ("null", "") else None


def overridden(overrides: Sequence[str], later: Sequence[str]) -> list[str]:
    """`later` after those of `overrides` that set other keys: Hydra refuses two choices of one group."""
    keys = {override_key(override) for override in later}
    return [*(override for override in overrides if override_key(override) not in keys), *later]
