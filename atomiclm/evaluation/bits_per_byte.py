"""The headline metric: how many bits the model needs for a byte of the validation text."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from atomiclm.model import cross_entropy


@dataclass(frozen=True)
class Validation:
    """One full pass over a validation split.

    Attributes:
        nats: summed negative log-likelihood of all target tokens that stand for text.
        tokens: how many those are.
        bytes: how many bytes they stand for.
    """

    nats: float
    tokens: int
    bytes: int

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte: nats / (ln 2 * bytes). Comparable across tokenizers, unlike the loss."""
        return self.nats / (math.log(2) * self.bytes)


@torch.inference_mode()
def validate(
    model: nn.Module,
    forward: Callable[[Tensor], Tensor],
    windows: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    token_bytes: Sequence[int],
    device: torch.device,
) -> Validation:
    """Return the sums over all windows of (inputs, targets, mask), each (batch, time).

    Special tokens are not text: they stand for no bytes, and predicting them is not charged. Dropout is off during the
    pass, the model's mode is restored after it, and no random number is drawn.
    """
    lengths = torch.tensor(list(token_bytes), device=device)
    nats, tokens, num_bytes = 0.0, 0, 0
    was_training = model.training
    model.eval()
    try:
        for arrays in windows:
            inputs, targets, mask = (torch.from_numpy(np.asarray(array)).to(device) for array in arrays)
            target_bytes = lengths[targets] * mask
            is_text = target_bytes > 0
            losses = cross_entropy(forward(inputs), targets, reduction="none")[is_text]
            # Summed in float64 on the CPU: some devices have none, and the sum is over millions of terms.
            nats += float(losses.cpu().double().sum())
            tokens += int(is_text.sum())
            num_bytes += int(target_bytes.sum())
    finally:
        model.train(was_training)
    return Validation(nats, tokens, num_bytes)
