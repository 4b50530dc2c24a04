"""Run a command under Hydra: where its configs are found, how a sweep is launched, how a mistake is told.

Hydra's own error messages advise `+key=value` for an unknown key (which then passes unread) and print a traceback for
everything else. Here a user's mistake is one message with the rule and the nearest valid name, exit status 2; a
failure of the program keeps its traceback, exit status 1.
"""

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from atomiclm.command import VERSION, Lasting, discard, mend_streams, told
from atomiclm.config.compose import job_overrides, without_null
from atomiclm.config.composition_faults import composition_fault
from atomiclm.config.declared import expanded, read_study
from atomiclm.config.errors import ConfigError, RunFailed, Stopped
from atomiclm.config.overrides import value_of
from atomiclm.config.paths import CONF
from atomiclm.config.search_path import register_plugins, search_also_in
from atomiclm.config.signals import ignore, stoppable
from atomiclm.config.sweeper import BASIC, CellSweeper, StudySweeper
from atomiclm.config.typed import check_dashes, check_hydra, check_typed, check_unknown_flags, texts_quoted
from atomiclm.sweep.board import failed_since_start
from atomiclm.tracking import RunFolder
from atomiclm.user_error import UserError

USER_MISTAKE, FAILURE = 2, 1


def run_app(task: Callable[[DictConfig], Any], works: bool = True, trains: bool = False) -> None:
    """Compose the configuration of `python -m atomiclm.NAME ...` and run `task` on it, once or for every cell.

    A command that works, and does not only print, goes on when nobody reads what it prints; each cell of a sweep is
    announced, and a run started alone is told of the sweep it belongs to. A sweep of a command that trains keeps a
    ledger, and skips what has ended.
    """
    mend_streams()
    if "--version" in sys.argv[1:]:  # Hydra would print its own
        print(VERSION)
        return
    if works:
        _refuse_several_processes()
        sys.stdout = Lasting(sys.stdout)
    plugins = register_plugins()
    # Hydra makes sweepers of the namespace package hydra_plugins only. A folder of that name would be scanned by every
    # Hydra application in the environment, so only the name is given.
    sweeper = StudySweeper if trains else CellSweeper
    plugins.class_name_to_class["hydra_plugins.atomiclm.StudySweeper"] = sweeper
    # Hydra then lets exceptions through to the handlers below instead of printing and exiting itself.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # argparse takes overrides in one piece only: without this, `model=tiny -m seed=1,2` is an error.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    kept = _Told()

    def tell(config: DictConfig) -> Any:
        if works:
            _announce()
        # What a single run raises is kept for the handlers below, since Hydra announces what it sees raised. In a sweep
        # the launcher has to see it, to mark the cell as failed.
        try:
            return task(config)
        except (UserError, RunFailed, OSError) as error:
            if in_sweep():
                raise
            kept.error = error

    try:
        with stoppable():
            sys.argv[1:] = _written_out(without_null([_quoted(argument) for argument in sys.argv[1:]]), works)
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(functools.wraps(task)(tell))()
        if kept.error is not None:
            raise kept.error
    except (CompactHydraException, OmegaConfBaseException) as error:
        _exit(str(ConfigError([composition_fault(error, _overrides())])), USER_MISTAKE)
    except UserError as error:
        _exit(str(error), USER_MISTAKE)
    except BrokenPipeError:
        discard(sys.stdout)
    except RunFailed as error:
        _exit(str(error), FAILURE)
    except OSError as error:
        _exit(f"{told(error)}; once that is mended, the same command goes on", FAILURE)
    except Stopped as stop:
        _exit(str(stop), stop.status)
    except KeyboardInterrupt:
        _exit("interrupted; the same command goes on from the newest checkpoint, if there is one", 130)
    if works:
        ignore()  # all is done


def _refuse_several_processes() -> None:
    """End the command if torchrun or another launcher started it as one of several: each would train the same run."""
    size = os.environ.get("WORLD_SIZE") or "1"
    if size != "1":
        rule = f"WORLD_SIZE={size}: a run is trained by one process, several are not supported yet"
        _exit(f"{rule}; start the command without torchrun, or unset WORLD_SIZE", USER_MISTAKE)


