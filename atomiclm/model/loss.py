"""The training objective."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

# What F.cross_entropy skips; no token has this id.
_SKIP = -100


def cross_entropy(
    logits: Tensor, targets: Tensor, mask: Tensor | None = None, reduction: Literal["sum", "none"] = "sum"
) -> Tensor:
    """``-log softmax(logits)[target]`` in nats, in float32 or wider, summed over the targets that count.

    logits    (batch, time, vocab_size), any floating dtype
    targets   (batch, time) int64
    mask      (batch, time) bool, True where a target counts; None counts all
    reduction "sum": a scalar. "none": (batch, time), 0 where masked

    There is no mean on purpose: divide by the number of targets of the whole step, all its micro-batches together, or
    micro-batches with few targets weigh too much.
    """
    if mask is not None:
        targets = targets.masked_fill(~mask, _SKIP)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nats = F.cross_entropy(wide.flatten(0, 1), targets.flatten(), ignore_index=_SKIP, reduction=reduction)
    return nats.view(targets.shape) if reduction == "none" else nats
