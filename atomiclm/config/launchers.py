"""Hydra's launchers for the cells of a sweep that run elsewhere: jobs of Slurm's, by submitit, or tasks of Ray's.

A cell is sent as its overrides and composed where it runs. The engine begins it again when its machine is taken away,
and the run folder does the rest: its lock lets one process train it, its checkpoints let the next go on.
"""

import importlib
import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import batched
from types import ModuleType
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from atomiclm.cli import UserError
from atomiclm.config.app import deferred, run_cell, stoppable
from atomiclm.config.compose import initialized
from atomiclm.config.errors import TRY_AGAIN, RunFailed, Stopped
from atomiclm.config.plugins import SearchPath


@dataclass(frozen=True)
class Job:
    """A cell, as it is sent to the process that runs it, which has the same folder before it."""

    task: TaskFunction
    overrides: Sequence[str]
    folder: str  # that the command was started in
    config_dir: str | None

    def __call__(self) -> JobReturn:
        """Run the cell; what it fails of is returned. Stopped: a signal asked for it, and the state is saved."""
        os.chdir(self.folder)
        with stoppable(), initialized(self.config_dir):
            try:
                value = run_cell(list(self.overrides), self.task)
            except Exception as error:
                return JobReturn(self.overrides, status=JobStatus.FAILED, _return_value=error)
        return JobReturn(self.overrides, status=JobStatus.COMPLETED, _return_value=value)


_GRACE_SECONDS = 600.0
"""How long a job that Slurm has told to end waits to be ended; one that still runs then requeues itself."""


class SubmititJob(Job):
    """The same as submitit runs it, which installs its own handlers of signals before."""

    def __call__(self) -> JobReturn:
        """Run the cell, and have submitit requeue it when its time is up, or Slurm takes the machine away."""
        import submitit

        environment = submitit.JobEnvironment()
        try:
            return super().__call__()
        except Stopped as stop:  # with the state saved, and submitit's handlers back in their place
            preempted = stop.number == signal.SIGTERM and environment.cluster == "slurm"
            if preempted:  # a job that ends before Slurm ends it counts as ended, and Slurm does not requeue it
                time.sleep(_GRACE_SECONDS)
            if preempted or stop.number == signal.SIGUSR2:
                signal.raise_signal(signal.SIGUSR2)
            raise

    def checkpoint(self) -> Any:
        """What submitit runs when the job begins again: the same, for the run folder has its state."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class _Launcher(Launcher):
    """What both engines have in common: `setup` as Hydra calls it, and the jobs that overrides make."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.task, self.config = task_function, config

    def _jobs(self, kind: type[Job], cells: Sequence[Sequence[str]], first: int) -> list[Job]:
        typed: Any = OmegaConf.to_container(self.config.hydra.overrides.hydra, resolve=False)
        return [
            kind(self.task, [*typed, *cell, f"hydra.job.num={number}"], os.getcwd(), SearchPath.config_dir)
            for number, cell in enumerate(cells, start=first)
        ]


def _engine(name: str) -> ModuleType:
    """Import submitit or ray, which come with the extra of that name."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        rule = f"{name} is not installed ({error})"
        raise UserError(f"hydra/launcher: {rule}; install the extra: pip install 'atomiclm[{name}]'") from error


def _lost(job: Job, why: str) -> JobReturn:
    """What a cell comes to whose process ended without a word."""
    failure = RunFailed(f"{why}. The same command continues the cell")
    return JobReturn(job.overrides, status=JobStatus.FAILED, _return_value=failure)


_OF_ALL_EXECUTORS = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
"""Parameters that submitit takes for any executor; it wants the others with the executor's name before theirs."""

_POLL_SECONDS = 1.0

_STOP_SECONDS = 10.0
"""How long a sweep that is stopped waits until Ray's tasks have saved their state."""


