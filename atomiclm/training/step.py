"""One optimizer step: accumulate the gradient of a batch, clip it, apply it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atomiclm.model import cross_entropy


@dataclass(frozen=True)
class StepResult:
    """What one step gave. `loss` in nats per token over the whole batch, before the update; times in seconds."""

    loss: float
    gradient_norm: float
    tokens: int
    seconds: float
    progress_before: float


class Diverged(RuntimeError):
    """The loss or the gradient is no longer a number."""


def accumulate(
    forward: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor, micro_batch_size: int | None
) -> Tensor:
    """Add the gradient of the mean loss of the whole batch, in pieces of `micro_batch_size` sequences.

    Each piece is weighted by its share of the batch's tokens, not by its share of the pieces, so how a batch is cut
    changes nothing but the order of sums.

    Returns:
        The mean loss over the batch's tokens, in nats, detached.
    """
    total = torch.zeros((), device=inputs.device)
    size = micro_batch_size or len(inputs)
    for piece, wanted in zip(inputs.split(size), targets.split(size), strict=True):
        loss = cross_entropy(forward(piece), wanted, reduction="sum") / targets.numel()
        loss.backward()
        total += loss.detach()
    return total


def clip_gradient(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """Scale all gradients by min(1, limit / norm), where norm is their joint Euclidean norm; return the norm.

    Source: Pascanu, Mikolov and Bengio (2012), arXiv:1211.5063, algorithm 1.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    if limit is not None:
        scale = (limit / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale)
    return norm
