"""One run in one process: its data, model, optimizer and trackers put together, trained, and summed up."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self

import torch
from torch import Tensor

from atomiclm.branching import Trunk
from atomiclm.cache_folder import default_cache_dir
from atomiclm.config.build import build
from atomiclm.config.errors import Stopped
from atomiclm.config.run import RunConfig
from atomiclm.config.signals import Request, deferred
from atomiclm.config.user_code_hash import user_code_hash
from atomiclm.data import Batch, Dataset, PreparedCorpus, training_batches
from atomiclm.evaluation import Evaluation, validation_protocol, validation_row
from atomiclm.evaluation.anchors import NGRAM_TRAIN_BYTES as ANCHOR_TRAIN_BYTES
from atomiclm.evaluation.anchors import anchors, notes
from atomiclm.generation import Sampler, generate
from atomiclm.model import Decoder, parameter_roles
from atomiclm.study.cost import CACHE_DTYPE
from atomiclm.study.ledger import read_ledger
from atomiclm.tokenizer import END_OF_TEXT
from atomiclm.tracking import (
    Console,
    Record,
    RunFolder,
    WeightsAndBiases,
    code_of,
    read_metrics,
    read_summary,
    write_summary,
)
from atomiclm.training import Runtime, Trainer, TrainState, checkpoint
from atomiclm.training.checkpoint import Retention
from atomiclm.training.conditions import conditions, reasons_inexact
from atomiclm.training.hooks import LogMetrics, Sample, Validate
from atomiclm.training.machine import Peak, Reached, keep_rate, keep_run
from atomiclm.training.recovery import FolderRecovery
from atomiclm.training.saving import SaveCheckpoints
from atomiclm.training.step import Diverged, Interrupted
from atomiclm.training.trainer import Forward
from atomiclm.user_error import UserError

_STOP_SECONDS = 8.0
_WORTH_KEEPING_SECONDS = 10.0  # of steps: the first ones are slow, and `plan` goes by the slowest run
"""From a request to stop to the end of the process, as far as it is ours to decide: schedulers grant 10 and more."""


@dataclass
class Session:
    """Everything that takes part in training one run."""

    run: RunConfig
    console: Console
    corpus: PreparedCorpus
    runtime: Runtime
    trainer: Trainer
    evaluation: Evaluation
    mirror: WeightsAndBiases
    state: TrainState
    batches: Dataset
    forward: Forward
    trunk: Path | None = None
    peak: Peak | None = None
    decode_tokens_per_second: float | None = None
    request: Request = field(default_factory=Request)
    anchors: dict[str, float] = field(default_factory=dict)

    @classmethod
    def prepare(cls, run: RunConfig, corpus: PreparedCorpus, console: Console, trunk: Trunk | None = None) -> Self:
        """Build all parts; writes nothing.

        Raises:
            ValueError: settings that only the machine or the made objects can refuse, such as a device not there.
        """
        values = run.values
        runtime: Runtime = _built(values, "runtime")
        runtime.prepare()
        # Dropout draws from the global generator; initial weights and the data order have their own.
        torch.manual_seed(values["seed"])
        model: Decoder = _built(values, "model").to(runtime.device)
        optimizer = _built(values, "optim", model.named_parameters(), parameter_roles(model), model.lr_multipliers)
        trainer: Trainer = _built(values, "trainer")
        try:
            trainer.refuse_two_averages(optimizer)
        except ValueError as error:
            raise UserError(f"trainer.{error}") from error
        batches = training_batches(corpus, model.context_length, trainer.order, trainer.separate_documents)
        state = TrainState(model, optimizer)
        if trunk is not None:
            trunk.restore(state, corpus)
        return cls(
            run=run,
            console=console,
            corpus=corpus,
            runtime=runtime,
            trainer=trainer,
            evaluation=_built(values, "evaluation"),
            mirror=_built(values, "tracking"),
            state=state,
            batches=batches,
            forward=trainer.forward(model, runtime),
            trunk=trunk.path if trunk else None,
        )

    # -----------------------------------------------------------------------------------------------------------------
    # What is known before the first step.

    @property
    def model(self) -> Decoder:
        """The model being trained."""
        assert isinstance(self.state.model, Decoder)
        return self.state.model

    def facts(self) -> dict[str, Any]:
        """Return what the summary says of a run whatever becomes of it."""
        roles = self.model.num_parameters_by_role()
        embeddings = roles.get("embedding", 0) + roles.get("head", 0)
        dtype = self.runtime.dtype(self.trainer.precision)
        manifest = self.corpus.manifest
        return {
            "parameters": self.model.num_parameters(),
            "parameters_non_embedding": self.model.num_parameters() - embeddings,
            "flops_per_token": self.model.training_flops_per_token(),
            "cache_bytes_per_token": self.model.cache_bytes_per_token(getattr(torch, CACHE_DTYPE).itemsize),
            "cache_dtype": CACHE_DTYPE,
            "vocab_size": self.corpus.tokenizer.vocab_size,
            "corpus_sha256": manifest["corpus_sha256"],
            "validation_sha256": manifest["validation_sha256"],
            "validation_bytes": self.corpus.validation.num_bytes,
            "protocol": validation_protocol(
                self.corpus,
                self.model.context_length,
                self.trainer.separate_documents,
                str(dtype).removeprefix("torch."),
            ).facts(),
            "train_bytes": self.corpus.train.num_bytes,
            "train_tokens": self.corpus.train.num_tokens,
            **self.batches.facts(),
        }

    def environment(self) -> dict[str, Any]:
        """Return what decides the order of floating-point sums on this machine."""
        device = self.runtime.device
        return {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "precision": str(self.runtime.dtype(self.trainer.precision)).removeprefix("torch."),
            "torch_threads": torch.get_num_threads(),
            "compiled": self.runtime.compile,
        }

    def conditions(self) -> dict[str, Any]:
        """Return what exact resuming depends on; it stands in the manifest of every checkpoint."""
        hashes = {
            "corpus_sha256": self.corpus.manifest["corpus_sha256"],
            "tokenizer_sha256": self.corpus.tokenizer.digest(),
            "code_sha256": code_of(),
            **{f"code_sha256 of {module}": digest for module, digest in user_code_hash(self.run.values).items()},
        }
        looked_at = {  # no weight hangs on these, but the rows of the record do
            "log_every_steps": self.runtime.log_every_steps,
            **{f"evaluation.{key}": value for key, value in self.run.values["evaluation"].items()},
        }
        found = conditions(self.runtime, self.runtime.dtype(self.trainer.precision), hashes)
        return {**found, **looked_at}

    # -----------------------------------------------------------------------------------------------------------------
    # Training.

    def resume(self, folder: RunFolder, record: Record) -> dict[str, Any] | None:
        """Restore the newest sound checkpoint, and cut the record back to it.

        Returns:
            At which step the run goes on, whether it is the run it was, to the last bit, and if not, why; None where
            there is no checkpoint, and the run begins at the beginning.

        Raises:
            ValueError: there are checkpoints, and none can be used.
        """
        content = checkpoint.resume(self.state, folder.checkpoints, self.console.say)
        if content is None:
            if checkpoint.had_some(folder.checkpoints) or read_metrics(folder.metrics, "checkpoint"):
                raise UserError(
                    f"{folder.path} had checkpoints, and none is left in {folder.checkpoints.name}: "
                    "bring them back, or remove the run folder to train from the start"
                )
            record.truncate(0)
            return None
        reasons = reasons_inexact(content.manifest.get("conditions"), self.conditions())
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

    def fit(self, folder: RunFolder, record: Record) -> None:
        """Train from where the state is to the end of the budget.

        Raises:
            Stopped: a signal asked for it; a checkpoint was written first.
            Diverged: the loss is no longer a number.
            OSError: the disk takes no more.
        """
        with deferred() as self.request:
            self.mirror.start(folder, arm=_arm(folder), say=self.console.say)
            budget = self.trainer.budget
            steps = budget.steps(self._tokens_per_step)
            if budget.max_steps and steps != budget.max_steps:
                limit = f"trainer.max_tokens={budget.max_tokens:,}"
                self.console.say(f"{limit} ends the run at step {steps}, before max_steps={budget.max_steps}")
            self.console.start(steps, budget.max_tokens, budget.max_seconds)
            log = partial(self._log, record)
            if self.trunk is not None and not read_metrics(folder.metrics, "branch"):
                self.console.say(f"going on from {self.trunk}, step {self.state.step}")
                log({"event": "branch", **self.state.position(), "trunk": str(self.trunk)})
            saver = self._saver(folder, record, log)
            try:
                self._train(folder, saver, log)
                self._keep_reached()
                if self.request:
                    self._save_and_stop(saver)
            finally:
                saver.wait()
        self.anchors = {**self.corpus.anchors, **(self._anchors() if self.evaluation.anchors else {})}
        if self.anchors and not read_metrics(folder.metrics, "anchors"):  # a run killed here before has them already
            named = {f"anchor/{name}": value for name, value in self.anchors.items()}
            log({"event": "anchors", **self.state.position(), **named})

    def _save_and_stop(self, saver: SaveCheckpoints) -> NoReturn:
        """Raise `Stopped`, after a checkpoint if there is anything to save that is not: a disk that takes none, or
        weights that are no numbers, are for the next start to deal with."""
        assert self.request.signal is not None
        if self.state.step and (self._progress < 1 or self.state.unfinished):
            try:
                saver.save(self.state)
            except (OSError, Diverged) as failure:
                self.console.say(f"not saved: {failure}; the same command goes on from the checkpoint before")
        raise Stopped(self.request.signal)

    def _train(self, folder: RunFolder, saver: SaveCheckpoints, log: Callable[[dict[str, Any]], None]) -> None:
        schedule = build(self.run.values["schedule"])
        hooks = [*self._hooks(log), saver]  # last, so that a step's rows are in the record when it is saved
        recovery = FolderRecovery(folder.bad_steps, saver, log, self.console.say, self._as_text)
        saver.begin(self.state)
        self.trainer.fit(self.state, self.batches, schedule, self.runtime, hooks, lambda: bool(self.request), recovery)

    def _saver(self, folder: RunFolder, record: Record, log: Callable[[dict[str, Any]], None]) -> SaveCheckpoints:
        return SaveCheckpoints(
            log,
            self.console.say,
            folder.checkpoints,
            Retention(self.runtime.keep_checkpoints, self.runtime.keep_best),
            self.runtime.checkpoint_every_seconds,
            self.trainer.bad_steps.rewind_every_steps,
            record,
            self.conditions(),
        )

    def _hooks(self, log: Callable[[dict[str, Any]], None]) -> list[LogMetrics | Validate | Sample]:
        self.peak = self._measured_peak()
        per_token = self.model.training_flops_per_token()
        sample_times = self.evaluation.sample_times if self.evaluation.samples else 0
        return [
            LogMetrics(
                log,
                self.runtime.log_every_steps,
                self.corpus.bytes_per_training_token,
                per_token,
                self.peak.utilization,
            ),
            Validate(log, self._validate, self.evaluation.times),
            Sample(log, self._sample, sample_times),
        ]

    def _log(self, record: Record, row: dict[str, Any]) -> None:
        record.append(row)  # the mirror reads it from there
        self.console.update(row)

    def _measured_peak(self) -> Peak:
        """Measure the rate of matrix products; the best ever seen here is the peak."""
        rate = self.runtime.matmul_rate(self.runtime.dtype(self.trainer.precision))
        return Peak(self._kept(keep_rate, rate) or rate, lambda better: self._kept(keep_rate, better))

    def _keep_reached(self) -> None:
        """Leave what the steps reached where `plan` finds it."""
        if self.peak is not None and self.state.seconds >= _WORTH_KEEPING_SECONDS:
            rate, per_token = self.peak.rate, self.model.training_flops_per_token()
            reached = per_token * self.state.tokens / self.state.seconds
            run = Reached(rate.kind, rate.device, rate.dtype, rate.threads, per_token, reached)
            self._kept(keep_run, run)

    def _kept[T, R](self, keep: Callable[[Path, T], R], seen: T) -> R | None:
        """Keep what was seen of this machine; None, and said, where that cannot be."""
        cache_dir = self.run.values["cache_dir"]
        try:
            return keep(Path(cache_dir) if cache_dir else default_cache_dir(), seen)
        except (OSError, ValueError) as error:
            self.console.say(f"the measured speed of this machine was not kept for plan: {error}")
            return None

    @property
    def _tokens_per_step(self) -> int:
        return self.trainer.batch_size * self.model.context_length

    @property
    def _progress(self) -> float:
        return self.trainer.budget.progress(self.state.step, self.state.seconds, self._tokens_per_step)

    # -----------------------------------------------------------------------------------------------------------------
    # Looking at the model.

    def _as_text(self, batch: Batch) -> list[str]:
        return [self.corpus.tokenizer.decode(row) for row in batch.inputs.tolist()]

    def _go_on(self, *_: int) -> None:
        """Raise `Interrupted` once a stop was requested: what is given up is made again later."""
        if self.request:
            raise Interrupted

    def _validate(self) -> dict[str, Any]:
        def forward(tokens: Tensor, *, documents: Tensor | None = None) -> Tensor:
            self._go_on()
            self.console.still("validating")
            return self.forward(tokens, documents=documents)

        return validation_row(
            self.model,
            forward,
            self.corpus,
            self.evaluation.batch_size,
            self.runtime.device,
            self.trainer.separate_documents,
        )

    def _sample(self) -> list[dict[str, str]]:
        tokenizer, settings = self.corpus.tokenizer, self.evaluation
        end_of_text = tokenizer.special_tokens[END_OF_TEXT]
        prompt = tokenizer.encode(settings.sample_prompt) or [end_of_text]
        begun = time.perf_counter()
        drawn = generate(
            self.model,
            [prompt] * settings.samples,
            settings.sample_tokens,
            Sampler(settings.sample_temperature),
            seed=self.run.values["seed"],
            stop_tokens=frozenset([end_of_text]),
            on_token=self._go_on,
            never=tokenizer.unused_ids(self.model.vocab_size),
        )
        # Of all samples at once, with their caches, the prompts' prefill included: a figure to compare arms by.
        self.decode_tokens_per_second = round(sum(map(len, drawn)) / (time.perf_counter() - begun), 1)
        texts = [tokenizer.decode([token for token in ids if token != end_of_text]) for ids in drawn]
        return [{"prompt": settings.sample_prompt, "text": text} for text in texts]

    def _anchors(self) -> dict[str, float]:
        """Return the anchors on this validation split, computed once and kept beside the shards."""
        cached = self.corpus.folder / "anchors.json"
        if cached.is_file():
            with suppress(ValueError):  # damaged; it costs no more than the time to have it anew
                return read_summary(cached)
        self.console.say("computing the anchors: n-grams and compressors on the same validation bytes (once a corpus)")
        found = anchors(
            self.corpus.raw_bytes("train", ANCHOR_TRAIN_BYTES),
            self.corpus.raw_bytes("validation"),
            lambda name: self.console.still(f"computing the anchors: {name}"),
        )
        write_summary(cached, found)
        return found

    # -----------------------------------------------------------------------------------------------------------------
    # The end.

    def results(self) -> dict[str, Any]:
        """Return the figures of the run as it stands."""
        latest = self.state.latest
        figures: dict[str, Any] = {**self.state.position(), **latest}
        if "train/tokens_per_second" in latest and self.state.seconds:
            figures["tokens_per_second"] = round(self.state.tokens / self.state.seconds, 1)
        if self.decode_tokens_per_second is not None:
            figures["decode_tokens_per_second"] = self.decode_tokens_per_second
        if self.state.best is not None:
            step, bits = self.state.best
            figures["best"] = {"step": step, "bits_per_byte": bits}
        if self.state.bad_steps:
            figures["bad_steps"] = self.state.bad_steps
        return {**figures, "anchors": self.anchors}

    def close(self) -> None:
        """Close what shows the run: the progress line, and the mirror, which reads summary.json.

        After a request to stop the mirror gets what is left of the seconds that the machine may leave us.
        """
        self.console.close()
        asked = self.request.at
        self.mirror.finish(None if asked is None else max(0.0, _STOP_SECONDS - (time.monotonic() - asked)))

    def report(self, folder: RunFolder, alone: bool = True) -> Iterator[str]:
        """Yield the closing lines: final figures; of a run alone also anchors, where it is, and what to type next."""
        results = self.results()
        if "validation/loss" in results:
            yield (
                f"validation  {results['validation/bits_per_byte']:.4f} bits per byte, "
                f"{results['validation/loss']:.4f} nats per token, over {self.corpus.validation.num_bytes:,} bytes"
            )
            if "validation/accuracy" in results:
                yield f"            {results['validation/accuracy']:.1%} of the answers right"
        if not alone:
            return
        if self.anchors:
            values = "  ".join(f"{name} {value:.3f}" for name, value in self.anchors.items())
            yield f"anchors     {values}  (bits per byte on the same bytes)"
            if self.evaluation.anchors:
                yield from (f"            {note}" for note in notes(self.corpus.train.num_bytes))
        yield f"run         {folder.path}"
        yield f'next        python -m atomiclm.generate {shlex.quote(str(folder.path))} --prompt "..."'
        yield f"            python -m atomiclm.compare {shlex.quote(str(folder.path.parent))}"


def _arm(folder: RunFolder) -> str | None:
    """Return the arm of the study that the run is a cell of, as far as its ledger says."""
    try:
        ledger = read_ledger(folder.path.absolute().parent)
    except UserError:  # the sweep says so itself; a run does not depend on it
        return None
    return ledger.arm_of(folder.run_id) if ledger else None


def _built(values: dict[str, Any], group: str, *arguments: Any) -> Any:
    """Build a group, give it what the run supplies where its node is partial, and name it in what it refuses."""
    try:
        built = build(values[group])
        return built(*arguments) if arguments else built
    except (ValueError, TypeError) as error:
        raise UserError(f"{group}: {error}") from error
