"""One run in one process: `Run.prepare` puts its parts together, `fit` trains it to its end, `finish` reports it."""

import math
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from atomiclm.atomic_io import write_atomic
from atomiclm.branch import Trunk
from atomiclm.cli import UserError
from atomiclm.config import CACHE_DTYPE
from atomiclm.config.app import Request, deferred
from atomiclm.config.build import build
from atomiclm.config.errors import RunFailed, Stopped
from atomiclm.config.load import prepare_corpus, vocabulary_note
from atomiclm.config.run import RunConfig, user_code_hash
from atomiclm.data import training_batches
from atomiclm.evaluation import BitsPerByte
from atomiclm.machine import code_of, default_cache_dir, environment
from atomiclm.model import Decoder, parameter_roles
from atomiclm.run_evaluation import RunEvaluation
from atomiclm.sweep.ledger import place_of
from atomiclm.sweep.run_status import refuse_other_text, summary_of
from atomiclm.tracking import Console, Place, Record, RunFolder, WeightsAndBiases, read_metrics, write_summary
from atomiclm.training import Runtime, Trainer, TrainState, checkpoint
from atomiclm.training.bad_steps import Recovery
from atomiclm.training.hooks import Hook, Log, LogMetrics, Retention, Sample, SaveCheckpoints, Validate
from atomiclm.training.runtime import Peak, memory_advice, reasons_inexact
from atomiclm.training.step import Diverged

_STOP_SECONDS = 8.0
"""Time from a request to stop until this process has ended; schedulers grant at least 10 s."""