@contextmanager
def while_read() -> Iterator[None]:
    """Print inside for as long as somebody reads: `| head` closes the pipe when it has seen enough."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)


def in_sweep() -> bool:
    """Whether the running job is a cell of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN


@contextmanager
def beside_others(folder: RunFolder) -> Iterator[None]:
    """Of a cell that a launcher runs beside others: print into `log.txt` of its run folder, and heed `fail_fast`.

    Raises:
        RunFailed: another cell of the sweep has failed, and the study asked to stop then.
    """
    if not in_sweep() or str(HydraConfig.get().launcher._target_).endswith(f".{BASIC}"):
        yield
        return
    study = read_study(job_overrides())
    if study.fail_fast and (failed := failed_since_start(folder.path.parent)):
        raise RunFailed(f"not begun: {failed} failed, and study.fail_fast=true")
    folder.path.mkdir(parents=True, exist_ok=True)
    with (
        (folder.path / "log.txt").open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


def _written_out(arguments: list[str], works: bool) -> list[str]:
    """The arguments of one run with its arm and profile in plain overrides; those of a sweep or a question as given.

    Of a command that works, not a question, says first that it has begun: composing takes a second or two.
    """
    check_dashes(arguments)
    parser = get_args_parser()
    asked, unknown = parser.parse_known_args(arguments)
    if unknown:
        check_unknown_flags(unknown)
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    modes = [f"--{flag}" for flag in ("run", "multirun", "cfg", "info") if getattr(asked, flag)]
    if len(modes) > 1:
        parser.error(f"give only one of {' '.join(modes)}")
    if asked.config_dir:
        search_also_in(asked.config_dir)
    if asked.shell_completion:
        return arguments
    if works and not (asked.cfg or asked.info or asked.help or asked.hydra_help):
        print("checking the configuration", flush=True)
    check_typed(asked)
    flags = [argument for argument in arguments if argument not in asked.overrides]
    overrides = texts_quoted(asked.overrides)
    if asked.multirun or asked.help or asked.hydra_help:
        check_hydra(overrides)
        return [*flags, *overrides]
    overrides = expanded(overrides)
    check_hydra(overrides)  # Hydra acts on its node before any task of ours is called
    return [*flags, *overrides]


def _announce() -> None:
    """Say which cell of a sweep begins; or, of a run started alone, that its experiment has more."""
    overrides = job_overrides()
    if in_sweep():
        special = [f"{key}={value_of(key, overrides)}" for key in ("arm", "seed")]
        shown = special if value_of("arm", overrides) else overrides
        print(f"\ncell {HydraConfig.get().job.num + 1}: {' '.join(shown)}", flush=True)
    elif (arms := read_study(overrides).arms) and value_of("arm", overrides) is None:
        print(f"note: this experiment has {len(arms)} arms; add -m to run them all, or arm=NAME", flush=True)


@dataclass
class _Told:
    error: Exception | None = None


def _exit(message: str, status: int) -> None:
    ignore()  # a scheduler asks more than once, and the status must say what the message does
    with contextlib.suppress(OSError):  # nobody reads it
        print(message, file=sys.stderr, flush=True)
    sys.exit(status)


_STRUCTURE = re.compile(r"""[][(){},"\\$]""")
"""What makes of a value more than a text: a list, a choice, an interpolation; or a text that is quoted already."""

_QUOTED_ONLY = re.compile(r"[^A-Za-z0-9_/+.%*@?|: \t-]")
"""What Hydra reads in quotes only: a letter with an accent, a `=` as in a run's folder, `#`."""


def _quoted(argument: str) -> str:
    """Quote a value that is plainly a text and that Hydra would not read as it stands."""
    key, _, value = argument.partition("=")
    if argument.startswith("-") or value.startswith("'") or _STRUCTURE.search(value) or not _QUOTED_ONLY.search(value):
        return argument
    return f'{key}="{value}"'


def _overrides() -> list[str]:
    return [argument for argument in sys.argv[1:] if "=" in argument and not argument.startswith("-")]
