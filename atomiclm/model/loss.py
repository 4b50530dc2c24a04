"""Cross-entropy, and the penalty on softmax's denominator: from all logits at once, or from those of a few tokens."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

# What F.cross_entropy skips; no token has this id.
_SKIP = -100


def cross_entropy(
    logits: Tensor, targets: Tensor, mask: Tensor | None = None, reduction: Literal["sum", "none"] = "sum"
) -> Tensor:
    """``-log softmax(logits)[target]`` in nats, in float32 or wider, summed over the targets that count.

    logits    (..., vocab_size), any floating dtype
    targets   (...) int64
    mask      (...) bool, True where a target counts; None counts all
    reduction   "sum": a scalar. "none": (...), 0 where masked

    There is no mean: divide by the number of targets of the whole step, or micro-batches with few targets weigh too
    much.
    """
    if mask is not None:
        targets = targets.masked_fill(~mask, _SKIP)
    nats = F.cross_entropy(_wide(logits).flatten(0, -2), targets.flatten(), ignore_index=_SKIP, reduction=reduction)
    return nats.view(targets.shape) if reduction == "none" else nats


def summed_loss(logits: Tensor, targets: Tensor, mask: Tensor | None, z_loss: float) -> tuple[Tensor, Tensor]:
    """Total to differentiate, and its cross-entropy in nats, detached: both summed over the targets that count.

    logits (..., vocab_size), targets and mask (...), mask of bool; computed in float32 or wider. z_loss weighs
    ``(log sum_v exp(logit_v))^2`` (Chowdhery et al. 2022, PaLM, arXiv 2204.02311, section 5).
    """
    nats = cross_entropy(logits, targets, mask)
    if not z_loss:
        return nats, nats.detach()
    squares = _wide(logits).logsumexp(-1).square()
    return nats + z_loss * (squares if mask is None else squares.masked_fill(~mask, 0)).sum(), nats.detach()


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def chunked_loss(
    head: nn.Module,
    embedding: Tensor,
    hidden: Tensor,
    targets: Tensor,
    mask: Tensor | None,
    z_loss: float,
    chunk_tokens: int,
) -> tuple[Tensor, Tensor]:
    """``summed_loss(head(hidden, embedding), ...)``, whose logits never exist all at once.

    head           features (tokens, dim) and the token embedding to scores (tokens, vocab_size), token by token
    embedding      (vocab_size, dim)
    hidden         (batch, time, dim); targets, mask (batch, time)
    chunk_tokens   tokens scored at a time

    Each chunk runs forward and backward and is dropped; only the gradients of ``hidden`` and the parameters stay. No
    product is done twice, and results differ from the plain ones by the order of sums. Memory beyond them:
    ``chunk_tokens * vocab_size`` numbers a few times, the features' gradient, and the parameters' twice. (The idea is
    that of Hsu et al. 2024, Liger Kernel, arXiv 2410.10989.) Under ``torch.compile`` this part stays uncompiled.
    """
    parameters = dict(head.named_parameters())
    flat = hidden.flatten(0, 1)
    chosen = None if mask is None else mask.flatten()
    inputs = (flat, embedding, *parameters.values())
    # Inside the function gradients are off, whatever they were here.
    differentiate = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)

    def score(features: Tensor, table: Tensor, *values: Tensor) -> Tensor:
        return functional_call(head, dict(zip(parameters, values, strict=True)), (features, table))

    # A gradient taken within the forward pass is more than the compiler can follow.
    run = torch.compiler.disable(_ChunkedLoss.apply)
    return run(score, targets.flatten(), chosen, z_loss, chunk_tokens, differentiate, *inputs)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        score: Callable[..., Tensor],
        targets: Tensor,
        mask: Tensor | None,
        z_loss: float,
        chunk_tokens: int,
        differentiate: bool,
        hidden: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        # Copies in name only: hooks on the real parameters are to see their whole gradient, once.
        leaves = [weight.detach().requires_grad_(differentiate and weight.requires_grad) for weight in weights]
        sums = [torch.zeros_like(leaf) if leaf.requires_grad else None for leaf in leaves]
        totals, nats, gradients = [], [], []
        masks = [None] * -(-len(targets) // chunk_tokens) if mask is None else mask.split(chunk_tokens)
        for piece, wanted, counted in zip(hidden.split(chunk_tokens), targets.split(chunk_tokens), masks, strict=True):
            piece = piece.detach().requires_grad_(differentiate)
            with torch.set_grad_enabled(differentiate):
                # Views, since hooks on a module's inputs (torch's FLOP counter has some) do not work on leaves here.
                scores = score(*(leaf.view_as(leaf) for leaf in (piece, *leaves)))
                total, plain = summed_loss(scores, wanted, counted, z_loss)
            totals.append(total.detach())
            nats.append(plain)
            if differentiate:
                trained = [leaf for leaf in leaves if leaf.requires_grad]
                # An untied head does not read the embedding: no gradient, rather than an error.
                gradient, *rest = torch.autograd.grad(total, (piece, *trained), allow_unused=True)
                gradients.append(gradient)
                for added, new in zip([total for total in sums if total is not None], rest, strict=True):
                    if new is not None:
                        added += new
        if differentiate:
            ctx.save_for_backward(torch.cat(gradients), *sums)
        result = torch.stack(totals).sum(), torch.stack(nats).sum()
        ctx.mark_non_differentiable(result[1])
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (*[None] * 6, *(None if saved is None else saved * gradients[0] for saved in ctx.saved_tensors))
