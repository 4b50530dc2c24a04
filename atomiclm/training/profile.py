"""Where the time of a few training steps goes: a table by part, and torch's trace of them."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from atomiclm.data import Dataset
from atomiclm.model import Decoder
from atomiclm.training.hooks import Hook
from atomiclm.training.runtime import Runtime
from atomiclm.training.state import TrainState
from atomiclm.training.step import StepResult

WARMUP_STEPS = 3

_PARTS = (
    "data", "embedding", "blocks", "attention", "feed-forward", "norms", "rest of the forward pass", "head and loss",
    "backward", "optimizer", "logging", "validation", "samples", "checkpoint", "waiting for the device",
    "rest of the loop",
)  # fmt: skip
_HOOKS = {"LogMetrics": "logging", "Validate": "validation", "Sample": "samples", "SaveCheckpoints": "checkpoint"}


class Profile:
    """A hook, to be called last: profiles `steps` steps after the first `WARMUP_STEPS`, writes `path`, says the table.

    Each moment of those steps belongs to one part, so shares add up to 1; on an accelerator the device is waited for
    where a part begins or ends, and the steps are slower by that. Nothing that is computed changes. Before and after
    them nothing is instrumented. Compiled blocks are one part; what is recomputed counts as backward pass.
    """

    def __init__(
        self,
        steps: int,
        path: Path,
        say: Callable[[str], None],
        batches: Dataset,
        runtime: Runtime,
        hooks: Sequence[Hook],
    ) -> None:
        self._steps, self._path, self._say = steps, path, say
        self._batches, self._runtime, self._hooks = batches, runtime, hooks
        self._seen = 0
        self._open = ExitStack()
        self._seconds: dict[str, float] = {}
        self._parts: list[str] = []

    def after_step(self, state: TrainState, result: StepResult, progress: float) -> None:
        self._seen += 1
        if self._parts:
            if self._seen == WARMUP_STEPS + self._steps or progress >= 1:
                self._end()
        elif self._seen <= WARMUP_STEPS and progress >= 1:
            left_out = f"the first {WARMUP_STEPS} steps are not profiled, and there were {self._seen}"
            self._say(f"runtime.profile={self._steps}: {left_out}; give the run a larger budget")
        elif self._seen == WARMUP_STEPS:
            self._begin(state)

    def _begin(self, state: TrainState) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or torch's profiler prints that it begins and ends
        model, optimizer = state.model, state.optimizer
        assert isinstance(model, Decoder)
        self._thread = threading.get_ident()
        activities = [ProfilerActivity.CPU]
        if self._runtime.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._torch = self._open.enter_context(profile(activities=activities))
        self._replace(self._batches, "batch", "data")
        self._replace(optimizer, "step", "optimizer")
        self._replace(self._runtime, "read", "waiting for the device")
        for hook in self._hooks:
            self._replace(hook, "after_step", _HOOKS[type(hook).__name__])
        backward: Callable[..., None] = torch.Tensor.backward

        def timed_backward(tensor: torch.Tensor, *arguments: Any, **settings: Any) -> None:
            with self._part("backward"):
                backward(tensor, *arguments, **settings)
            self._enter("rest of the loop", instead=True)

        torch.Tensor.backward = timed_backward  # type: ignore[method-assign, assignment]
        self._open.callback(setattr, torch.Tensor, "backward", backward)
        self._instrument(model)
        self._parts, self._since = ["rest of the loop"], time.perf_counter()

    def _instrument(self, model: Decoder) -> None:
        """Forward hooks on the components, and what follows the decoder's features counts as head and loss."""
        components: dict[nn.Module, str] = {model.embedding: "embedding", model.norm: "norms"}
        for block in model.blocks:
            if self._runtime.compile:  # what is compiled is not divided
                components[block] = "blocks"
                continue
            for name, child in block.named_children():
                part = {"attention": "attention", "feedforward": "feed-forward"}.get(name)
                components[child] = part or ("norms" if "norm" in name else "rest of the forward pass")
        for module, part in components.items():
            scopes: list[Any] = []

            def enter(module: nn.Module, inputs: Any, part: str = part, scopes: list[Any] = scopes) -> None:
                # Recomputed within the backward pass, a block may be left in its middle, and this scope never.
                scopes.append(nullcontext() if "backward" in self._parts else self._part(part))
                scopes[-1].__enter__()

            def leave(module: nn.Module, inputs: Any, output: Any, scopes: list[Any] = scopes) -> None:
                scopes.pop().__exit__(None, None, None)

            self._open.callback(module.register_forward_pre_hook(enter).remove)
            self._open.callback(module.register_forward_hook(leave).remove)
        self._replace(model, "predictions", "rest of the forward pass", then="head and loss")

    def _replace(self, owner: Any, name: str, part: str, then: str | None = None) -> None:
        """Count calls of a method to `part`, and what follows the call to `then`, until the backward pass."""
        method = getattr(owner, name)

        def timed(*arguments: Any, **settings: Any) -> Any:
            with self._part(part):
                returned = method(*arguments, **settings)
            if then is not None:
                self._enter(then, instead=True)
            return returned

        own = vars(owner).get(name)
        vars(owner)[name] = timed
        self._open.callback(vars(owner).pop, name) if own is None else self._open.callback(setattr, owner, name, own)

    @contextmanager
    def _part(self, part: str) -> Iterator[None]:
        """Count the time inside to `part`, and to none around it; of another thread, and inside a hook, nothing is."""
        with record_function(part):
            is_training = self._parts and self._parts[-1] not in _HOOKS.values()  # and no validation, say
            if threading.get_ident() != self._thread or not is_training:
                yield
                return
            self._enter(part)
            try:
                yield
            finally:
                self._lap()
                self._parts.pop()

    def _enter(self, part: str, instead: bool = False) -> None:
        self._lap()
        if instead:
            self._parts.pop()
        self._parts.append(part)

    def _lap(self) -> None:
        if self._runtime.device.type != "cpu":
            type(self._runtime).synchronize(self._runtime)
        now = time.perf_counter()
        self._seconds[self._parts[-1]] = self._seconds.get(self._parts[-1], 0.0) + now - self._since
        self._since = now

    def _end(self) -> None:
        self._lap()
        steps = self._seen - WARMUP_STEPS
        self._parts = []
        self._open.close()
        self._torch.export_chrome_trace(str(self._path))
        total = sum(self._seconds.values())
        self._say(f"profile of {steps} steps, {1000 * total / steps:.1f} ms each")
        for part in sorted(self._seconds, key=_PARTS.index):
            seconds = self._seconds[part]
            self._say(f"  {part:26} {1000 * seconds / steps:9.2f} ms  {seconds / total:6.1%}")
        self._say(f"  trace in {self._path}: open it at https://ui.perfetto.dev")

    def close(self) -> None:
        """Take everything off again, where the run ends before the last of the steps."""
        self._open.close()