class SubmititLauncher(_Launcher):
    """Cells as jobs of Slurm's, or as processes of this machine (https://github.com/facebookincubator/submitit).

    Args:
        executor: slurm or local
        submitit_folder: what submitit writes of each job; %j is its number
        at_a_time: jobs at a time; None: all are submitted at once, for Slurm has a queue
        parameters: what submitit and sbatch are given besides, as they name it
    """

    def __init__(
        self, executor: str, submitit_folder: str, max_num_timeout: int, at_a_time: int | None = None, **parameters: Any
    ) -> None:
        self.executor, self.folder, self.at_a_time = executor, submitit_folder, at_a_time
        self.of_executor = {f"{executor}_max_num_timeout": max_num_timeout}
        self.parameters = {
            name if name in _OF_ALL_EXECUTORS else f"{executor}_{name}": value for name, value in parameters.items()
        }

    def make_executor(self) -> Any:
        """The executor with its parameters; UserError: Slurm is not here, or submitit does not know a parameter."""
        submitit = _engine("submitit")
        try:
            executor = submitit.AutoExecutor(self.folder, self.executor, **self.of_executor)
            executor.update_parameters(**self.parameters)
        except (NameError, RuntimeError, ValueError, AssertionError) as error:  # NameError: of a parameter
            raise UserError(f"hydra.launcher: {error}") from error
        return executor

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Submit the cells and wait for all of them; whatever ends this early cancels them."""
        executor, jobs = self.make_executor(), self._jobs(SubmititJob, job_overrides, initial_job_idx)
        errors = _engine("submitit").core.utils
        results = []
        for some in batched(jobs, self.at_a_time or len(jobs)):
            submitted = executor.submit_array(some)
            with ExitStack() as unfinished:
                for one in submitted:
                    unfinished.callback(one.cancel, check=False)
                for job, one in zip(some, submitted, strict=True):
                    try:
                        results.append(one.result())
                    except (errors.UncompletedJobError, errors.FailedJobError):
                        results.append(_lost(job, f"job {one.job_id} ended without a result; see {one.paths.stderr}"))
                unfinished.pop_all()
        return results


class RayLauncher(_Launcher):
    """Cells as tasks of Ray's (https://docs.ray.io/en/latest/ray-core/tasks.html).

    Args:
        address: of a running cluster; None: one is started here, for as long as the command runs
        options: what a task needs and how often it is retried, as `ray.remote` names it
    """

    def __init__(self, address: str | None, **options: Any) -> None:
        self.address = address
        self.options = {name: value for name, value in options.items() if value is not None}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run the cells and wait for all of them; whatever ends this early stops them at a saved state."""
        # Begun by `uv run` it would copy the folder to its workers; and it would tell its makers of its use.
        for variable in ("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "RAY_USAGE_STATS_ENABLED"):
            os.environ.setdefault(variable, "0")
        ray = _engine("ray")
        jobs = self._jobs(Job, job_overrides, initial_job_idx)
        if not ray.is_initialized():
            where = {"address": self.address} if self.address else {"address": "local", "include_dashboard": False}
            try:
                ray.init(**where, log_to_driver=False, logging_level="warning")
            except (OSError, RuntimeError, ValueError) as error:
                raise UserError(f"hydra.launcher.address: Ray cannot be had at {self.address}: {error}") from error
        train = ray.remote(**self.options)(_run_in_ray)
        with deferred() as request:  # noted, for `ray.wait` turns whatever a handler raises into KeyboardInterrupt
            left = tasks = [train.remote(job) for job in jobs]
            while left and not request:
                _, left = ray.wait(left, num_returns=len(left), timeout=_POLL_SECONDS)
            if request.signal is not None:
                for task in left:
                    ray.cancel(task)
                ray.wait(left, num_returns=len(left), timeout=_STOP_SECONDS)
                raise Stopped(request.signal)
        return [_ray_result(ray, job, task) for job, task in zip(jobs, tasks, strict=True)]


def _ray_result(ray: Any, job: Job, task: Any) -> JobReturn:
    try:
        result: JobReturn = ray.get(task)
    except ray.exceptions.RayError as error:
        return _lost(job, str(error))
    return result


def _run_in_ray(job: Job) -> JobReturn:
    try:
        return job()
    except Stopped:  # which Ray would take for cancelled; of a worker that has died it runs the task again
        os._exit(TRY_AGAIN)
