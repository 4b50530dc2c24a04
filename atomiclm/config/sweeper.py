"""Hydra's side of a sweep: the plugins that it calls with -m, which leave the sweep to `atomiclm.sweep`."""

from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from atomiclm.config.errors import ConfigError, Fault
from atomiclm.sweep.plan import PlannedCell, plan_sweep
from atomiclm.sweep.runner import CellLauncher, run_sweep

BASIC = "BasicLauncher"
"""Hydra's launcher that runs jobs in this process, one after the other."""


class CellSweeper(Sweeper):
    """Does with every cell what the command does with one run. Cells: a study's arms and seeds, and what is listed."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = params
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher. Called by Hydra."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        # Composition follows the running command's search path (--config-dir), which is known from here.
        HydraConfig.instance().set_config(config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the command's task on every cell. Raises ConfigError before the first, or what a cell raised."""
        assert self.launcher is not None
        self._refuse_params()
        _, cells = plan_sweep(arguments)
        for job in self.launcher.launch([one.job for one in cells], initial_job_idx=0):
            _ = job.return_value  # raises what the job did

    def _refuse_params(self) -> None:
        if self.params:
            rule = "an experiment declares study.arms and study.seeds; other axes are given on the command line"
            raise ConfigError([Fault("hydra.sweeper.params", rule)])


class StudySweeper(CellSweeper):
    """The sweeper of `train`: it keeps a ledger, trains what has not ended, tunes, and adds seeds."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run every cell that has not ended. Raises ConfigError before the first, or FailedCells after the last."""
        self._refuse_params()
        # By name: Hydra's registry executes the module of its basic launcher anew, which makes another class of it.
        run_sweep(arguments, CellLauncher(self._launch, one_by_one=type(self.launcher).__name__ == BASIC))

    def _launch(self, cells: Sequence[PlannedCell], first: int) -> list[BaseException | None]:
        assert self.launcher is not None
        jobs = self.launcher.launch([one.job for one in cells], initial_job_idx=first)
        return [job._return_value if job.status is JobStatus.FAILED else None for job in jobs]
