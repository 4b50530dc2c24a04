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
from _thread import interrupt_main
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
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

from atomiclm.cli import VERSION, Lasting, UserError, discard, format_error, mend_streams, reporting
from atomiclm.config.build import TARGET, TRUST, is_trusted, walk
from atomiclm.config.command_line import CommandLine, composing, help_text, read_command_line, with_options
from atomiclm.config.compose import compose, compose_all, initialized, override_key, value_of, without_null
from atomiclm.config.errors import ConfigError, Fault, RunFailed, Stopped
from atomiclm.config.expand_overrides import expand_overrides, expand_sweep, listed
from atomiclm.config.plugins import CONF, StudySweeper, job_overrides, known_options

type Task = Callable[[DictConfig], Any]  # its name is the command's


def run_app(task: Task, works: bool = True, trains: bool = False, finish: Callable[[], None] | None = None) -> None:
    """Compose the configuration of `python -m atomiclm.NAME ...` and run `task` on it, once or for every cell.

    A command that works, and does not only print, goes on when nobody reads what it prints; a sweep of one that trains
    has a ledger, and skips what has ended. `finish` is called after all cells.
    """
    mend_streams()
    if is_follower():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 for as long as the process lives
    try:
        with stoppable():
            with composing([]):
                typed = read_command_line(sys.argv[1:], task.__name__)
            if typed.questions:
                _answer(typed, task)
                sys.stdout.flush()  # here, where it may be that nobody reads it
                return
            if works:
                sys.stdout = Lasting(sys.stdout)
            if works and world_size() != "1" and (typed.multirun or not trains):
                what = "the cells of a sweep are trained by a process each" if trains else "this command is one process"
                raise UserError(f"WORLD_SIZE={world_size()}: {what}; start it without torchrun, or unset WORLD_SIZE")
            # Of a command that only prints, the result is alone on standard output.
            apart = typed.quiet or typed.as_json or not works
            where = reporting(typed.quiet, typed.as_json) if apart else nullcontext()
            with where, initialized(typed.config_dir) as loader:
                print("checking the configuration", flush=True)
                if typed.multirun:
                    _sweep(typed.overrides, task, loader, trains, works)
                else:
                    _run(typed.overrides, task, works)
                if finish is not None:
                    finish()
    except UserError as error:
        _exit(str(error), 2)
    except BrokenPipeError:
        discard(sys.stdout)
    except RunFailed as error:
        _exit(str(error), 1)
    except OSError as error:
        _exit(f"{format_error(error)}; fix that and run the same command again to continue", 1)
    except Stopped as stop:
        _exit(str(stop), stop.status)
    except KeyboardInterrupt:
        _exit("interrupted; the same command goes on from the newest checkpoint, if there is one", 130)
    if works:
        ignore()  # all is done
    if world_size() != "1":
        _leave(0)


def _answer(typed: CommandLine, task: Task) -> None:
    """Print what was asked for: the help ourselves, for Hydra takes two seconds; the rest by Hydra."""
    overrides = typed.overrides
    if "--version" in typed.questions:
        print(VERSION)
        return
    with composing(overrides):
        with initialized(typed.config_dir):
            if "--help" in typed.questions:
                print(help_text(task.__name__))
                return
            if "--hydra-help" not in typed.questions:
                overrides = without_null(expand_overrides(overrides))
            if "--cfg" in typed.questions and _print_configuration(typed.questions, overrides):
                return
        sys.argv[1:] = [*typed.questions, *overrides]
        os.environ["HYDRA_FULL_ERROR"] = "1"  # or Hydra would print what it raises itself, and exit
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)()


def _print_configuration(questions: list[str], overrides: list[str]) -> bool:
    """Print the configuration as Hydra would, which composes it once more; False: Hydra shall, for it knows more.

    It does not know all of a run that starts with the weights of another.
    """
    config = compose(overrides)
    has_source = "hydra" not in questions and OmegaConf.select(config, "trainer.init_from") is not None
    if not has_source and ("job" not in questions or "--package" in questions):
        return False
    if has_source:
        from atomiclm.config.run import complete

        complete(config, overrides)
    package = questions[questions.index("--package") + 1] if "--package" in questions else ""
    shown = OmegaConf.select(config, package) if package else config
    is_node = OmegaConf.is_config(shown)
    print(OmegaConf.to_yaml(shown, resolve="--resolve" in questions).rstrip("\n") if is_node else shown)
    return True


def _run(overrides: list[str], task: Task, works: bool) -> None:
    with composing(overrides):
        for key in map(override_key, overrides):
            if re.match(r"hydra\.(?!launcher\.|sweeper\.|searchpath)", key):
                raise ConfigError([Fault(key, "has no effect in a single run; leave it out, or add -m")])
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
    from atomiclm.config.launchers import RayLauncher, SubmititLauncher

    # Hydra makes plugins of the package hydra_plugins only; a folder of that name every Hydra application would scan.
    for plugin in (StudySweeper, SubmititLauncher, RayLauncher):
        Plugins.instance().class_name_to_class[f"hydra_plugins.atomiclm.{plugin.__name__}"] = plugin
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


def run_cell(overrides: list[str], task: Task) -> Any:
    """Run `task` on a cell of a sweep, as Hydra's launchers do where it is `overrides` that they are given."""
    with composing(overrides):
        config = compose_hydra([*overrides, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
        with open_dict(config):
            del config["hydra"]
    return task(config)


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


def complete_setting(word: str, overrides: Sequence[str]) -> list[str]:
    """What the override `word`, which is being typed after `overrides`, can become: groups, options, keys, values."""
    groups = known_options()
    key, equals, _ = word.partition("=")
    if equals and key in groups:
        return [f"{key}={option}" for option in groups[key]]
    if equals and key == "arm":
        return [f"arm={arm}" for arm in listed("arms", overrides)]
    settings = {path: value for path, value in walk(with_options(overrides)) if not isinstance(value, dict)}
    if equals:
        return [f"{key}={settings[key]}"] if settings.get(key) is not None else []
    keys = [path for path in settings if not re.search(r"(^|\.)_|\[", path)]
    return [f"{name}=" for name in [*groups, *keys] if word or not re.search("[./]", name)]


def world_size() -> str:
    """How many processes torchrun has started for this run, as it says so."""
    return os.environ.get("WORLD_SIZE") or "1"


def is_follower() -> bool:
    """Whether this is one of several processes that train a run, and not the first, which speaks for all."""
    return world_size() != "1" and (os.environ.get("RANK") or "0") != "0"


def _exit(message: str, status: int) -> None:
    ignore()  # a scheduler asks more than once, and the status must say what the message does
    if not is_follower() or os.environ.get("LOCAL_RANK") == "0":  # once a machine: the first may not be heard of
        with contextlib.suppress(OSError):  # nobody reads it
            print(message, file=sys.stderr, flush=True)
    _leave(status)


def _leave(status: int) -> None:
    """End with this exit status.

    A process that has joined others does not take Python down first: a thread of gloo's that wants the interpreter then
    aborts the process, and after a failure the groups' destructors may wait for a process that is gone.
    """
    if world_size() == "1" or "atomiclm.training.distributed" not in sys.modules:
        sys.exit(status)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)


# Signals. SIGUSR1 is what Slurm sends before it takes a machine away (`--signal=B:USR1@60`), of submitit's jobs
# it is SIGUSR2.

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


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
        handled = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
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
    for each in SIGNALS:
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
    # Soon and not here, where it would be lost once more; not by the system, of which a worker of a sweep takes none.
    again = threading.Timer(0.05, interrupt_main, (lost.exc_value.number,))
    again.daemon = True
    again.start()
