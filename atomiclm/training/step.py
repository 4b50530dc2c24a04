"""One optimizer step: accumulate the gradient of a batch, clip it, apply it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from atomiclm.data import Batch
from atomiclm.model import Loss

LossFunction = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Loss]
"""(tokens, targets, mask, documents) of a micro-batch to its `Loss`; all (batch, time), the last two may be None."""


@dataclass(frozen=True)
class StepResult:
    """What one step gave.

    Attributes:
        loss: cross-entropy in nats for each counted target, over the whole batch, before the update.
        gradient_norm: before clipping.
        tokens: places in the batch, whether they count or not.
        targets: how many targets counted.
        seconds: that the step took.
        progress_before: fraction of the budget used before it.
        terms: what was added to the loss, by name, for each counted target.
        spike_limit: where the loss is a spike, above what it is one; else None.
    """

    loss: float
    gradient_norm: float
    tokens: int
    targets: int
    seconds: float
    progress_before: float
    terms: dict[str, float] = field(default_factory=dict)
    spike_limit: float | None = None


@dataclass(frozen=True)
class MeanLoss:
    """The loss of a whole batch, for each of its counted targets, detached; `terms` as in `Loss`, the same way."""

    nats: Tensor
    terms: dict[str, Tensor]
    targets: int


class Diverged(RuntimeError):
    """The loss or the gradient is no longer a number."""


class Interrupted(Exception):
    """A stop was requested where work can be given up: between micro-batches, in a validation, in a sample."""


def accumulate(
    loss: LossFunction,
    batch: Batch,
    micro_batch_size: int | None,
    device: torch.device,
    stop_requested: Callable[[], bool] = lambda: False,
) -> MeanLoss:
    """Add the gradient of the mean loss of the whole batch, in pieces of `micro_batch_size` sequences.

    Sums are divided by the number of targets that count in the whole batch, not in the piece, so how a batch is cut
    changes nothing but the order of sums.

    Raises:
        Interrupted: a stop was requested between two pieces; gradients are left half done.
        ValueError: no target of the batch counts.
    """
    targets = batch.targets.size if batch.mask is None else int(batch.mask.sum())
    if targets == 0:
        raise ValueError("no target of the batch counts: its mask is False everywhere; give larger batches")
    size = micro_batch_size or len(batch.inputs)
    arrays = (batch.inputs, batch.targets, batch.mask, batch.documents)
    tensors = [None if array is None else torch.from_numpy(array).to(device) for array in arrays]
    nats = torch.zeros((), device=device)
    terms: dict[str, Tensor] = {}
    for first in range(0, len(batch.inputs), size):
        if first and stop_requested():
            raise Interrupted
        tokens, wanted, mask, documents = (None if t is None else t[first : first + size] for t in tensors)
        assert tokens is not None and wanted is not None
        found = loss(tokens, wanted, mask, documents)
        (found.total / targets).backward()
        nats += found.nats.detach() / targets
        for name, value in found.terms.items():
            terms[name] = terms.get(name, torch.zeros((), device=device)) + value.detach() / targets
    return MeanLoss(nats, terms, targets)


def clip_gradient(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """Scale all gradients by min(1, limit / norm), where norm is their joint Euclidean norm; return the norm.

    Where the norm is no number they are left as they are: scaled by it, one bad element would spoil all of them, and
    nobody could say which it was.

    Source: Pascanu, Mikolov and Bengio (2012), arXiv:1211.5063, algorithm 1.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    if limit is not None:
        scale = torch.where(norm.isfinite(), (limit / (norm + 1e-6)).clamp(max=1.0), 1.0)
        for gradient in gradients:
            gradient.mul_(scale)
    return norm
