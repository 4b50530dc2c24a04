"""`python -m atomiclm.train [group=option ...] [key=value ...]`: train one model, or with -m every cell of a sweep.

The same command again continues an unfinished run from its newest checkpoint, skips a finished one, and retries one
that failed. Nothing is written before the whole configuration has been validated.
"""

import math
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from errno import EACCES, EEXIST, ENOTDIR, EPERM, EROFS
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from atomiclm.config.app import beside_others, in_sweep, run_app
from atomiclm.config.cautions import cautions
from atomiclm.config.errors import TRY_AGAIN, RunFailed, Stopped
from atomiclm.config.launching import show
from atomiclm.config.load import prepare_corpus, vocabulary_note
from atomiclm.config.run import RunConfig, read_config
from atomiclm.config.standing import ended, summary_of
from atomiclm.durable import write_whole
from atomiclm.tracking import Console, Record, RunFolder, environment, write_summary
from atomiclm.tracking.hold import Held, hold
from atomiclm.training.openmp import wait_briefly
from atomiclm.user_error import UserError

if TYPE_CHECKING:
    from atomiclm.branching import Trunk
    from atomiclm.session import Session


def main() -> None:
    """Run the command."""
    run_app(train, trains=True)


def train(config: DictConfig) -> float:
    """Train the run that `config` describes, unless it has ended. Returns its final validation bits per byte.

    Raises:
        UserError: the configuration or the data are wrong; no file was written.
        RunFailed: the loss is no longer a number; recorded as the run's result.
        Stopped: a signal asked the run to stop; it has saved its state, and the same command resumes it.
        OSError: the disk is full or gone; the checkpoints there are stay as they are.
    """
    run = read_config(config)
    folder = RunFolder(run.folder)
    with beside_others(folder):
        return _run(run, folder, Console())


def _run(run: RunConfig, folder: RunFolder, console: Console) -> float:
    """Get the run ready, and train it unless it has ended."""
    if run.matched:
        console.say(str(run.matched))
    if not in_sweep() and ended(folder) is None:  # a sweep says it once for all its cells
        for line in cautions([(run.run_id, run.values)]):
            console.say(line)
    try:
        trunk = _trunk(run, folder)

        def judge(corpus_sha256: str) -> None:
            _refuse_another_text(folder, corpus_sha256)
            if trunk is not None:
                trunk.refuse_other_text(corpus_sha256)

        corpus = prepare_corpus(run.values, console.progress, judge)
        past = ended(folder)
        if past is not None:
            return _skip(folder, past, console)
        if (note := vocabulary_note(run.values, corpus)) is not None:
            console.say(note)
        wait_briefly()
        if "torch" not in sys.modules:
            console.progress("loading torch", 0, 0)
        from atomiclm.session import Session  # imports torch: three seconds that only a sound configuration is worth

        console.progress("building the model", 0, 0)
        session = Session.prepare(run, corpus, console, trunk)
    except Exception as error:
        if (told := _memory_advice(error.__cause__ or error, run)) is not None:  # the cause, of what `build` raises
            raise RunFailed(told) from error
        raise
    with _locked(folder):
        past = ended(folder)  # asked again: another process may have ended it while this one got ready
        return _skip(folder, past, console) if past is not None else _train(session, run, folder, console)


def _train(session: "Session", run: RunConfig, folder: RunFolder, console: Console) -> float:
    """Train with the folder to ourselves, and leave a summary that says how it ended, however it ended."""
    write_whole(folder.config, run.to_yaml().encode("utf-8"))
    session.corpus.tokenizer.save(folder.tokenizer)
    facts = {"name": run.values["name"], "run_id": folder.run_id, "variant": run.variant, "seed": run.values["seed"]}
    facts |= session.facts()
    if run.matched:
        facts["match"] = {"quantity": run.matched.match.quantity, **run.matched.residuals}
    spent = summary_of(folder).get("cpu_seconds", 0.0)
    begun = time.process_time()
    with Record(folder.metrics) as record:
        resumed = session.resume(folder, record)
        _note_environment(folder, {**environment(), **session.environment(), "resumed": resumed})
        write_summary(folder.summary, {"state": "running", **facts, "cpu_seconds": spent})
        state = "done"
        error: BaseException | None = None
        try:
            session.fit(folder, record)
        except KeyboardInterrupt as stopped:
            state, error = "interrupted", stopped
        except UserError as failure:  # files that were damaged while it trained
            state, error = "failed", RunFailed(str(failure))
        except Exception as failure:
            state, error = _state_of(failure), failure
        summary = {"state": state, **facts, **session.results()}
        # Of the processes that came to an end; what was trained again after a kill is not in it.
        summary["cpu_seconds"] = round(spent + time.process_time() - begun, 1)
        told = _memory_advice(error, run)
        if told is not None and error is not None:
            traceback.clear_frames(error.__traceback__)  # they hold on to the tensors of the step
            error = RunFailed(told)
        if error is not None:
            summary["error"] = {"type": type(error).__name__, "message": str(error)}
        try:
            record.sync()  # before the summary that says the run is done
            write_summary(folder.summary, summary)
        except OSError as full:
            if not isinstance(error, KeyboardInterrupt):
                raise
            console.say(f"{folder.summary.name} was not written: {full}")  # who asked to stop is still told so
        finally:
            session.close()
    if session.request and not isinstance(error, KeyboardInterrupt):
        raise Stopped(session.request.signal or 0)  # asked while the run came to its own end: a sweep goes no further
    if error is not None:
        console.say(f"{state}: {folder.path}")
        if state != "diverged":
            raise error
        if not in_sweep():
            raise RunFailed(str(error)) from error
        console.say(str(error))  # in a sweep it is a result like others: the arm does not train at this setting
        return math.nan
    for line in session.report(folder, alone=not in_sweep()):
        console.say(line)
    return _score(summary)


