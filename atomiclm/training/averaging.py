"""Averages of the weights over a run: what is evaluated and saved, in place of the last step's weights."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


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
                f"{self.decay:g} looks back over about {span:,.0f} steps and the run has {steps:,}, so it is "
                "judged by the mean of all its weights, the first included; "
                f"{max(0.0, 1.0 - 10.0 / steps):.3g} looks back over a tenth of it",
            )

    @torch.no_grad()
    def update(self, averages: dict[str, Tensor], model: nn.Module, step: int) -> None:
        """Take the weights after the average's step `step` (from 1) into `averages`, by name, in place."""
        share = (1.0 - self.decay) / (1.0 - self.decay**step)
        for name, parameter in model.named_parameters():
            if step == 1:
                averages[name] = parameter.detach().clone()
            else:
                averages[name].lerp_(parameter, share)


@runtime_checkable
class Averaging(Protocol):
    """An optimizer that averages by itself, and trains the model at other weights than it is to be judged by."""

    def averaged_weights(self) -> dict[str, Tensor]:
        """Return the weights to judge the model by, by name, of those parameters where they differ."""
