"""`atomiclm train [group=option ...] [key=value ...]`: train one model, or with -m every cell of a sweep.

The same command again continues an unfinished run from its newest checkpoint, skips a finished one, and retries one
that failed. Nothing is written before the whole configuration has been validated.
"""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from errno import EACCES, EEXIST, ENOTDIR, EPERM, EROFS
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from atomiclm.cli import UserError, mend_streams, report
from atomiclm.config.app import run_app, run_cell, stoppable, world_size
from atomiclm.config.command_line import read_command_line
from atomiclm.config.compose import initialized
from atomiclm.config.errors import TRY_AGAIN, RunFailed, Stopped
from atomiclm.config.plugins import as_cell, in_sweep
from atomiclm.machine import wait_briefly
from atomiclm.tracking import Console, Locked, RunFolder, run_lock

if TYPE_CHECKING:
    from atomiclm.config.run import RunConfig
    from atomiclm.training.processes import Processes


def main() -> None:
    wait_briefly()
    run_app(train, trains=True)


def work() -> None:
    """Train cells of a sweep beside other processes that do; see `atomiclm.sweep.side_by_side`."""
    from atomiclm.sweep.side_by_side import serve

    sys.argv[0] = __file__  # as the command's, for the record
    mend_streams()
    with suppress(Stopped), stoppable(), initialized(read_command_line(sys.argv[1:]).config_dir):
        serve(partial(run_cell, task=train))


def train(config: DictConfig) -> float:
    """Train the run that the composed `config` describes; see `train_run`."""
    # Only now, and torch with it: --help, --cfg and what does not compose are answered without.
    from atomiclm.config.run import read_config

    return train_run(read_config(config))


def train_run(settings: "RunConfig", console: Console | None = None) -> float:
    """Train a run unless it has ended. Returns its final validation bits per byte.

    Raises:
        UserError: the configuration or the data are wrong; no file was written.
        RunFailed: the run diverged or memory ran out; recorded as the run's result.
        Stopped: a signal asked the run to stop; it has saved its state, and the same command resumes it.
        OSError: the disk is full or gone; the checkpoints there are stay as they are.
    """
    from atomiclm.config.validate import cautions
    from atomiclm.sweep.run_status import ended, refuse_other_texts

    folder = RunFolder(settings.folder)
    with as_cell(folder, settings.values["study"]["fail_fast"]), _processes(settings) as processes:
        console = console or Console()
        if settings.matched:
            console.say(str(settings.matched))
        if (summary := processes.from_first(ended(folder))) is not None:
            refuse_other_texts([settings])
            return _skip(settings, summary, console)
        if not in_sweep():  # which warns once for all its cells
            for line in cautions([(settings.run_id, settings.values)]):
                console.say(line)
        from atomiclm.run import Run

        run = Run(settings, console, processes)
        processes.together(run.prepare)
        with lock_run(folder) if processes.is_first else nullcontext():
            if (summary := processes.from_first(ended(folder))) is not None:  # by another, while this one got ready
                return _skip(settings, summary, console)
            run.fit()
        return run.finish(alone=not in_sweep())


def _skip(settings: "RunConfig", summary: dict[str, Any], console: Console) -> float:
    from atomiclm.sweep.run_status import of_other_code

    score, has_diverged = float(summary.get("validation/bits_per_byte", math.nan)), summary["state"] == "diverged"
    line = f"{settings.folder} is done already: {score:.4f} bits per byte"
    if has_diverged:
        score, line = math.nan, f"{settings.folder} has diverged already; remove it to train it again"
    if in_sweep():
        console.say(line)
        return score
    if of_other_code([settings]):
        line += "; it was made by other code than this, and is trained again if you remove its folder"
    report([] if has_diverged else [line], {"run": str(settings.folder), **summary}, console.say)
    if has_diverged:
        raise RunFailed(line)
    return score


@contextmanager
def _processes(settings: "RunConfig") -> Iterator["Processes"]:
    """Join those that torchrun has started to train the run together."""
    if world_size() == "1":
        from atomiclm.training.processes import Processes

        yield Processes()
        return
    from atomiclm.training.distributed import joined

    runtime = settings.values["runtime"]
    with joined(runtime["device"], runtime["peer_timeout_seconds"]) as processes:
        yield processes


@contextmanager
def lock_run(folder: RunFolder) -> Iterator[None]:
    """Lock the run folder; a sweep waits for a cell that another process trains: two terminals share the work."""
    from atomiclm.sweep.run_status import summary_of

    say = partial(print, "\n", sep="", file=sys.stderr, flush=True)
    held = ExitStack()
    try:
        # Whoever was passed over by another machine must write nothing more, and ends as a kill would end it.
        held.enter_context(run_lock(folder.path, say, wait=in_sweep(), on_takeover=lambda: os._exit(TRY_AGAIN)))
    except Locked as other:
        raise UserError(str(other)) from None
    except OSError as error:
        if error.errno not in (EACCES, EPERM, EROFS, EEXIST, ENOTDIR):
            raise
        raise UserError(
            f"output_dir: {folder.path} cannot be made or written to ({error.strerror}); "
            "give output_dir=... a folder you may write to"
        ) from error
    with held:
        if summary_of(folder).get("state") == "running":
            say(
                f"the last process that trained {folder.path} stopped without a message: it was killed, or the machine "
                "went down. If nobody killed it, the machine may have run out of memory: with runtime.micro_batch_size "
                "or runtime.checkpoint_activations=true the same run needs less"
            )
        yield


if __name__ == "__main__":
    main()
