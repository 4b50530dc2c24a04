"""Hydra's side of a sweep: the plugins that it calls with -m, which leave the sweep to `atomiclm.sweep`."""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from atomiclm.config.compose import in_sweep
from atomiclm.config.errors import ConfigError, Fault, RunFailed
from atomiclm.config.expand_overrides import study_of
from atomiclm.sweep.board import failed_since_start
from atomiclm.sweep.plan import PlannedCell, plan_sweep
from atomiclm.sweep.runner import CellLauncher, run_sweep
from atomiclm.sweep.study import Study
from atomiclm.tracking import RunFolder

BASIC = "BasicLauncher"
"""Hydra's launcher that runs jobs in this process, one after the other."""


class StudySweeper(Sweeper):
    """Hands the sweep to `atomiclm.sweep`: of `train` with a ledger, of other commands every cell as it is."""

    trains: ClassVar[bool] = False

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = params
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run every cell. Raises ConfigError before the first, FailedCells after the last, or what a cell raised."""
        assert self.launcher is not None and self.config is not None
        if self.params:
            rule = "an experiment declares study.arms and study.seeds; other axes are given on the command line"
            raise ConfigError([Fault("hydra.sweeper.params", rule)])
        study = study_of(self.config)
        if self.trains:
            # By name: Hydra's registry executes the module of its basic launcher again, and makes another class of it.
            launcher = CellLauncher(self._launch, one_by_one=type(self.launcher).__name__ == BASIC)
            run_sweep(arguments, study, launcher, _look)
            return
        for job in self.launcher.launch([one.job for one in plan_sweep(arguments, study)], initial_job_idx=0):
            _ = job.return_value  # raises what the job did

    def _launch(self, cells: Sequence[PlannedCell], first: int) -> list[BaseException | None]:
        assert self.launcher is not None
        jobs = self.launcher.launch([one.job for one in cells], initial_job_idx=first)
        return [job._return_value if job.status is JobStatus.FAILED else None for job in jobs]


def _look(folder: Path, study: Study, seeds: int) -> tuple[int, str]:
    from atomiclm.comparison.analysis import compare_folder  # statistics, which only a sequential study asks for
    from atomiclm.comparison.seeds import next_look

    decision = next_look(compare_folder(folder), study, seeds)
    return decision.seeds, decision.reason


@contextmanager
def beside_others(folder: RunFolder, fail_fast: bool) -> Iterator[None]:
    """Of a cell that a launcher runs beside others: print into `log.txt` of its run folder, and obey `fail_fast`.

    Raises:
        RunFailed: another cell of the sweep has failed, and the study asked to stop then.
    """
    if not in_sweep() or str(HydraConfig.get().launcher._target_).endswith(f".{BASIC}"):
        yield
        return
    if fail_fast and (failed := failed_since_start(folder.path.parent)):
        raise RunFailed(f"not begun: {failed} failed, and study.fail_fast=true")
    folder.path.mkdir(parents=True, exist_ok=True)
    with (
        (folder.path / "log.txt").open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield
