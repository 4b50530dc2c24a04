"""`python -m atomiclm.train [group=option ...] [key=value ...]`: train one model, or with -m every cell of a sweep.

The same command again continues an unfinished run from its newest checkpoint, skips a finished one, and retries one
that failed. Nothing is written before the whole configuration has been validated.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from atomiclm.config.app import beside_others, in_sweep, run_app
from atomiclm.config.faults import RunFailed, UserError
from atomiclm.config.launching import show
from atomiclm.config.objects import prepare_corpus
from atomiclm.config.run import RunConfig, read_config
from atomiclm.config.standing import ended, summary_of
from atomiclm.data import PreparedCorpus
from atomiclm.tracking import Console, Record, RunFolder, environment, read_summary, write_summary
from atomiclm.training.openmp import wait_briefly

if TYPE_CHECKING:
    from atomiclm.session import Session


def main() -> None:
    """Run the command."""
    run_app(train)


def train(config: DictConfig) -> float:
    """Train the run that `config` describes, unless it has ended. Returns its final validation bits per byte.

    Raises:
        ConfigError, UserError: the configuration or the data are wrong; no file was written.
        RunFailed: the loss is no longer a number; recorded as the run's result.
        Stopped: the run was asked to stop; it has saved its state, and the same command resumes it.
    """
    run = read_config(config)
    folder = RunFolder(run.folder)
    with beside_others(folder):
        return _run(run, folder, Console())


def _run(run: RunConfig, folder: RunFolder, console: Console) -> float:
    """Get the run ready, and train it unless it has ended."""
    if run.matched:
        console.say(str(run.matched))
    try:
        corpus = prepare_corpus(run.values, console.progress)
        _refuse_another_corpus(folder, corpus)
        past = ended(folder)
        if past is not None:
            return _skip(folder, past, console)
        wait_briefly()
        from atomiclm.session import Session  # imports torch: three seconds that only a sound configuration is worth

        session = Session.prepare(run, corpus, console)
    except ValueError as error:
        raise UserError(str(error)) from error
    with _locked(folder):
        past = ended(folder)  # asked again: another process may have ended it while this one got ready
        return _skip(folder, past, console) if past is not None else _train(session, run, folder, console)


def _train(session: "Session", run: RunConfig, folder: RunFolder, console: Console) -> float:
    """Train with the folder to ourselves, and leave a summary that says how it ended, however it ended."""
    folder.config.write_text(run.to_yaml(), encoding="utf-8")
    session.corpus.tokenizer.save(folder.tokenizer)
    _note_environment(folder, {**environment(), **session.environment()})
    facts = {"name": run.values["name"], "run_id": run.run_id, "variant": run.variant, "seed": run.values["seed"]}
    facts |= session.facts()
    if run.matched:
        facts["match"] = {"quantity": run.matched.match.quantity, **run.matched.residuals}
    spent = summary_of(folder).get("cpu_seconds", 0.0)
    write_summary(folder.summary, {"state": "running", **facts, "cpu_seconds": spent})
    begun = time.process_time()
    with Record(folder.metrics) as record:
        state = "done"
        error: BaseException | None = None
        try:
            session.fit(folder, record)
        except KeyboardInterrupt as stopped:
            state, error = "interrupted", stopped
        except Exception as failure:
            state, error = _state_of(failure), failure
        summary = {"state": state, **facts, **session.results()}
        # Of the processes that came to an end; what was trained again after a kill is not in it.
        summary["cpu_seconds"] = round(spent + time.process_time() - begun, 1)
        if error is not None:
            summary["error"] = {"type": type(error).__name__, "message": str(error)}
        write_summary(folder.summary, summary)
        session.close()
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


def _state_of(failure: Exception) -> str:
    from atomiclm.training.step import Diverged

    return "diverged" if isinstance(failure, Diverged) else "failed"


def _skip(folder: RunFolder, summary: dict[str, Any], console: Console) -> float:
    if summary["state"] == "diverged":
        console.say(f"{folder.path} has diverged already; remove it to train it again")
        return math.nan
    console.say(f"{folder.path} is done already: {_score(summary):.4f} bits per byte")
    return _score(summary)


def _refuse_another_corpus(folder: RunFolder, corpus: PreparedCorpus) -> None:
    """The text behind a path, or behind another Python, may have changed since the run was begun."""
    known, found = summary_of(folder).get("corpus_sha256"), corpus.manifest["corpus_sha256"]
    if known not in (None, found):
        raise ValueError(
            f"{folder.path} was begun on another text (corpus sha256 {known[:12]}, now {found[:12]}); "
            "restore the text, or give the run another name=..."
        )


def _note_environment(folder: RunFolder, found: dict[str, Any]) -> None:
    """Append to environment.json: a run may be continued by other processes, elsewhere."""
    try:
        processes = read_summary(folder.environment)["processes"]
    except FileNotFoundError:
        processes = []
    write_summary(folder.environment, {"processes": [*processes, found]})


@contextmanager
def _locked(folder: RunFolder) -> Iterator[None]:
    """Hold the run folder: the kernel drops the lock when the process dies, so a kill leaves none behind.

    A sweep waits for a cell that another process trains: the same command in two terminals shares the work.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not in_sweep():
            raise UserError(f"{folder.path} is being trained by another process; wait for it, or stop it") from None
        show([f"waiting for {folder.path}, which another process trains"])
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


if __name__ == "__main__":
    main()
