"""The files of `experiments/` as the config group of that name: those shipped, and those of the working folder.

A study's record lies in a folder of its name beside its file, which Hydra would take for a group of options, and the
folder that holds `experiments/` is a checkout, all of which Hydra would search. So this source shows it the YAML files
and nothing else (a ConfigSource and a SearchPathPlugin, https://hydra.cc/docs/advanced/plugins/overview).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.paths import EXPERIMENTS
from atomiclm.tracking.run_folder import read_yaml_text

GROUP = "experiments"


class ExperimentsSource(ConfigSource):
    """One folder of experiment files as the config group `experiments`."""

    @staticmethod
    def scheme() -> str:
        return GROUP

    def load_config(self, config_path: str) -> ConfigResult:
        file = self._file(config_path)
        if file is None:
            raise ConfigLoadError(f"no experiment at {config_path}")
        return ConfigResult(self.provider, self.full_path(), read_experiment(file), {"package": "_global_"})

    def available(self) -> bool:
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") in ("", GROUP)

    def is_config(self, config_path: str) -> bool:
        return self._file(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path.strip("/") == "":
            return [] if results_filter is ObjectType.CONFIG else [GROUP]
        if not self.is_group(config_path) or results_filter is ObjectType.GROUP:
            return []
        return sorted(path.stem for path in Path(self.path).glob("*.yaml"))

    def _file(self, config_path: str) -> Path | None:
        group, _, name = config_path.strip("/").partition("/")
        file = Path(self.path) / f"{name.removesuffix('.yaml')}.yaml"
        return file if group == GROUP and name and "/" not in name and file.is_file() else None


class SearchPath(SearchPathPlugin):
    """Appends the folders of experiments to Hydra's search path, and the command's `--config-dir`."""

    config_dir: ClassVar[str | None] = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in experiment_folders():
            search_path.append(GROUP, f"{GROUP}://{folder}")
        if self.config_dir is not None:
            search_path.append("command-line", f"file://{self.config_dir}")


def experiment_folders() -> list[Path]:
    """The folders that are searched, first one first: `experiments/` of the working folder, the shipped ones."""
    local = Path.cwd() / GROUP
    return [local, EXPERIMENTS] if local.is_dir() and local.resolve() != EXPERIMENTS.resolve() else [EXPERIMENTS]


def find_experiment(name: str) -> Path | None:
    """The file that `experiments=NAME` chooses; None if there is none."""
    also = [Path(SearchPath.config_dir) / GROUP] if SearchPath.config_dir else []
    files = [folder / f"{name}.yaml" for folder in [*experiment_folders(), *also]]
    return next((file for file in files if file.is_file()), None)


def read_experiment(file: Path) -> DictConfig:
    """Return what the file of an experiment sets.

    Raises:
        ConfigError: it is not a YAML mapping of the whole configuration; or sets what Hydra does, not what is run.
    """
    try:
        text = read_yaml_text(file)
        content = OmegaConf.create(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError([Fault(str(file), f"is not YAML in UTF-8: {' '.join(str(error).split())}")]) from error
    if not isinstance(content, DictConfig):
        raise ConfigError([Fault(str(file), "is a list; an experiment is a mapping, name: value")])
    if not re.match(r"\s*#\s*@package\s+_global_\s*$", text, re.MULTILINE):
        rule = "must begin with the line '# @package _global_', so that its settings are those of the whole run"
        raise ConfigError([Fault(str(file), rule)])
    if faults := _hydra_faults(OmegaConf.to_container(content, resolve=False)):
        raise ConfigError(faults)
    return content


def _hydra_faults(content: Any) -> list[Fault]:
    """Hydra calls, runs or writes to much of what its own node names; an experiment may only tune a launcher."""
    node = content.get("hydra") or {}
    rule = "is Hydra's own, and no experiment may set it; type it on the command line"
    if not isinstance(node, Mapping):
        return [Fault("hydra", rule)]
    faults = []
    for key, value in node.items():
        if key == "sweeper" and isinstance(value, Mapping) and "params" in value:
            faults.append(Fault("hydra.sweeper.params", "the axes of a study are study.arms and study.seeds"))
        elif key != "launcher" or not isinstance(value, Mapping):
            faults.append(Fault(f"hydra.{key}", rule))
        else:
            for name, setting in value.items():
                plain = isinstance(setting, int | float | None) or (isinstance(setting, str) and "\n" not in setting)
                if name == "_target_" or not plain:
                    faults.append(Fault(f"hydra.launcher.{name}", f"{rule}; a file sets numbers and words only"))
    return faults
