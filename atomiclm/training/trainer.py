"""The training loop, and the budget that it spends."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from torch.optim import Optimizer

from atomiclm.data import Batch, Dataset, Order
from atomiclm.model import Decoder, NextToken, Objective
from atomiclm.optim.schedules import Schedule
from atomiclm.training.bad_steps import BadStep, BadStepPolicy, Recovery, SpikeDetector, StopAtBadStep
from atomiclm.training.hooks import Hook
from atomiclm.training.runtime import Precision, Runtime
from atomiclm.training.state import TrainState, Unfinished, random_state, restore_random_state
from atomiclm.training.step import (
    Averaging,
    Diverged,
    ExponentialAverage,
    Interrupted,
    LossFunction,
    StepResult,
    accumulate,
    clip_gradient,
)


@dataclass(frozen=True)
class Budget:
    """Limits on a run. At least one must be given; the first one reached ends the run.

    `max_seconds` counts time spent in training steps only, so it does not matter how closely the run was watched.
    """

    max_steps: int | None = None
    max_tokens: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        limits = {"max_steps": self.max_steps, "max_tokens": self.max_tokens, "max_seconds": self.max_seconds}
        for name, limit in limits.items():
            if limit is not None and not limit > 0:
                raise ValueError(f"{name}={limit} must be positive; null is no limit")
        if all(limit is None for limit in limits.values()):
            raise ValueError("max_tokens=null: no limit; give one of max_steps, max_tokens, max_seconds")

    def steps(self, tokens_per_step: int) -> int | None:
        """Return the number of steps the budget in steps and tokens allows (the last one may pass `max_tokens`)."""
        from_tokens = math.ceil(self.max_tokens / tokens_per_step) if self.max_tokens else None
        return min((count for count in (self.max_steps, from_tokens) if count is not None), default=None)

    def progress(self, step: int, seconds: float, tokens_per_step: int) -> float:
        """Return the fraction of the budget that is used: 0 at the start, 1 or more when the run is over."""
        used = ((step, self.steps(tokens_per_step)), (seconds, self.max_seconds))
        return max(spent / limit for spent, limit in used if limit)

    def horizon_steps(self, step: int, seconds: float, tokens_per_step: int) -> float:
        """Return how many steps the whole run takes, for the schedule: exact, or estimated from the pace so far."""
        steps = float(self.steps(tokens_per_step) or math.inf)
        return min(steps, step * self.max_seconds / seconds) if self.max_seconds and step and seconds else steps


class Trainer:
    """The budget of a run, its batches, and the loop that spends it.

    Args:
        batch_size: sequences a step.
        order: which part of the corpus each sequence is. Read by whoever makes the batches.
        max_steps: limit on optimizer steps; null = none.
        max_tokens: limit on training tokens; null = none.
        max_seconds: limit on seconds spent in training steps; null = none.
        gradient_clip: largest joint norm of the gradient; null = no clipping.
        precision: of matrix products; auto = bfloat16 where the hardware has it, else float32.
        objective: what is minimised; null = next-token cross-entropy and what the model adds to it.
        separate_documents: attention and positions stay within documents, in training and in validation. Read by
            whoever makes the batches.
        weight_average: an average of the weights that the run is judged by; null = the last weights.
        bad_steps: what is done about a loss or a gradient that is not finite; null = the run stops, it has diverged.
        spikes: what a spike of the loss is, and whether it is a bad step too; null = no detection.
        branch_from: a run (its id, a part of it, or its folder) or a checkpoint in one, whose state this run continues
            from; null = from the start. Read by whoever makes the state.
        init_from: a run, a checkpoint in one, or a folder that transformers' save_pretrained wrote, whose weights this
            run starts with; null = weights that model.init draws. Read by whoever makes the model.
        init_sha256: of those weights; null = whatever they are. What they were found to be stands here in config.yaml.

    Raises:
        ValueError: no limit is given, or a setting is out of range.
    """

    def __init__(
        self,
        batch_size: int,
        order: Order,
        max_steps: int | None = None,
        max_tokens: int | None = None,
        max_seconds: float | None = None,
        gradient_clip: float | None = 1.0,
        precision: Precision = "auto",
        objective: Objective | None = None,
        separate_documents: bool = False,
        weight_average: ExponentialAverage | None = None,
        bad_steps: BadStepPolicy | None = None,
        spikes: SpikeDetector | None = None,
        branch_from: str | None = None,
        init_from: str | None = None,
        init_sha256: str | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be positive; give at least 1 sequence a step")
        if gradient_clip is not None and not gradient_clip > 0:
            raise ValueError(f"gradient_clip={gradient_clip} must be positive; give a norm such as 1, or null for none")
        if branch_from == "":
            raise ValueError("branch_from='' must name a run or a checkpoint in one; null is a run from the start")
        if init_from == "":
            raise ValueError("init_from='' must name a run, a checkpoint in one or a folder; null draws the weights")
        if init_from is not None and branch_from is not None:
            raise ValueError(
                "init_from: takes weights alone and branch_from the whole state of training, so a run has one of them; "
                "set the other to null"
            )
        if init_sha256 is not None and init_from is None:
            raise ValueError("init_sha256: is of the weights of init_from, which is null; leave it out")
        self.batch_size = batch_size
        self.order = order
        self.budget = Budget(max_steps, max_tokens, max_seconds)
        self.gradient_clip = gradient_clip
        self.precision: Precision = precision
        self.objective: Objective = objective or NextToken()
        self.separate_documents = separate_documents
        self.weight_average = weight_average
        self.bad_steps: BadStepPolicy = bad_steps or StopAtBadStep()
        self.spikes = spikes

    def fit(
        self,
        state: TrainState,
        batches: Dataset,
        schedule: Schedule,
        runtime: Runtime | None = None,
        hooks: Sequence[Hook] = (),
        stop_requested: Callable[[], bool] = lambda: False,
        recovery: Recovery | None = None,
    ) -> TrainState:
        """Train until the budget is spent or a stop is requested, and return the state (changed in place).

        A run stopped at any moment and continued takes the same steps as one never stopped, unless its budget is in
        seconds, whose horizon is an estimate. A hook that a stop cuts short (`Interrupted`) is called again then.

        Raises:
            Diverged: a bad step, and the policy is to stop.
            ValueError: see `refuse_two_averages`; a batch in which no target counts; a rewind without a `recovery`.
        """
        runtime = runtime or Runtime()
        model = state.model
        assert isinstance(model, Decoder)
        self.refuse_two_averages(state.optimizer)
        if self.weight_average is None:
            state.averages, state.averaged_steps = {}, 0  # of another trainer
        objective = self.objective
        forward = self.forward(lambda *micro_batch: objective(model, *micro_batch), runtime)
        loss = state.processes.training(model, forward)
        tokens_per_step = self.batch_size * batches.context_length
        batch_at = lru_cache(maxsize=1)(lambda index: batches.batch(index, self.batch_size))
        model.train()
        with runtime.training(model):
            if state.unfinished is not None and not stop_requested():
                left, state.unfinished = state.unfinished, None
                _call_hooks(hooks, state, left.result, left.progress, left.hook)
            while not stop_requested():
                progress = self.budget.progress(state.step, state.seconds, tokens_per_step)
                if progress >= 1:
                    break
                horizon = self.budget.horizon_steps(state.step, state.seconds, tokens_per_step)
                multiplier = schedule.multiplier(state.step, horizon)
                for group in state.optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * multiplier
                try:
                    result = self._step(state, batch_at, loss, runtime, progress, stop_requested)
                except Interrupted:
                    break
                except BadStep as bad:
                    self._recover(state, bad, recovery)
                    continue
                progress = self.budget.progress(state.step, state.seconds, tokens_per_step)
                _call_hooks(hooks, state, result, progress)
        return state

    def _step(
        self,
        state: TrainState,
        batch_at: Callable[[int], Batch],
        loss: LossFunction,
        runtime: Runtime,
        progress: float,
        stop_requested: Callable[[], bool],
    ) -> StepResult:
        """Take one optimizer step; or raise BadStep or Interrupted, and leave all as it was.

        An accelerator is waited for once: whether the step is bad has to be known before the update. Meanwhile the next
        batch is made. The update runs while what comes after it is prepared.
        """
        model, optimizer, started = cast(Decoder, state.model), state.optimizer, time.perf_counter()
        processes = state.processes
        while state.batch in state.skipped:
            state.batch += 1
        batch = batch_at(state.batch)
        spike_limit = self.spikes.limit(state.recent_losses) if self.spikes else math.inf

        random = random_state()
        try:

            def after_survey() -> None:
                processes.add_up(*counts)
                model.after_survey()

            counts, survey = [*model.step_counts()], after_survey if model.needs_survey else None
            size, device = runtime.micro_batch_size, runtime.device
            mean = accumulate(loss, batch, size, device, stop_requested, survey, processes)
            gradient_norm = clip_gradient(processes.collect_gradients(model), self.gradient_clip, processes)
            if state.step + 1 < (self.budget.steps(batch.inputs.size) or math.inf):
                batch_at(state.batch + 1)
            nats, norm, *values = runtime.read(mean.nats, gradient_norm, *mean.terms.values())
            terms = dict(zip(mean.terms, values, strict=True))
            reason = ""
            if not all(map(math.isfinite, (nats, *terms.values()))):
                reason = "the loss is not finite"
            elif not math.isfinite(norm):
                reason = "the gradient is not finite"
            elif self.spikes is not None and self.spikes.is_bad and nats > spike_limit:
                reason = f"the loss is a spike, beyond {spike_limit:.4g}"
            if reason:
                gradients = processes.bad_gradients(model) if math.isfinite(nats) else []
                raise BadStep(reason, batch, state.batch, nats, norm, gradients)
        except (BadStep, Interrupted):
            optimizer.zero_grad(set_to_none=True)
            model.zero_grad(set_to_none=True)
            model.discard_step()
            restore_random_state(random)
            raise

        optimizer.step()
        processes.publish(model)
        optimizer.zero_grad(set_to_none=True)
        processes.add_up(*counts)
        model.after_step()
        if self.weight_average is not None:
            state.averaged_steps += 1
            self.weight_average.update(state.averages, model, state.averaged_steps)
        if self.spikes is not None:
            self.spikes.remember(state.recent_losses, nats)
        # Agreed on, since a budget may be in seconds; of no other figure does anything depend on the clock.
        seconds, tokens = processes.greatest(time.perf_counter() - started), batch.inputs.size
        state.advance(tokens, seconds, tokens * model.training_flops_per_token(batch.inputs.shape[1]))
        exceeded = spike_limit if nats > spike_limit else None
        return StepResult(nats, norm, tokens, mean.targets, seconds, progress, terms, exceeded)

    def _recover(self, state: TrainState, bad: BadStep, recovery: Recovery | None) -> None:
        """Stop, skip the batch or rewind, as the policy says; none costs budget."""
        count = state.bad_steps + 1
        action = self.bad_steps.action(count)
        if recovery is not None:
            recovery.record(state, bad, action)
        if action == "stop":
            earlier = f", after {count - 1} bad steps before" if count > 1 else ""
            raise Diverged(
                f"diverged at step {state.step}{earlier}: {bad}; a lower learning rate or a longer warmup may help"
            )
        if action == "skip":
            state.batch = bad.index + 1
        else:
            if recovery is None:
                raise ValueError("bad_steps: RewindBadSteps needs checkpoints to rewind to; give fit a recovery")
            skipped = sorted({*state.skipped, bad.index})
            recovery.rewind(state)
            state.skipped = skipped
        state.bad_steps = count

    def refuse_two_averages(self, optimizer: Optimizer) -> None:
        """Raise ValueError where the optimizer averages the weights itself and the trainer is to average them too."""
        if self.weight_average is not None and isinstance(optimizer, Averaging):
            name = type(optimizer).__name__
            raise ValueError(f"weight_average: {name} averages the weights itself; give null, or another optimizer")

    def forward[**P, R](self, function: Callable[P, R], runtime: Runtime) -> Callable[P, R]:
        """Return `function`, such as a model, in the precision of the run."""
        dtype = runtime.dtype(self.precision)

        def forward(*args: P.args, **kwargs: P.kwargs) -> R:
            with runtime.autocast(dtype):
                return function(*args, **kwargs)

        return forward


def _call_hooks(hooks: Sequence[Hook], state: TrainState, result: StepResult, progress: float, first: int = 0) -> None:
    """Call the hooks from the `first` on; one that is interrupted is noted in the state."""
    for index, hook in enumerate(hooks[first:], start=first):
        try:
            hook.after_step(state, result, progress)
        except Interrupted:
            state.unfinished = Unfinished(result, progress, index)
            return
