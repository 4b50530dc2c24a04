"""One optimizer step: accumulate the gradient of a batch, clip it, apply it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from atomiclm.data import Batch
from atomiclm.model import Loss
from atomiclm.user_error import UserError

LossFunction = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Loss]
"""(tokens, targets, mask, documents) of a micro-batch to its `Loss`; all (batch, time), the last two may be None."""


@dataclass(frozen=True)
class StepResult:
    """What one step gave.

    Attributes:
        loss: cross-entropy in nats for each counted target, over the whole batch, before the update.
        gradient_norm: before clipping.
        tokens: positions in the batch, whether they count or not.
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
    """The loss of a whole batch, for each of its counted targets, detached; `terms` is all that was added to it."""

    nats: Tensor
    terms: dict[str, Tensor]
    targets: int


class Diverged(RuntimeError):
    """The loss or the gradient is no longer finite."""


class Interrupted(Exception):
    """A stop was requested where work can be given up: between micro-batches, in a validation, in a sample."""


def accumulate(
    loss: LossFunction,
    batch: Batch,
    micro_batch_size: int | None,
    device: torch.device,
    stop_requested: Callable[[], bool] = lambda: False,
    after_survey: Callable[[], None] | None = None,
) -> MeanLoss:
    """Add the gradient of the mean loss of the whole batch, in pieces of `micro_batch_size` sequences.

    Sums are divided by the number of targets that count in the whole batch, not in the piece, and auxiliary losses are
    weighted by the piece's share of all tokens, so how a batch is cut changes nothing but the order of sums, and the
    random numbers that dropout draws.

    `after_survey` is given where the loss of a piece depends on the whole batch (`Decoder.needs_survey`). A batch of
    several pieces is then first run without gradients, with the random numbers of the pass to come, and it is called.

    Raises:
        Interrupted: a stop was requested between two pieces; gradients are left half done.
        UserError: no target of the batch counts.
    """
    targets = batch.targets.size if batch.mask is None else int(batch.mask.sum())
    if targets == 0:
        raise UserError("no target of the batch counts: its mask is False everywhere; give larger batches")
    nats = torch.zeros((), device=device)
    terms: dict[str, Tensor] = {}
    pieces = _pieces(batch, micro_batch_size or len(batch.inputs), device)
    if after_survey is not None and len(pieces) > 1:
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            for number, piece in enumerate(pieces):
                if number and stop_requested():
                    raise Interrupted
                loss(*piece)
        after_survey()
    for number, piece in enumerate(pieces):
        if number and stop_requested():
            raise Interrupted
        found = loss(*piece)
        share = piece[0].numel() / batch.inputs.size
        auxiliary = {name: mean * share for name, mean in found.auxiliary.items()}
        (found.total / targets + sum(auxiliary.values())).backward()
        nats += found.nats.detach() / targets
        for name, value in ({name: term / targets for name, term in found.terms.items()} | auxiliary).items():
            terms[name] = terms.get(name, torch.zeros((), device=device)) + value.detach()
    return MeanLoss(nats, terms, targets)


def _pieces(batch: Batch, size: int, device: torch.device) -> list[tuple[Tensor, Tensor, Tensor | None, Tensor | None]]:
    """Return what a loss function takes, for `size` sequences at a time."""

    def cut(array: npt.NDArray[Any]) -> tuple[Tensor, ...]:
        return torch.from_numpy(array).to(device).split(size)

    inputs, targets = cut(batch.inputs), cut(batch.targets)
    masks = repeat(None, len(inputs)) if batch.mask is None else cut(batch.mask)
    documents = repeat(None, len(inputs)) if batch.documents is None else cut(batch.documents)
    return list(zip(inputs, targets, masks, documents, strict=True))


def clip_gradient(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """Scale all gradients by min(1, limit / norm), where norm is their joint Euclidean norm; return the norm.

    Where there is no gradient the norm is 0. Where it is not finite the gradients are left as they are: scaled by it,
    one bad element would spoil all of them, and nobody could say which it was.

    Source: Pascanu, Mikolov and Bengio (2012), arXiv:1211.5063, algorithm 1.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    if limit is not None:
        scale = torch.where(norm.isfinite(), (limit / (norm + 1e-6)).clamp(max=1.0), 1.0)
        for gradient in gradients:
            gradient.mul_(scale)
    return norm