class Run:
    """One run and everything that takes part in training it."""

    def __init__(self, config: RunConfig, console: Console) -> None:
        self.config = config
        self.console = console
        self.folder = RunFolder(config.folder)
        self.stop = Request()  # set once a signal has asked the run to stop
        self.summary: dict[str, Any] = {}  # summary.json, once `fit` has ended
        self.error: BaseException | None = None  # what ended the run before its budget was spent

    def prepare(self) -> None:
        """Make corpus, decoder, optimizer and trackers; writes nothing into the run folder.

        Raises:
            UserError: the text, the trunk or the machine is not one that the run can be trained with.
            RunFailed: memory ran out; the message says what takes less.
        """
        values, folder = self.config.values, self.folder
        with _memory_advice(self.config):
            is_begun = bool(checkpoint.checkpoints_in(folder.checkpoints))
            self.trunk = Trunk.find(values) if values["trainer"]["branch_from"] and not is_begun else None

            def check_text(corpus_sha256: str) -> None:
                refuse_other_text(folder, corpus_sha256)
                if self.trunk is not None:
                    self.trunk.check_text(corpus_sha256)

            self.corpus = prepare_corpus(values, self.console.progress, check_text)
            if (note := vocabulary_note(values, self.corpus)) is not None:
                self.console.say(note)
            self.console.progress("building the model", 0, 0)
            self.runtime: Runtime = _build(values, "runtime")
            self.runtime.prepare()
            # Dropout draws from the global generator; initial weights and the data order have their own.
            torch.manual_seed(values["seed"])
            self.model: Decoder = _build(values, "model").to(self.runtime.device)
            parameters, roles = self.model.named_parameters(), parameter_roles(self.model)
            optimizer = _build(values, "optim", parameters, roles, self.model.lr_multipliers)
            self.trainer: Trainer = _build(values, "trainer")
            order, separate_documents = self.trainer.order, self.trainer.separate_documents
            self.batches = training_batches(self.corpus, self.model.context_length, order, separate_documents)
            self.dtype = self.runtime.dtype(self.trainer.precision)
            self.precision = str(self.dtype).removeprefix("torch.")
            self.evaluation = RunEvaluation(_build(values, "evaluation"), self)
            self.mirror: WeightsAndBiases = _build(values, "tracking")
            self.state = TrainState(self.model, optimizer)
            if self.trunk is not None:
                self.trunk.restore(self.state, self.corpus.tokenizer.digest())

    def fit(self) -> None:
        """Train to the end of the budget, from the newest checkpoint if there is one, and write how it ended.

        Needs the lock of the run folder. What ends the run early is noted in `error`, for `finish` to raise.

        Raises:
            UserError: there are checkpoints, and none can be used.
            OSError: the disk does not take the summary.
        """
        folder = self.folder
        write_atomic(folder.config, self.config.to_yaml().encode("utf-8"))
        self.corpus.tokenizer.save(folder.tokenizer)
        facts, spent, begun = self._facts(), summary_of(folder).get("cpu_seconds", 0.0), time.process_time()
        with Record(folder.metrics) as record:

            def log(row: dict[str, Any]) -> None:
                record.append(row)  # the mirror reads it from there
                self.console.update(row)

            processes = folder.read_environments() if os.path.lexists(folder.environment) else []
            processes.append({**self._process(), "resumed": self._resume(record)})
            write_summary(folder.environment, {"processes": processes})
            write_summary(folder.summary, {"state": "running", **facts, "cpu_seconds": spent})
            state = "done"
            try:
                with _memory_advice(self.config):
                    with deferred() as self.stop:
                        self._train(record, log)
                    self.evaluation.compute_anchors()
                    anchors = {f"anchor/{name}": value for name, value in self.evaluation.anchors.items()}
                    if anchors and not read_metrics(folder.metrics, "anchors"):  # a run killed here has them
                        log({"event": "anchors", **self.state.position(), **anchors})
            except KeyboardInterrupt as stopped:
                state, self.error = "interrupted", stopped
            except Diverged as diverged:
                state, self.error = "diverged", diverged
            except UserError as damaged:  # files that were damaged while it trained
                state, self.error = "failed", RunFailed(str(damaged))
            except Exception as failure:
                state, self.error = "failed", failure
            self.summary = {"state": state, **facts, **self.evaluation.figures()}
            # Of the processes that came to an end; what was trained again after a kill is not in it.
            self.summary["cpu_seconds"] = round(spent + time.process_time() - begun, 1)
            if self.error is not None:
                self.summary["error"] = {"type": type(self.error).__name__, "message": str(self.error)}
            try:
                record.sync()  # before the summary that says the run is done
                write_summary(folder.summary, self.summary)
            except OSError as full:
                if state != "interrupted":
                    raise
                self.console.say(f"{folder.summary.name} was not written: {full}")  # `finish` still says it was stopped
            finally:
                self.console.close()
                # It reads summary.json. After a request to stop it gets what is left of the time the machine grants.
                asked = self.stop.at
                self.mirror.finish(None if asked is None else max(0.0, _STOP_SECONDS - (time.monotonic() - asked)))

    def _resume(self, record: Record) -> dict[str, Any] | None:
        """Restore the newest sound checkpoint, if there is one, and cut the record back to it.

        Returns the step at which the run goes on, whether it is the same run to the last bit, and if not, why.
        """
        folder = self.folder
        content = checkpoint.resume(self.state, folder.checkpoints, self.console.say)
        if content is None:
            if checkpoint.had_some(folder.checkpoints) or read_metrics(folder.metrics, "checkpoint"):
                raise UserError(
                    f"{folder.path} had checkpoints, and none is left in {folder.checkpoints.name}: "
                    "bring them back, or remove the run folder to train from the start"
                )
            record.truncate(0)
            return None
        reasons = reasons_inexact(content.manifest.get("conditions"), self._conditions())
        if self.trainer.budget.max_seconds:
            reasons.append("trainer.max_seconds ends a run by the clock")
        rows = content.scalars["record_rows"]
        if rows is None:
            reasons.append("the checkpoint does not say which rows of metrics.jsonl belong to it")
        elif record.rows < rows:
            if record.damage:
                folder.read_rows()  # says so, and what to do
            reasons.append(f"metrics.jsonl has {record.rows} of the {rows} rows that belong to the checkpoint")
        else:
            if record.damage:
                self.console.say(f"{record.damage}; it came after the checkpoint and is written again")
            record.truncate(rows)  # those after that checkpoint are written again
        verdict = f"inexact: {'; '.join(reasons)}" if reasons else "exact"
        self.console.say(f"resuming {folder.path} at step {self.state.step}: {verdict}")
        return {"step": self.state.step, "exact": not reasons, "reasons": reasons}

    def _train(self, record: Record, log: Log) -> None:
        """Spend the budget, mirrored, validated and saved; raises Stopped where a signal asked for it."""
        folder, console, state, trainer, runtime = self.folder, self.console, self.state, self.trainer, self.runtime
        place = Place()
        with suppress(UserError):  # of a damaged ledger the sweep says so itself
            place = place_of(folder)
        self.mirror.start(folder, console.say, place)
        budget, tokens_per_step = trainer.budget, trainer.batch_size * self.model.context_length
        steps = budget.steps(tokens_per_step)
        if budget.max_steps and steps != budget.max_steps:
            early = f"ends the run at step {steps}, before max_steps={budget.max_steps}"
            console.say(f"trainer.max_tokens={budget.max_tokens:,} {early}")
        console.start(steps, budget.max_tokens, budget.max_seconds)
        if self.trunk is not None and not read_metrics(folder.metrics, "branch"):
            console.say(f"branching from {self.trunk.path} at step {state.step}")
            log({"event": "branch", **state.position(), "trunk": str(self.trunk.path)})
        cache_dir = Path(self.config.values["cache_dir"] or default_cache_dir())
        peak = Peak(cache_dir, runtime.matmul_rate(self.dtype), console.say)
        flops_per_token = self.model.training_flops_per_token()
        retention, conditions = Retention(runtime.keep_checkpoints, runtime.keep_best), self._conditions()
        every, points = runtime.checkpoint_every_seconds, trainer.bad_steps.rewind_every_steps
        saver = SaveCheckpoints(log, console.say, folder.checkpoints, retention, every, points, record, conditions)
        settings, bytes_per_token = self.evaluation.settings, self.corpus.bytes_per_training_token
        hooks: list[Hook] = [
            LogMetrics(log, runtime.log_every_steps, bytes_per_token, flops_per_token, peak.utilization),
            Validate(log, self.evaluation.validate, settings.times),
            Sample(log, self.evaluation.sample, settings.sample_times if settings.samples else 0),
            saver,  # last, so that a step's rows are in the record when it is saved
        ]
        recovery = Recovery(folder.bad_steps, saver, log, console.say, self.corpus.tokenizer.decode)
        schedule = build(self.config.values["schedule"])
        try:
            saver.begin(state)
            trainer.fit(state, self.batches, schedule, runtime, hooks, lambda: bool(self.stop), recovery)
            peak.save_run(flops_per_token, state.tokens, state.seconds)
            if self.stop:
                is_spent = budget.progress(state.step, state.seconds, tokens_per_step) >= 1
                if state.step and (not is_spent or state.unfinished):
                    try:
                        saver.save(state)
                    except (OSError, Diverged) as failure:  # for the next start to deal with
                        console.say(f"not saved: {failure}; the same command goes on from the checkpoint before")
                raise Stopped(self.stop.signal or 0)
        finally:
            saver.wait()

    def _facts(self) -> dict[str, Any]:
        """What the summary says of a run however it ends."""
        values, matched, model, corpus = self.config.values, self.config.matched, self.model, self.corpus
        roles = model.num_parameters_by_role()
        facts = {
            "name": values["name"],
            "run_id": self.folder.run_id,
            "variant": self.config.variant,
            "seed": values["seed"],
            "parameters": model.num_parameters(),
            "parameters_non_embedding": model.num_parameters() - roles.get("embedding", 0) - roles.get("head", 0),
            "flops_per_token": model.training_flops_per_token(),
            "cache_bytes_per_token": model.cache_bytes_per_token(getattr(torch, CACHE_DTYPE).itemsize),
            "cache_dtype": CACHE_DTYPE,
            "vocab_size": corpus.tokenizer.vocab_size,
            "corpus_sha256": corpus.manifest["corpus_sha256"],
            "validation_sha256": corpus.manifest["validation_sha256"],
            "validation_bytes": corpus.validation.num_bytes,
            "protocol": BitsPerByte().describe(self.evaluation.conditions).facts(),
            "train_bytes": corpus.train.num_bytes,
            "train_tokens": corpus.train.num_tokens,
            **self.batches.facts(),
        }
        if matched:
            facts["match"] = {"quantity": matched.match.quantity, **matched.residuals}
        return facts

    def _process(self) -> dict[str, Any]:
        """Where and by what code the run is trained, and what decides the order of floating-point sums."""
        kind = self.runtime.device.type
        device = self.runtime.device_name() if kind == "cuda" else kind
        threads, compiled = torch.get_num_threads(), self.runtime.compile
        settings = {"device": device, "precision": self.precision, "torch_threads": threads, "compiled": compiled}
        return {**environment(), **settings}

    def _conditions(self) -> dict[str, Any]:
        """What exact resuming depends on, for the manifest of every checkpoint."""
        values = self.config.values
        return {
            **self.runtime.conditions(self.dtype),
            "corpus_sha256": self.corpus.manifest["corpus_sha256"],
            "tokenizer_sha256": self.corpus.tokenizer.digest(),
            "code_sha256": code_of(),
            **{f"code_sha256 of {module}": digest for module, digest in user_code_hash(values).items()},
            # No weight hangs on these, but the rows of the record do.
            "log_every_steps": self.runtime.log_every_steps,
            **{f"evaluation.{key}": value for key, value in values["evaluation"].items()},
        }

    def finish(self, *, alone: bool = True) -> float:
        """Report how the run ended, or raise what ended it, and return its validation bits per byte; NaN without any.

        Args:
            alone: it is not a cell of a sweep, which reports its cells itself and takes a diverged one for a result.
        """
        error, state = self.error, self.summary["state"]
        if self.stop and state != "interrupted":
            raise Stopped(self.stop.signal or 0)  # asked while the run came to its own end: a sweep goes no further
        if error is not None:
            self.console.say(f"{state}: {self.folder.path}")
            if state != "diverged":
                raise error
            if alone:
                raise RunFailed(str(error)) from error
            self.console.say(str(error))
            return math.nan
        for line in self.evaluation.report() if alone else self.evaluation.scores():
            self.console.say(line)
        return float(self.summary.get("validation/bits_per_byte", math.nan))


def _build(values: Mapping[str, Any], group: str, *arguments: Any) -> Any:
    """Build a group, give it what the run supplies where its node is partial, and name it in what it refuses."""
    try:
        built = build(values[group])
        return built(*arguments) if arguments else built
    except (ValueError, TypeError) as error:
        raise UserError(f"{group}: {error}") from error


@contextmanager
def _memory_advice(config: RunConfig) -> Iterator[None]:
    """Raise RunFailed with what takes less memory, where it was memory that ran out."""
    try:
        yield
    except Exception as error:
        message = memory_advice(error.__cause__ or error, config.values)  # the cause, of what `build` raises
        if message is None:
            raise
        traceback.clear_frames(error.__traceback__)  # they hold on to the tensors of the step
        raise RunFailed(message) from error
