"""The training loop."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn

from atomiclm.data.order import WindowOrder
from atomiclm.optim.schedule import Schedule
from atomiclm.training.budget import Budget
from atomiclm.training.hooks import Hook
from atomiclm.training.rules import check_trainer
from atomiclm.training.runtime import Precision, Runtime
from atomiclm.training.state import TrainState
from atomiclm.training.step import Diverged, StepResult, accumulate, clip_gradient


class Batches(Protocol):
    """Training data as a pure function of the step, so that resuming needs no data position but the step itself."""

    context_length: int

    def batch(self, step: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs and targets, each (batch, time) int64."""


class Trainer:
    """The budget of a run, its batches, and the loop that spends it.

    Args:
        batch_size: sequences a step.
        order: which window of the corpus each sequence is.
        max_steps: limit on optimizer steps; null = none.
        max_tokens: limit on training tokens; null = none.
        max_seconds: limit on seconds spent in training steps; null = none.
        gradient_clip: largest joint norm of the gradient; null = no clipping.
        precision: of matrix products; auto = bfloat16 where the hardware has it, else float32.

    Raises:
        ValueError: no limit is given, or one is not positive.
    """

    def __init__(
        self,
        batch_size: int,
        order: WindowOrder,
        max_steps: int | None = None,
        max_tokens: int | None = None,
        max_seconds: float | None = None,
        gradient_clip: float | None = 1.0,
        precision: Precision = "auto",
    ) -> None:
        settings = {"batch_size": batch_size, "max_steps": max_steps, "max_tokens": max_tokens,
                    "max_seconds": max_seconds, "gradient_clip": gradient_clip}  # fmt: skip
        for argument, message in check_trainer(settings):
            raise ValueError(f"{argument}: {message}")
        self.batch_size = batch_size
        self.order = order
        self.budget = Budget(max_steps, max_tokens, max_seconds)
        self.gradient_clip = gradient_clip
        self.precision: Precision = precision

    def fit(
        self,
        state: TrainState,
        batches: Batches,
        schedule: Schedule,
        runtime: Runtime | None = None,
        hooks: Sequence[Hook] = (),
        forward: Callable[[torch.Tensor], torch.Tensor] | None = None,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> TrainState:
        """Train until the budget is spent or a stop is requested, and return the state (changed in place).

        A run stopped after any step and continued from its state takes the same steps as one never stopped, unless its
        budget is in seconds, whose horizon is an estimate. `forward`
        is what `Trainer.forward` gave, where the caller wants validation to go through the same compiled model.

        Raises:
            Diverged: the loss or the gradient norm is not finite.
        """
        runtime = runtime or Runtime()
        forward = forward or self.forward(state.model, runtime)
        tokens_per_step = self.batch_size * batches.context_length
        flops_per_token = state.model.training_flops_per_token(batches.context_length)  # type: ignore[operator]
        state.model.train()
        progress = self.budget.progress(state.step, state.seconds, tokens_per_step)
        while progress < 1 and not stop_requested():
            started = time.perf_counter()
            horizon = self.budget.horizon_steps(state.step, state.seconds, tokens_per_step)
            multiplier = schedule.multiplier(state.step, horizon)
            for group in state.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * multiplier
            arrays = batches.batch(state.step, self.batch_size)
            inputs, targets = (torch.from_numpy(array).to(runtime.device) for array in arrays)
            loss = accumulate(forward, inputs, targets, runtime.micro_batch_size)
            norm = clip_gradient(state.model.parameters(), self.gradient_clip)
            loss_value, norm_value = float(loss), float(norm)
            if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
                raise Diverged(
                    f"diverged at step {state.step}: loss {loss_value:.4g}, gradient norm {norm_value:.4g}; "
                    "a lower learning rate or a longer warmup may help"
                )
            state.optimizer.step()
            state.optimizer.zero_grad(set_to_none=True)
            runtime.synchronize()
            seconds = time.perf_counter() - started
            state.step += 1
            state.tokens += inputs.numel()
            state.seconds += seconds
            state.flops += inputs.numel() * flops_per_token
            result = StepResult(loss_value, norm_value, inputs.numel(), seconds, progress)
            progress = self.budget.progress(state.step, state.seconds, tokens_per_step)
            for hook in hooks:
                hook.after_step(state, result, progress)
        return state

    def forward(self, model: nn.Module, runtime: Runtime) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return tokens -> logits in the precision of the run, compiled if the runtime says so."""
        call, dtype = runtime.forward(model), runtime.dtype(self.precision)

        def forward(tokens: torch.Tensor) -> torch.Tensor:
            with runtime.autocast(dtype):
                return call(tokens)

        return forward
