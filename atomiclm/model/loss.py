"""Cross-entropy, and the penalty on softmax's denominator: from all logits at once, or from those of a few tokens."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

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


def default_chunk_tokens(tokens: int, vocab_size: int, device: torch.device) -> int | None:
    """Tokens scored at a time where nobody says: None, all, unless a CPU has more than 2^24 scores to make.

    Then those that make 2^23. With a vocabulary of 32,768 that is as fast and saves a third of a run's memory
    (``benchmarks/training.py 19.7M``).
    """
    return max(1, 2**23 // vocab_size) if device.type == "cpu" and tokens * vocab_size > 2**24 else None


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
    product is done twice, and results differ from the plain ones by the order of sums. Memory beyond them: twice
    ``chunk_tokens * vocab_size`` numbers, the features' gradient, and the parameters' twice. (The idea is that of Hsu
    et al. 2024, Liger Kernel, arXiv 2410.10989.)
    """
    parameters = dict(head.named_parameters())
    flat = hidden.flatten(0, 1)
    chosen = None if mask is None else mask.flatten()
    inputs = (flat, embedding, *parameters.values())
    # Inside the function gradients are off, whatever they were here.
    differentiate = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)

    def score(features: Tensor, table: Tensor, *values: Tensor) -> Tensor:
        return functional_call(head, dict(zip(parameters, values, strict=True)), (features, table))

    linear = getattr(head, "linear", F.linear)
    found: tuple[Tensor, Tensor] = _ChunkedLoss.apply(
        score, linear, targets.flatten(), chosen, z_loss, chunk_tokens, differentiate, *inputs
    )
    return found


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        score: Callable[..., Tensor],
        linear: Callable[..., Tensor],
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
        sums: list[Tensor | None] = [None] * len(leaves)
        with torch.set_grad_enabled(differentiate):
            # Since hooks on a module's inputs (torch's FLOP counter has some) do not work on leaves here.
            views = [leaf.view_as(leaf) for leaf in leaves]
        trained = [index for index, leaf in enumerate(leaves) if leaf.requires_grad]
        in_place = _SummedInPlace({id(views[index]): index for index in trained}, sums, linear)
        totals, nats, gradients = [], [], []
        masks = [None] * -(-len(targets) // chunk_tokens) if mask is None else mask.split(chunk_tokens)
        for piece, wanted, counted in zip(hidden.split(chunk_tokens), targets.split(chunk_tokens), masks, strict=True):
            piece = piece.detach().requires_grad_(differentiate)
            with torch.set_grad_enabled(differentiate), in_place if differentiate else nullcontext():
                scores = score(piece.view_as(piece), *views)
            if not differentiate:
                total, plain = summed_loss(scores, wanted, counted, z_loss)
            else:
                total, plain, of_scores = _differentiated(scores.detach(), wanted, counted, z_loss)
                # An untied head does not read the embedding: no gradient, rather than an error.
                inputs = (piece, *(leaves[index] for index in trained))
                with torch.enable_grad():
                    found = _GivenGradient.apply(scores, of_scores)
                gradient, *rest = torch.autograd.grad(found, inputs, allow_unused=True)
                gradients.append(gradient)
                for index, new in zip(trained, rest, strict=True):
                    if new is not None:
                        before = sums[index]
                        sums[index] = new if before is None else before + new
                del of_scores, found
            del scores  # before the next are made
            totals.append(total)
            nats.append(plain)
        if differentiate:
            ctx.save_for_backward(torch.cat(gradients), *sums)
        result = torch.stack(totals).sum(), torch.stack(nats).sum()
        ctx.mark_non_differentiable(result[1])
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (*[None] * 7, *(None if saved is None else saved * gradients[0] for saved in ctx.saved_tensors))


class _GivenGradient(torch.autograd.Function):
    """A scalar with the gradient given. To `torch.autograd.grad` itself one is not given: it then loads sympy."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return scores.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient, None


def _differentiated(
    scores: Tensor, targets: Tensor, mask: Tensor | None, z_loss: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``summed_loss`` of scores (tokens, vocab_size), and its gradient, in one more matrix of their size:

    ``(1 + 2 z_loss log Z) softmax(scores) - [v = target]``, 0 where masked.
    """
    logs = _wide(scores).log_softmax(-1)
    of_target = logs.gather(-1, targets[:, None])
    log_sums = scores.gather(-1, targets[:, None]) - of_target
    gradient = logs.exp_()
    if z_loss:
        gradient *= 1 + 2 * z_loss * log_sums
    gradient.scatter_add_(-1, targets[:, None], torch.full_like(of_target, -1.0))
    if mask is not None:
        gradient.masked_fill_(~mask[:, None], 0)
        of_target, log_sums = of_target[mask], log_sums[mask]
    nats = -of_target.sum()
    return nats + z_loss * log_sums.square().sum(), nats, gradient.to(scores.dtype)


class _SummedInPlace(TorchFunctionMode):
    """Inside, the gradient of a weight of ``F.linear`` is added to its sum by the product itself.

    ``places`` has the index in ``sums`` of each weight, by its id. With a vocabulary of 32,768 the sum is the largest
    matrix of the step but for the logits: made again by each chunk, it takes as long as half of the chunk's product.
    ``linear`` makes the scores.
    """

    def __init__(self, places: dict[int, int], sums: list[Tensor | None], linear: Callable[..., Tensor]) -> None:
        super().__init__()
        self._places, self._sums, self._linear = places, sums, linear
        self._narrow: dict[int, Tensor] = {}

    def __torch_function__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        is_plain = function is F.linear and not keywords and (len(arguments) == 2 or arguments[2] is None)
        place = self._places.get(id(arguments[1])) if is_plain else None
        if place is None:
            return function(*arguments, **(keywords or {}))
        vectors, weight = arguments[:2]
        if torch.is_autocast_enabled(weight.device.type) and weight.dtype != torch.float64:
            narrow = torch.get_autocast_dtype(weight.device.type)  # cast once, not for each chunk
            vectors, weight = vectors.to(narrow), self._narrow.setdefault(place, weight.detach().to(narrow))
        return _Linear.apply(vectors, weight, self._linear, self._sums, place, arguments[1].dtype)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        weight: Tensor,
        linear: Callable[..., Tensor],
        sums: list[Tensor | None],
        place: int,
        wide: torch.dtype,
    ) -> Tensor:
        ctx.save_for_backward(vectors, weight)
        ctx.sums, ctx.place, ctx.wide = sums, place, wide
        return linear(vectors, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        vectors, weight = ctx.saved_tensors
        rows, columns, total = gradient.flatten(0, -2).mT, vectors.flatten(0, -2), ctx.sums[ctx.place]
        if total is None:
            ctx.sums[ctx.place] = (rows @ columns).to(ctx.wide)
        elif total.dtype == rows.dtype:
            torch.addmm(total, rows, columns, out=total)
        else:
            total += rows @ columns
        return gradient @ weight, None, None, None, None, None
