"""The parts of one step: the gradient, accumulated over micro-batches and clipped; the average of the weights after it.

`Trainer._step` puts them together.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt
import torch
from torch import Tensor, nn

from atomiclm.cli import UserError
from atomiclm.data import Batch
from atomiclm.model import Loss
from atomiclm.training.processes import Processes, local

LossFunction = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Loss]
"""(tokens, targets, mask, documents) of a micro-batch to its `Loss`; all (batch, time), the last two may be None."""


@dataclass(frozen=True)
class StepResult:
    """What one step gave."""

    loss: float  # cross-entropy in nats for each counted target, over the whole batch, before the update
    gradient_norm: float  # before clipping
    tokens: int  # positions in the batch, whether they count or not
    targets: int  # how many targets counted
    seconds: float
    progress_before: float  # fraction of the budget used before it
    terms: dict[str, float] = field(default_factory=dict)  # what was added to the loss, for each counted target
    spike_limit: float | None = None  # the limit that the loss exceeds, where it is a spike


@dataclass(frozen=True)
class MeanLoss:
    """The loss of a batch for each of its counted targets, detached; `terms` is what was added to it, by name."""

    nats: Tensor
    terms: dict[str, Tensor]
    targets: int


class Diverged(RuntimeError):
    """The run cannot go on: a bad step that the policy does not forgive, or weights that are not finite."""


class Interrupted(Exception):
    """A stop was requested where work can be given up: between micro-batches, in a validation, in a sample."""


def accumulate(
    loss: LossFunction,
    batch: Batch,
    micro_batch_size: int | None,
    device: torch.device,
    stop_requested: Callable[[], bool] = lambda: False,
    after_survey: Callable[[], None] | None = None,
    processes: Processes | None = None,
) -> MeanLoss:
    """Add the gradient of the mean loss of the whole batch, in micro-batches of `micro_batch_size` sequences.

    Sums are divided by the counted targets of the whole batch, and auxiliary losses weighted by the micro-batch's share
    of all tokens, so how a batch is cut changes only the order of sums, and the random numbers that dropout draws. Each
    of several `processes` takes its part of the batch.

    `after_survey` is given where the loss of a micro-batch depends on the whole batch (`Decoder.needs_survey`). A batch
    of several is then first run without gradients, with the random numbers of the pass to come, and it is called.

    Raises:
        Interrupted: a stop was requested between two micro-batches; gradients are left half done.
        UserError: no target of the batch counts.
    """
    targets = batch.targets.size if batch.mask is None else int(batch.mask.sum())
    if targets == 0:
        raise UserError("no target of the batch counts: its mask is False everywhere; give larger batches")
    processes = processes or Processes()
    part = processes.part(batch)
    micro_batches = _split(part, micro_batch_size or len(part.inputs), device)

    def losses() -> Iterator[tuple[Loss, float]]:
        """The loss of each micro-batch, and its share of the batch's tokens."""
        for number, micro_batch in enumerate(micro_batches):
            if number and stop_requested():
                raise Interrupted
            processes.accumulate(is_last=number + 1 == len(micro_batches))
            yield loss(*micro_batch), micro_batch[0].numel() / batch.inputs.size

    if after_survey is not None and len(micro_batches) * processes.size > 1:
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            for _ in losses():
                pass
        after_survey()
    nats = torch.zeros((), device=device)
    terms: dict[str, Tensor] = {}
    for found, share in losses():
        auxiliary = {name: mean * share for name, mean in found.auxiliary.items()}
        mean = found.total / targets + sum(auxiliary.values())
        (mean * processes.size).backward()  # of their gradients torch takes the mean
        nats += found.nats.detach() / targets
        for name, value in ({name: term / targets for name, term in found.terms.items()} | auxiliary).items():
            terms[name] = terms.get(name, torch.zeros((), device=device)) + value.detach()
    processes.add_up(nats, *terms.values())
    return MeanLoss(nats, terms, targets)


def _split(batch: Batch, size: int, device: torch.device) -> list[tuple[Tensor, Tensor, Tensor | None, Tensor | None]]:
    """Return what a loss function takes, for `size` sequences at a time."""

    def cut(array: npt.NDArray[Any] | None) -> Iterable[Any]:
        if array is None:
            return repeat(None)
        tensor = torch.from_numpy(array)
        if device.type == "cuda":  # a copy from other memory would wait for the device
            return tensor.pin_memory().to(device, non_blocking=True).split(size)
        return tensor.to(device).split(size)

    columns = [cut(array) for array in (batch.inputs, batch.targets, batch.mask, batch.documents)]
    return list(zip(*columns, strict=False))  # the first is never None, and ends it


def clip_gradient(gradients: list[Tensor], limit: float | None, processes: Processes | None = None) -> Tensor:
    """Scale all gradients by min(1, limit / norm), where norm is their joint Euclidean norm; return the norm.

    Where it is not finite the gradients are left as they are, so that it can be said which element is bad. Of several
    `processes` that share the model the norm is that of all.

    Source: Pascanu, Mikolov and Bengio (2012), arXiv:1211.5063, algorithm 1.
    """
    if not gradients:
        return torch.zeros(())
    norm = (processes or Processes()).joint_norm(torch.stack(torch._foreach_norm(gradients)))
    if limit is not None:
        scale = torch.where(norm.isfinite(), (limit / (norm + 1e-6)).clamp(max=1.0), 1.0)
        torch._foreach_mul_(gradients, scale)
    return norm


class ExponentialAverage:
    """An exponential moving average of the weights, free of the bias of its start.

    After step t (from 1) of the average, with decay b,

        a <- a + (w - a) (1 - b) / (1 - b^t)        =  (1 - b) / (1 - b^t)  sum over i of  b^(t-i) w_i

    so no initial value has a share in it (as in Adam's moments: Kingma and Ba 2014, arXiv:1412.6980, section 3).
    Buffers are not averaged.

    Args:
        decay: b; an average looks back about 1 / (1 - b) steps.

    Raises:
        ValueError: decay is not in [0, 1).
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay={decay} must be in [0, 1); 0.999 looks back over about 1000 steps")
        self.decay = decay

    def cautions(self, steps: int) -> Iterator[tuple[str, str]]:
        """Yield (argument, message) for what is doubtful in a run of `steps` steps."""
        span = 1.0 / (1.0 - self.decay)
        if span > steps:
            yield (
                "decay",
                f"{self.decay:g} averages over about {span:,.0f} steps and the run has {steps:,}, so the untrained "
                f"weights still count; {max(0.0, 1.0 - 10.0 / steps):.3g} averages over a tenth of the run",
            )

    @torch.no_grad()
    def update(self, averages: dict[str, Tensor], model: nn.Module, step: int) -> None:
        """Take the weights after the average's step `step` (from 1) into `averages`, by name, in place."""
        share = (1.0 - self.decay) / (1.0 - self.decay**step)
        for name, parameter in model.named_parameters():
            if step == 1:
                averages[name] = local(parameter.detach()).clone()
            else:
                averages[name].lerp_(local(parameter), share)


@runtime_checkable
class Averaging(Protocol):
    """An optimizer that averages by itself, and trains the model at other weights than it is to be judged by."""

    def averaged_weights(self) -> dict[str, Tensor]:
        """Return the weights to judge the model by, by name, of those parameters where they differ."""
