"""One run: `Run.prepare` puts its parts together, `fit` trains it to its end, `finish` reports it.

Of several processes that train it together, rank 0 reads and writes the run folder.
"""

import math
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch

from atomiclm.atomic_io import write_atomic
from atomiclm.branch import Trunk
from atomiclm.cli import UserError, report
from atomiclm.config import CACHE_DTYPE
from atomiclm.config.app import Request, deferred
from atomiclm.config.build import build
from atomiclm.config.errors import RunFailed, Stopped
from atomiclm.config.load import cache_dir, prepare_corpus, vocabulary_note
from atomiclm.config.match import cost_of
from atomiclm.config.run import RunConfig, code_hashes
from atomiclm.data import training_batches
from atomiclm.evaluation import BitsPerByte
from atomiclm.machine import environment
from atomiclm.model import Decoder, parameter_roles
from atomiclm.model.causality import check_causality
from atomiclm.run_evaluation import RunEvaluation
from atomiclm.sweep.ledger import place_of
from atomiclm.sweep.run_status import refuse_other_text, summary_of
from atomiclm.tracking import Console, Place, Record, RunFolder, WeightsAndBiases, read_metrics, write_summary
from atomiclm.tracking.run_folder import checkpoints_in
from atomiclm.training import Runtime, Trainer, TrainState, checkpoint
from atomiclm.training.bad_steps import Recovery
from atomiclm.training.hooks import Hook, Log, LogMetrics, Retention, Sample, SaveCheckpoints, Validate
from atomiclm.training.memory import PeakMemory, memory_advice
from atomiclm.training.processes import Processes
from atomiclm.training.runtime import Peak, reasons_inexact
from atomiclm.training.state import load_tensors
from atomiclm.training.step import Averaging, Diverged

_STOP_SECONDS = 8.0
"""Time from a request to stop until this process has ended; schedulers grant at least 10 s."""


