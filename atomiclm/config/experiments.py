"""Makes the files of `experiments/` the config group of that name: those shipped, and those of the working folder.

Hydra would need the folder that holds `experiments/` on its search path, and would then search that whole folder (a
checkout with its virtual environment) whenever it lists groups. This source shows it the YAML files and nothing else.
"""

from pathlib import Path

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.paths import EXPERIMENTS
from atomiclm.tracking.config_file import read_yaml_text

GROUP = "experiments"


def experiment_folders() -> list[Path]:
    """Return the folders that are searched, first one first: `experiments/` of the working folder, the shipped ones."""
    local = Path.cwd() / GROUP
    return [local, EXPERIMENTS] if local.is_dir() and local.resolve() != EXPERIMENTS.resolve() else [EXPERIMENTS]


class ExperimentsSource(ConfigSource):
    """One folder of experiment files as the config group `experiments`."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path if "://" in path else f"{self.scheme()}://{path}")

    @staticmethod
    def scheme() -> str:
        """The prefix of such folders on Hydra's search path."""
        return GROUP

    def load_config(self, config_path: str) -> ConfigResult:
        """Read `experiments/NAME`."""
        file = self._file(config_path)
        if file is None:
            raise ConfigLoadError(f"no experiment at {config_path}")
        try:
            text = read_yaml_text(file)
            content = OmegaConf.create(text)
        except (ValueError, yaml.YAMLError) as error:
            raise ConfigError([Fault(str(file), f"is not YAML in UTF-8: {' '.join(str(error).split())}")]) from error
        if not isinstance(content, DictConfig):
            raise ConfigError([Fault(str(file), "is a list; an experiment is a mapping, name: value")])
        header = ConfigSource._get_header_dict(text[:512])
        if header.get("package") != "_global_":
            rule = "must begin with the line '# @package _global_', so that its settings are those of the whole run"
            raise ConfigError([Fault(str(file), rule)])
        return ConfigResult(self.provider, self.full_path(), content, header)

    def available(self) -> bool:
        """Whether the folder is there."""
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        """Only the folder itself is a group; an experiment's results lie in a folder beside its file."""
        return config_path.strip("/") in ("", GROUP)

    def is_config(self, config_path: str) -> bool:
        """Whether `config_path` is the path of an experiment."""
        return self._file(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Names below `config_path`: the group at the top, the experiments in it."""
        if config_path.strip("/") == "":
            return [] if results_filter is ObjectType.CONFIG else [GROUP]
        if not self.is_group(config_path) or results_filter is ObjectType.GROUP:
            return []
        return sorted(path.stem for path in Path(self.path).glob("*.yaml"))

    def _file(self, config_path: str) -> Path | None:
        group, _, name = config_path.strip("/").partition("/")
        file = Path(self.path) / f"{name.removesuffix('.yaml')}.yaml"
        return file if group == GROUP and name and "/" not in name and file.is_file() else None


class ExperimentsSearchPath(SearchPathPlugin):
    """Puts the folders of experiments on Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append them after everything else."""
        for folder in experiment_folders():
            search_path.append(GROUP, f"{ExperimentsSource.scheme()}://{folder}")