def _score(summary: dict[str, Any]) -> float:
    """The figure a sweep is about; not a number for a run that was not validated to its end."""
    return float(summary.get("validation/bits_per_byte", math.nan))


def _memory_advice(error: BaseException | None, run: RunConfig) -> str | None:
    """What to change, where it was memory that ran out."""
    if error is None or "torch" not in sys.modules:  # torch itself could not be loaded, and cannot be a second time
        return None
    from atomiclm.training.out_of_memory import advice
    from atomiclm.training.runtime import best_device

    trainer, runtime = run.values["trainer"], run.values["runtime"]
    return advice(
        error,
        batch_size=trainer["batch_size"],
        micro_batch_size=runtime["micro_batch_size"],
        checkpoint_activations=runtime["checkpoint_activations"],
        device=best_device() if runtime["device"] == "auto" else runtime["device"],
    )


def _state_of(failure: Exception) -> str:
    from atomiclm.training.step import Diverged

    return "diverged" if isinstance(failure, Diverged) else "failed"


def _skip(folder: RunFolder, summary: dict[str, Any], console: Console) -> float:
    if summary["state"] == "diverged":
        console.say(f"{folder.path} has diverged already; remove it to train it again")
        return math.nan
    console.say(f"{folder.path} is done already: {_score(summary):.4f} bits per byte")
    return _score(summary)


def _trunk(run: RunConfig, folder: RunFolder) -> "Trunk | None":
    """What the run goes on from, where it is to begin with another's checkpoint and has none of its own yet."""
    if not run.values["trainer"]["branch_from"] or ended(folder) is not None:
        return None
    wait_briefly()
    from atomiclm.branching import Trunk
    from atomiclm.training import checkpoint

    return None if checkpoint.candidates(folder.checkpoints) else Trunk.find(run.values)


def _refuse_another_text(folder: RunFolder, found: str) -> None:
    """The text behind a path, or behind another Python, may have changed since the run was begun."""
    known = summary_of(folder).get("corpus_sha256")
    if known not in (None, found):
        raise UserError(
            f"{folder.path} was begun on another text (corpus sha256 {known[:12]}, now {found[:12]}); "
            "restore the text, or give the run another name=..."
        )


def _note_environment(folder: RunFolder, found: dict[str, Any]) -> None:
    """Append to environment.json: a run may be continued by other processes, elsewhere."""
    processes = folder.read_environments() if os.path.lexists(folder.environment) else []
    write_summary(folder.environment, {"processes": [*processes, found]})


@contextmanager
def _locked(folder: RunFolder) -> Iterator[None]:
    """Hold the run folder; a sweep waits for a cell that another process trains: two terminals share the work."""

    def say(line: str) -> None:
        show([line])

    with ExitStack() as held:
        try:
            # Whoever was passed over by another machine must write nothing more, and ends as a kill would end it.
            held.enter_context(hold(folder.path, say, wait=in_sweep(), taken=lambda: os._exit(TRY_AGAIN)))
        except Held as other:
            raise UserError(str(other)) from None
        except OSError as error:
            if error.errno not in (EACCES, EPERM, EROFS, EEXIST, ENOTDIR):
                raise
            raise UserError(
                f"output_dir: {folder.path} cannot be made or written to ({error.strerror}); "
                "give output_dir=... a folder you may write to"
            ) from error
        if summary_of(folder).get("state") == "running":
            say(
                f"the last process that trained {folder.path} ended without a word: it was killed, or the machine went "
                "down. If nobody killed it, the machine may have run out of memory: runtime.micro_batch_size and "
                "runtime.checkpoint_activations=true take less, and do not make it another run"
            )
        yield


if __name__ == "__main__":
    main()
