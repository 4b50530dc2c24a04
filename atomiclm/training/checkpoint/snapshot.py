"""A run at one moment, copied, so that it can be written while training goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from torch import Tensor

from atomiclm.training.state import TrainState


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a checkpoint is written from; shares no memory with the run.

    Attributes:
        step: optimizer steps taken.
        model: `TrainState.model_tensors`, on the CPU.
        optimizer: `TrainState.optimizer_tensors`, on the CPU.
        scalars: `TrainState.scalars`, and what the caller adds.
        about: what the manifest is to say besides: JSON values.
    """

    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    scalars: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def take(cls, state: TrainState, about: Mapping[str, Any] | None = None, **scalars: Any) -> Self:
        """Copy the state of a run: the only part of saving that training waits for."""
        model, optimizer = _copies(state.model_tensors()), _copies(state.optimizer_tensors())
        return cls(state.step, model, optimizer, {**state.scalars(), **scalars}, about or {})


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Copied also where they are on the CPU already; contiguous, as safetensors wants them.
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
