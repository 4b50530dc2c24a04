"""Run a command under Hydra: compose its configuration, run it once or for every cell of a sweep, report how it ends.

A user's mistake is one message, exit status 2; a failure of the program keeps its traceback, exit status 1. A signal
ends the command where it stands, with an exit status that says whether to start it again; inside `deferred`, around
training, the first one is noted.
"""

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, cast

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from atomiclm.cli import VERSION, Lasting, UserError, discard, format_error, mend_streams
from atomiclm.config.build import TARGET, TRUST, is_trusted, walk
from atomiclm.config.command_line import CommandLine, composing, read_command_line
from atomiclm.config.compose import compose_all, initialized, override_key, value_of, without_null
from atomiclm.config.errors import ConfigError, Fault, RunFailed, Stopped
from atomiclm.config.expand_overrides import expand_overrides, expand_sweep, listed
from atomiclm.config.plugins import CONF, StudySweeper, job_overrides

SWEEPER = "hydra_plugins.atomiclm.StudySweeper"  # as conf/hydra/sweeper/study.yaml names it

type Task = Callable[[DictConfig], Any]


def run_app(task: Task, works: bool = True, trains: bool = False) -> None:
    """Compose the configuration of `python -m atomiclm.NAME ...` and run `task` on it, once or for every cell.

    A command that works, and does not only print, goes on when nobody reads what it prints; a sweep of one that trains
    has a ledger, and skips what has ended.
    """
    mend_streams()
    if "--version" in sys.argv[1:]:  # Hydra would print its own
        print(VERSION)
        return
    try:
        if works and (size := os.environ.get("WORLD_SIZE") or "1") != "1":
            rule = f"WORLD_SIZE={size}: a run is trained by one process, several are not supported yet"
            raise UserError(f"{rule}; start the command without torchrun, or unset WORLD_SIZE")
        with stoppable():
            with composing([]):
                typed = read_command_line(sys.argv[1:])
            if typed.questions:
                _answer(typed, task)
                sys.stdout.flush()  # here, where it may be that nobody reads it
                return
            if works:
                sys.stdout = Lasting(sys.stdout)
                print("checking the configuration", flush=True)
            with initialized(typed.config_dir) as loader:
                if typed.multirun:
                    _sweep(typed.overrides, task, loader, trains, works)
                else:
                    _run(typed.overrides, task, works)
    except UserError as error:
        _exit(str(error), 2)
    except BrokenPipeError:
        discard(sys.stdout)
    except RunFailed as error:
        _exit(str(error), 1)
    except OSError as error:
        _exit(f"{format_error(error)}; once that is mended, the same command goes on", 1)
    except Stopped as stop:
        _exit(str(stop), stop.status)
    except KeyboardInterrupt:
        _exit("interrupted; the same command goes on from the newest checkpoint, if there is one", 130)
    if works:
        ignore()  # all is done


def _answer(typed: CommandLine, task: Task) -> None:
    """Have Hydra print what was asked for."""
    overrides = typed.overrides
    with composing(overrides):
        with initialized(typed.config_dir):
            if not {"--help", "--hydra-help", "--shell-completion"} & set(typed.questions):
                overrides = without_null(expand_overrides(overrides))
        sys.argv[1:] = [*typed.questions, *overrides]
        os.environ["HYDRA_FULL_ERROR"] = "1"  # or Hydra would print what it raises itself, and exit
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)()


def _run(overrides: list[str], task: Task, works: bool) -> None:
    with composing(overrides):
        for key in map(override_key, overrides):
            if re.match(r"hydra\.(?!launcher\.|sweeper\.|searchpath)", key):
                raise ConfigError([Fault(key, "nothing of Hydra's acts in a single run; leave it out, or add -m")])
        config = compose_hydra(expand_overrides(overrides), RunMode.RUN)
        arms = listed("arms", overrides)
        if works and arms and value_of("arm", overrides) is None:
            print(f"note: this experiment has {len(arms)} arms; add -m to run them all, or arm=NAME", flush=True)
        with open_dict(config):
            del config["hydra"]
    task(config)


def _sweep(overrides: list[str], task: Task, loader: ConfigLoader, trains: bool, works: bool) -> None:
    def run_cell(config: DictConfig) -> Any:
        if works and not (trains and is_ours):  # whose display says so
            given = job_overrides()
            special = [f"{key}={value_of(key, given)}" for key in ("arm", "seed")]
            shown = special if value_of("arm", given) else given
            print(f"\ncell {HydraConfig.get().job.num + 1}: {' '.join(shown)}", flush=True)
        return task(config)

    # Cells of ours choose their arms themselves; another sweeper knows of none.
    is_ours = value_of("hydra/sweeper", overrides) in (None, "study")
    StudySweeper.trains = trains
    # Hydra makes sweepers of the package hydra_plugins only; a folder of that name every Hydra application would scan.
    Plugins.instance().class_name_to_class[SWEEPER] = StudySweeper
    with composing(overrides):
        # What another sweeper writes lies beside its runs.
        beside_runs = "hydra.sweep.dir=${output_dir}/${name}"
        expanded = expand_sweep(overrides) if is_ours else [beside_runs, *expand_overrides(overrides)]
        config = compose_hydra([*expanded, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
        # Callbacks are refused, so a context has none: the base class does nothing.
        context = HydraContext(config_loader=loader, callbacks=cast(Any, Callback()))
        sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=run_cell, config=config)
        if not is_ours:
            sweeper.sweep(expanded)
            return
    sweeper.sweep(overrides)


def compose_hydra(overrides: list[str], mode: RunMode) -> DictConfig:
    """Compose the command's configuration with its node `hydra`, which HydraConfig is set to, and check that node."""
    config = compose_all(overrides, mode)
    if config.hydra.callbacks:
        raise ConfigError([Fault("hydra.callbacks", "Hydra's callbacks are not called by atomiclm; leave them out")])
    plugins: dict[str, Any] = {
        part: OmegaConf.to_container(config.hydra[part], resolve=False) for part in ("launcher", "sweeper")
    }
    for path, value in walk(plugins if mode is RunMode.MULTIRUN else {}, "hydra"):
        target = str(value)
        of_plugins = ("hydra_plugins.", "hydra._internal.core_plugins.", "optuna.samplers.")
        if path.endswith(f".{TARGET}") and not target.startswith(of_plugins) and not is_trusted(target):
            rule = f"'{target}' is of no installed launcher or sweeper, and Hydra would run it"
            raise ConfigError([Fault(path, f"{rule}; if you trust it, set {TRUST}={target.partition('.')[0]}")])
    sampler = plugins["sweeper"].get("sampler") or {}
    if mode is RunMode.MULTIRUN and "seed" in sampler and sampler["seed"] is None:
        rule = "without a seed the same command would try other values when it goes on after a kill"
        raise ConfigError([Fault("hydra.sweeper.sampler.seed", f"{rule}; add hydra.sweeper.sampler.seed=1")])
    HydraConfig.instance().set_config(config)
    return config


@contextmanager
def while_read() -> Iterator[None]:
    """Print inside for as long as somebody reads: `| head` closes the pipe when it has seen enough."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)


def _exit(message: str, status: int) -> None:
    ignore()  # a scheduler asks more than once, and the status must say what the message does
    with contextlib.suppress(OSError):  # nobody reads it
        print(message, file=sys.stderr, flush=True)
    sys.exit(status)


# Signals. SIGUSR1 is what Slurm sends before it takes a machine away (`--signal=B:USR1@60`).

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))


@dataclass
class Request:
    """The signal's number, and when it came (`time.monotonic`); None until then."""

    signal: int | None = None
    at: float | None = None
    repeated: bool = False

    def __bool__(self) -> bool:
        return self.signal is not None


_deferring: list[Request] = []


@contextmanager
def stoppable() -> Iterator[None]:
    """While open, each of the signals ends the command with `Stopped`, raised in the main thread where it stands."""
    try:
        # One that is ignored stays so: `nohup`, or a script's `&`, has asked for that.
        handled = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        previous = {each: signal.signal(each, _act) for each in handled}
    except ValueError:  # not the main thread: some launchers run cells in others, where signals cannot be taken
        yield
        return
    previous_hook, sys.unraisablehook = sys.unraisablehook, partial(_swallowed, sys.unraisablehook)
    try:
        yield
    finally:
        sys.unraisablehook = previous_hook
        for each, handler in previous.items():
            signal.signal(each, handler)


def ignore() -> None:
    """Ignore every signal from here on: the command has said how it ends, and what is left is taking torch down."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)


@contextmanager
def deferred() -> Iterator[Request]:
    """While open, the first signal is noted in what this gives, for whoever trains to look at where state can be saved.

    A second one ends the command as soon as nothing is being written, a third at once.
    """
    request = Request()
    with stoppable():
        _deferring.append(request)
        try:
            yield request
        finally:
            _deferring.remove(request)


def _act(number: int, frame: FrameType | None) -> None:
    request = _deferring[-1] if _deferring else None
    if request is not None and not request:
        request.signal, request.at = number, time.monotonic()
        return
    stopped = Stopped(number)
    if request is not None:
        if request.repeated:  # while the run folder is held: as a kill would, and not with a writer still at work
            os._exit(stopped.status)
        request.repeated = True
    raise stopped


def _swallowed(otherwise: Callable[["sys.UnraisableHookArgs"], object], lost: "sys.UnraisableHookArgs") -> None:
    """What is raised while C code waits for Python (a finalizer, a callback of LLVM's) gets lost: raise it again."""
    if not isinstance(lost.exc_value, Stopped):
        otherwise(lost)
        return
    # Soon and not here, where it would be lost once more.
    again = threading.Timer(0.05, os.kill, (os.getpid(), lost.exc_value.number))
    again.daemon = True
    again.start()
