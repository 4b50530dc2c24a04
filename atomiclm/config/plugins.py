"""What Hydra is given to work with: the files of `conf/` and `experiments/`, and the sweeper that -m calls.

A study's record lies in a folder of its name beside its file, which Hydra would take for a group of options; so
`ExperimentsSource` shows it the YAML files and nothing else (https://hydra.cc/docs/advanced/plugins/overview).
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

from atomiclm.cli import Lasting
from atomiclm.config.errors import ConfigError, Fault, RunFailed, failure_text
from atomiclm.tracking.run_folder import read_yaml_text

if TYPE_CHECKING:
    from atomiclm.tracking import RunFolder

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parent
_IN_CHECKOUT = (_CHECKOUT / "conf" / "config.yaml").is_file() and (_CHECKOUT / "pyproject.toml").is_file()

CONF = _CHECKOUT / "conf" if _IN_CHECKOUT else _PACKAGE / "_conf"
"""The folder of the primary config and its groups; in an installed wheel it lies inside the package."""
EXPERIMENTS = _CHECKOUT / "experiments" if _IN_CHECKOUT else _PACKAGE / "_experiments"
APP = "atomiclm"  # what Hydra calls the job, unless it is a cell of ours: that has its run's name
GROUP = "experiments"
BASIC = "BasicLauncher"  # Hydra's launcher that runs jobs in this process, one after the other


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
        for folder in _experiment_folders():
            search_path.append(GROUP, f"{GROUP}://{folder}")
        if self.config_dir is not None:
            search_path.append("command-line", f"file://{self.config_dir}")


def _experiment_folders() -> list[Path]:
    """The folders that are searched, first one first: `experiments/` of the working folder, the shipped ones."""
    local = Path.cwd() / GROUP
    return [local, EXPERIMENTS] if local.is_dir() and local.resolve() != EXPERIMENTS.resolve() else [EXPERIMENTS]


def config_dir_flag() -> list[str]:
    """What a command has to repeat beside the overrides, to find the options that this one finds."""
    return [f"--config-dir={SearchPath.config_dir}"] if SearchPath.config_dir else []


def known_options() -> dict[str, list[str]]:
    """The groups and their options, read from the folders: Hydra takes a second and a half to list them."""
    folders = [CONF, Path(SearchPath.config_dir)] if SearchPath.config_dir else [CONF]
    found = {
        (path.parent.relative_to(folder).as_posix(), path.stem) for folder in folders for path in folder.rglob("*.yaml")
    }
    found |= {(GROUP, path.stem) for folder in _experiment_folders() for path in folder.glob("*.yaml")}
    options: dict[str, list[str]] = {}
    for group, option in sorted(found):
        if group != "." and group.partition("/")[0] != "hydra":
            options.setdefault(group, []).append(option)
    return options


def find_experiment(name: str) -> Path | None:
    """The file that `experiments=NAME` chooses; None if there is none."""
    also = [Path(SearchPath.config_dir) / GROUP] if SearchPath.config_dir else []
    files = [folder / f"{name}.yaml" for folder in [*_experiment_folders(), *also]]
    return next((file for file in files if file.is_file()), None)


def read_experiment(file: Path) -> DictConfig:
    """Return what an experiment's file sets; ConfigError where that is no whole configuration, or Hydra's to set."""
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
    if faults := list(_hydra_faults(OmegaConf.to_container(content, resolve=False))):
        raise ConfigError(faults)
    return content


def _hydra_faults(content: Any) -> Iterator[Fault]:
    """Hydra calls, runs or writes to much of what its own node names; an experiment may only tune a launcher."""
    node = content.get("hydra") or {}
    rule = "is Hydra's own, and no experiment may set it; type it on the command line"
    if not isinstance(node, Mapping):
        yield Fault("hydra", rule)
        return
    for key, value in node.items():
        if key == "sweeper" and isinstance(value, Mapping) and "params" in value:
            yield Fault("hydra.sweeper.params", "the axes of a study are study.arms and study.seeds")
        elif key != "launcher" or not isinstance(value, Mapping):
            yield Fault(f"hydra.{key}", rule)
        else:
            for name, setting in value.items():
                plain = isinstance(setting, int | float | None) or (isinstance(setting, str) and "\n" not in setting)
                if name == "_target_" or not plain:
                    yield Fault(f"hydra.launcher.{name}", f"{rule}; a file sets numbers and words only")


def job_overrides() -> list[str]:
    """The overrides of the running job, those of its cell of a sweep included."""
    if not HydraConfig.initialized():
        return []
    # Not by iteration, which would follow what an override refers to.
    overrides: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return list(map(str, overrides))


def in_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN


def in_own_sweep() -> bool:
    """Whether `StudySweeper` runs it, which names its jobs; other sweepers leave the application's name."""
    return in_sweep() and HydraConfig.get().job.name != APP


class StudySweeper(Sweeper):
    """Hands the sweep to `atomiclm.sweep`: of `train` with a ledger, of other commands every cell as it is."""

    trains: ClassVar[bool] = False

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run every cell; ConfigError before the first, RunFailed after the last, or what a cell raised."""
        from atomiclm.config.command_line import composing
        from atomiclm.config.expand_overrides import study_of
        from atomiclm.sweep.plan import plan_sweep
        from atomiclm.sweep.runner import CellLauncher, run_sweep

        if self.params:
            rule = "an experiment declares study.arms and study.seeds; other axes are given on the command line"
            raise ConfigError([Fault("hydra.sweeper.params", rule)])
        with composing(arguments):
            study = study_of(DictConfig(self.config))

        def launch(cells: Any, first: int) -> Sequence[JobReturn]:
            with composing([]):
                return self.launcher.launch([one.job for one in cells], initial_job_idx=first)

        if not self.trains:
            for job in launch(plan_sweep(arguments, study), 0):
                _ = job.return_value  # raises what the job did
            return

        def failures(cells: Any, first: int) -> list[str | None]:
            jobs = launch(cells, first)
            return [failure_text(job._return_value) if job.status is JobStatus.FAILED else None for job in jobs]

        # By name: Hydra's registry executes the module of its basic launcher again, and makes another class of it.
        one_by_one = type(self.launcher).__name__ == BASIC
        run_sweep(arguments, study, CellLauncher(failures, one_by_one))


@contextmanager
def as_cell(folder: "RunFolder", fail_fast: bool) -> Iterator[None]:
    """Of a cell of our sweep, or one beside others: print into `log.txt` of its run folder, for `sweep.display`.

    One that a launcher runs beside others obeys `fail_fast` here.
    """
    is_beside_others = in_sweep() and not str(HydraConfig.get().launcher._target_).endswith(f".{BASIC}")
    if not (in_own_sweep() or is_beside_others):
        yield
        return
    from atomiclm.sweep.display import failed_since_start
    from atomiclm.sweep.run_status import LOG

    if is_beside_others and fail_fast and (failed := failed_since_start(folder.path.parent)):
        raise RunFailed(f"not begun: {failed} failed, and study.fail_fast=true")
    folder.path.mkdir(parents=True, exist_ok=True)
    with (folder.path / LOG).open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as log:
        lasting: Any = Lasting(log)  # a disk that is full ends no run for what it prints
        with contextlib.redirect_stdout(lasting), contextlib.redirect_stderr(lasting):
            yield
