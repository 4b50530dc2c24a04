"""How evaluation calls a model: the model itself, or whatever stands for it (compiled, in another precision)."""

from typing import Protocol

import torch
from torch import Tensor

from atomiclm.data import Batch


class Forward(Protocol):
    """(batch, time) tokens, and documents of the same shape where they are kept apart, to logits."""

    def __call__(self, tokens: Tensor, *, documents: Tensor | None = None) -> Tensor: ...


def logits_of(forward: Forward, batch: Batch, device: torch.device) -> Tensor:
    """Logits (batch, time, vocab_size) of a batch's inputs. `documents` is passed only where there are any."""
    inputs = torch.from_numpy(batch.inputs).to(device)
    if batch.documents is None:
        return forward(inputs)
    return forward(inputs, documents=torch.from_numpy(batch.documents).to(device))
