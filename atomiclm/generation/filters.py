"""Filters: logits (batch, vocab_size) in, the same with unlikely tokens at -inf out. They compose by application."""

import torch
from torch import Tensor


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Keep the ``top_k`` highest scores of each row, and any that tie with the last of them.

    Source: Fan, Lewis, Dauphin 2018, arXiv 1805.04833, section 5.4.
    """
    lowest_kept = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < lowest_kept, -torch.inf)


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Keep the smallest set of most likely tokens whose probabilities reach ``top_p`` together.

    The token that crosses the line is kept, so there is always one; among equals the lower id comes first.
    Source: Holtzman et al. 2019, arXiv 1904.09751, section 3.1 (nucleus sampling).
    """
    ordered, ids = logits.sort(dim=-1, descending=True, stable=True)
    # Summed from the least likely, as a sum from the likeliest rounds to 1 long before the end, and top_p=1 keeps all.
    rest = ordered.softmax(-1).flip(-1).cumsum(-1).flip(-1)
    beyond = rest <= 1 - top_p
    beyond[..., 0] = False
    dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, ids, beyond)
    return logits.masked_fill(dropped, -torch.inf)


def keep_min_p(logits: Tensor, min_p: float) -> Tensor:
    """Keep tokens at least ``min_p`` times as likely as the likeliest one.

    Source: Nguyen et al. 2024, arXiv 2407.01082, section 3.
    """
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < min_p * probabilities.amax(-1, keepdim=True), -torch.inf)