class Run:
    """One run and everything that takes part in training it."""

    def __init__(self, config: RunConfig, console: Console, processes: Processes) -> None:
        self.config = config
        self.console = console
        self.processes = processes
        self.folder = RunFolder(config.folder)
        self.stop = Request()  # set once a signal has asked the run to stop
        self.summary: dict[str, Any] = {}  # summary.json, once `fit` has ended
        self.peak_memory_bytes: int | None = None  # that training took; the anchors come after
        self.error: BaseException | None = None  # what ended the run before its budget was spent

    def prepare(self) -> None:
        """Make corpus, decoder, optimizer and trackers; writes nothing into the run folder.

        Raises:
            UserError: the text, the trunk or the machine is not one that the run can be trained with.
            RunFailed: memory ran out; the message says what takes less.
        """
        values, folder = self.config.values, self.folder
        with _memory_advice(self.config):
            is_begun = self.processes.from_first(bool(checkpoints_in(folder.checkpoints)))
            self.trunk = Trunk.find(values) if values["trainer"]["branch_from"] and not is_begun else None

            source = None if is_begun else self.config.source
            weights = None if source is None else source.weights()  # first, for the corpus may take hours

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
            self.peak_memory = PeakMemory(self.runtime.device)
            # Dropout draws from the global generator; initial weights and the data order have their own.
            torch.manual_seed(values["seed"])
            self.model: Decoder = _build(values, "model")
            if weights is not None:
                load_tensors(self.model, weights)
                weights = None  # frees the memory
            self.model.to(self.runtime.device)
            is_foreign = len(code_hashes(values)) > 1  # it has a component that our tests do not know
            if not is_begun and is_foreign and (note := check_causality(self.model)) is not None:
                self.console.say(note)
            self.trainer: Trainer = _build(values, "trainer")
            if self.processes.size > 1:
                self._distribute()
            optimizer = self._optimizer()
            order, separate_documents = self.trainer.order, self.trainer.separate_documents
            self.batches = training_batches(self.corpus, self.model.context_length, order, separate_documents)
            self.dtype = self.runtime.dtype(self.trainer.precision)
            self.precision = str(self.dtype).removeprefix("torch.")
            self.evaluation = RunEvaluation(_build(values, "evaluation"), self)
            self.mirror: WeightsAndBiases = _build(values, "tracking")
            self.state = TrainState(self.model, optimizer, processes=self.processes)
            if self.trunk is not None:
                self.trunk.restore(self.state, self.corpus.tokenizer.digest())

    def _distribute(self) -> None:
        """Shard the model where several processes are to share it; each draws other random numbers."""
        from atomiclm.training.distributed import Distributed  # torch's part for it, which takes a while to import

        runtime, processes, batch_size = self.runtime, self.processes, self.trainer.batch_size
        assert isinstance(processes, Distributed)
        if batch_size % processes.size:
            rule = f"trainer.batch_size={batch_size} must be a multiple of the {processes.size} processes"
            next_one = -(-batch_size // processes.size) * processes.size
            raise UserError(f"{rule}, each of which takes an equal part; give {next_one}")
        strategy, wanted, free = runtime.distributed, cost_of(self.config.values).memory_bytes, math.inf
        if strategy == "auto":
            if runtime.device.type == "cuda":
                free = -processes.greatest(-float(torch.cuda.mem_get_info()[0]))  # where there is least
            strategy = "ddp" if wanted < free else "fsdp"
        if strategy == "fsdp":
            processes.shard(self.model, runtime.shard, runtime.gather_dtype, runtime.reshard)
        elif runtime.shard is not None:
            raise UserError(f"runtime.shard: nothing is sharded by {strategy}; add runtime.distributed=fsdp")
        torch.manual_seed(self.config.values["seed"] + (processes.rank << 32))
        self.console.say(f"{processes.size} processes, {processes.describe()}")

    def _optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of what it is to move in this process."""
        roles, multipliers = parameter_roles(self.model), self.model.lr_multipliers
        is_elementwise = getattr(build(self.config.values["optim"]).func, "elementwise", False)
        here = self.processes.optimized(self.model, is_elementwise)
        multipliers = {name: factor for name, factor in multipliers.items() if name in here}
        optimizer: torch.optim.Optimizer = _build(self.config.values, "optim", here.items(), roles, multipliers)
        if self.processes.owns and isinstance(optimizer, Averaging):
            rule = "it averages the weights itself and is not elementwise, so it cannot be sharded"
            raise UserError(f"optim: {rule}; add runtime.distributed=ddp")
        return optimizer

    def is_to_stop(self) -> bool:
        """Whether a signal has asked any process to stop; all have to ask this together."""
        number = int(self.processes.greatest(self.stop.signal or 0))
        if number:
            self.stop.signal = self.stop.signal or number
        return number > 0  # not of a signal that came meanwhile, of which the others do not know

    def fit(self) -> None:
        """Train to the end of the budget, from the newest checkpoint if there is one, and write how it ended.

        Needs the lock of the run folder. What ends the run early is noted in `error`, for `finish` to raise.

        Raises:
            UserError: there are checkpoints, and none can be used.
            OSError: the disk does not take the summary.
        """
        if self.processes.is_first:
            self._fit_and_record()
            return
        self.processes.together(lambda: checkpoint.resume(self.state, self.folder.checkpoints, self.console.say))
        self.summary = {"state": self._ended(lambda: self._train(None, lambda row: None))}

    def _fit_and_record(self) -> None:
        folder = self.folder
        write_atomic(folder.config, self.config.to_yaml().encode("utf-8"))
        self.corpus.tokenizer.save(folder.tokenizer)
        facts, before, begun = self._facts(), summary_of(folder), time.process_time()
        spent = before.get("cpu_seconds", 0.0)
        with Record(folder.metrics) as record:

            def log(row: dict[str, Any]) -> None:
                record.append(row)  # the mirror reads it from there
                self.console.update(row)

            processes = folder.read_environments() if os.path.lexists(folder.environment) else []
            source = {} if self.config.source is None else {"init": self.config.source.facts()}
            resumed = self.processes.together(lambda: self._resume(record))
            processes.append({**self._process(), **source, "resumed": resumed})
            write_summary(folder.environment, {"processes": processes})
            known = {"cpu_seconds": spent, "peak_memory_bytes": before.get("peak_memory_bytes")}

            def train() -> None:
                write_summary(folder.summary, {"state": "running", **facts, **known})
                self._train(record, log)
                self.evaluation.compute_anchors()
                anchors = {f"anchor/{name}": value for name, value in self.evaluation.anchors.items()}
                if anchors and not read_metrics(folder.metrics, "anchors"):  # a run killed here has them
                    log({"event": "anchors", **self.state.position(), **anchors})

            state = self._ended(train)
            try:
                with deferred() as late:  # whatever comes now, the summary says how the run ended
                    self.summary = {"state": state, **facts, **self.evaluation.figures()}
                    # Of the processes that came to an end; what was trained again after a kill is not in it.
                    peaks = [known["peak_memory_bytes"], self.peak_memory_bytes]  # of an earlier process, and this one
                    self.summary["peak_memory_bytes"] = max((peak for peak in peaks if peak is not None), default=None)
                    self.summary["cpu_seconds"] = round(spent + time.process_time() - begun, 1)
                    if self.error is not None:
                        self.summary["error"] = {"type": type(self.error).__name__, "message": str(self.error)}
                    record.sync()  # before the summary that says the run is done
                    write_summary(folder.summary, self.summary)
                self.stop = self.stop or late
            except OSError as full:
                if state != "interrupted":
                    raise
                self.console.say(f"{folder.summary.name} was not written: {full}")  # `finish` still says it was stopped
            finally:
                self.console.close()
                # It reads summary.json. After a request to stop it gets what is left of the time the machine grants.
                asked = self.stop.at
                self.mirror.finish(None if asked is None else max(0.0, _STOP_SECONDS - (time.monotonic() - asked)))

    def _ended(self, train: Callable[[], None]) -> str:
        """Train, note in `error` what ends it before its time, and return the state that the run is then in."""
        try:
            with _memory_advice(self.config):
                train()
        except KeyboardInterrupt as stopped:
            self.error = stopped
            return "interrupted"
        except Diverged as diverged:
            self.error = diverged
            return "diverged"
        except UserError as damaged:  # files that were damaged while it trained
            self.error = RunFailed(str(damaged))
        except Exception as failure:
            self.error = failure
            if (lost := self.processes.loss_of_one(failure)) is not None:
                self.error = RunFailed(f"{lost}; the same command goes on from the newest checkpoint")
                return "interrupted"
        return "done" if self.error is None else "failed"

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

    def _train(self, record: Record | None, log: Log) -> None:
        """Spend the budget, mirrored, validated and saved; raises Stopped where a signal asked for it.

        `record` is what `log` writes; rank 0 alone has one.
        """
        with deferred() as self.stop:
            self._spend(record, log)

    def _spend(self, record: Record | None, log: Log) -> None:
        folder, console, state, trainer, runtime = self.folder, self.console, self.state, self.trainer, self.runtime
        place = Place()
        with suppress(UserError):  # of a damaged ledger the sweep says so itself
            place = place_of(folder)
        if self.processes.is_first:
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
        if self.config.source is not None and not read_metrics(folder.metrics, "init"):
            source = self.config.source
            changes = ", ".join(source.all_changes(self.config.values, self.corpus.tokenizer.digest()))
            console.say(f"starting with the weights of {source.path}{changes and f'; changed: {changes}'}")
            log({"event": "init", **state.position(), **source.origin(), "changes": changes})
        peak = Peak(cache_dir(self.config.values), runtime.matmul_rate(self.dtype), console.say)
        # Of each process: the peak is that of one device.
        flops_per_token = self.model.training_flops_per_token() // self.processes.size
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
        profile = None
        if runtime.profile:
            from atomiclm.training.profile import Profile  # torch's profiler, which only this needs

            profile = Profile(runtime.profile, folder.profile, console.say, self.batches, runtime, list(hooks))
            hooks.append(profile)  # after the rest, whose time it counts
        recovery = Recovery(folder.bad_steps, saver, log, console.say, self.corpus.tokenizer.decode)
        schedule = build(self.config.values["schedule"])
        try:
            saver.begin(state)
            trainer.fit(state, self.batches, schedule, runtime, hooks, self.is_to_stop, recovery)
            peak.save_run(flops_per_token, state.tokens, state.seconds)
            if self.is_to_stop():
                is_spent = budget.progress(state.step, state.seconds, tokens_per_step) >= 1
                if state.step and (not is_spent or state.unfinished):
                    try:
                        saver.save(state)
                    except (OSError, Diverged) as failure:  # for the next start to deal with
                        console.say(f"not saved: {failure}; the same command goes on from the checkpoint before")
                raise Stopped(self.stop.signal or 0)
        finally:
            if profile is not None:
                profile.close()
            saver.wait()
            self.peak_memory_bytes = self.peak_memory.bytes()

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
        if self.config.source is not None:
            facts["init"] = self.config.source.origin()
        if matched:
            facts["match"] = {"quantity": matched.match.quantity, **matched.residuals}
        return facts

    def _process(self) -> dict[str, Any]:
        """Where and by what code the run is trained, and what decides the order of floating-point sums."""
        kind = self.runtime.device.type
        device = self.runtime.device_name() if kind == "cuda" else kind
        threads, compiled = torch.get_num_threads(), self.runtime.compile
        settings = {"device": device, "precision": self.precision, "torch_threads": threads, "compiled": compiled}
        overrides = self.config.overrides
        command = {} if overrides is None else {"command": ["atomiclm.train", *overrides]}
        return {**environment(), **code_hashes(self.config.values), **settings, **command}

    def _conditions(self) -> dict[str, Any]:
        """What exact resuming depends on, for the manifest of every checkpoint."""
        values = self.config.values
        return {
            **self.runtime.conditions(self.dtype),
            **self.processes.conditions(),
            "corpus_sha256": self.corpus.manifest["corpus_sha256"],
            "tokenizer_sha256": self.corpus.tokenizer.digest(),
            **code_hashes(values),
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
        facts = {"run": str(self.folder.path), **self.summary}
        if error is not None:
            if alone:
                report([f"{state}: {self.folder.path}"], facts, self.console.say)
            else:
                self.console.say(f"{state}: {self.folder.path}")
            if state != "diverged":
                raise error
            if alone:
                raise RunFailed(str(error)) from error
            self.console.say(str(error))
            return math.nan
        if alone:
            report(self.evaluation.report(), facts, self.console.say)
        for line in self.evaluation.next_commands() if alone else self.evaluation.scores():
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
