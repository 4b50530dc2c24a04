"""The processes that train a run: one, or as many as torchrun started, see `atomiclm.training.distributed`.

`Processes` is a single one, for which there is nothing to agree on and nothing to send. What it is asked says what
several do in its place; all of them must ask alike, in the same order.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from atomiclm.data import Batch
from atomiclm.model import Decoder


class Processes:
    """One process, which has the whole model.

    Attributes:
        rank, size: which process this is, from 0, and of how many. Rank 0 records, saves and speaks.
        owns: whether the optimizer here has some parameters, whole, and none of the others.
    """

    rank = 0
    size = 1
    owns = False

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def conditions(self) -> dict[str, Any]:
        """What the order of floating-point sums depends on, for exact resuming."""
        return {"world_size": 1}

    # Agreement.

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        return here

    def greatest(self, here: float) -> float:
        """The greatest of the numbers of all processes."""
        return here

    def from_first[T](self, here: T) -> T:
        """What rank 0 has."""
        return here

    def gathered[V](self, here: dict[str, V]) -> dict[str, V]:
        """The entries of all processes, in rank 0."""
        return here

    def together[T](self, act: Callable[[], T]) -> T:
        """Do it in every process, or raise what it fails of in any: in rank 0 with its message."""
        return act()

    def add_up(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all processes."""

    def loss_of_one(self, error: BaseException) -> str | None:
        """What to say, where an error means that another process has ended or is not heard of."""
        return None

    # The batch, and what is computed with it.

    def part(self, batch: Batch) -> Batch:
        """The rows of the batch that are this process's."""
        return batch

    def scored(self, batch: Batch, score: Callable[[Batch], Tensor]) -> Tensor:
        """`score` of the whole batch, row by row; each process computes a part."""
        return score(batch)

    def enter[R](self, compute: Callable[[], R]) -> R:
        """Call what uses the model outside a training pass."""
        return compute()

    def training[**P, R](self, model: nn.Module, function: Callable[P, R]) -> Callable[P, R]:
        """`function`, which gives the loss of a micro-batch, such that its backward pass has the sum of all parts."""
        return function

    def accumulate(self, is_last: bool) -> None:
        """Called before each micro-batch: gradients need not be sent before the last."""

    # Parameters, gradients and the optimizer.

    def optimized(self, model: Decoder, is_elementwise: bool) -> dict[str, nn.Parameter]:
        """The parameters that the optimizer of this process is made of, by name."""
        return dict(model.named_parameters())

    def collect_gradients(self, model: nn.Module) -> list[Tensor]:
        """After the backward pass: give the optimizer's parameters their gradients, and return those."""
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    def publish(self, model: nn.Module) -> None:
        """After the optimizer's step: give the model its weights, and free the gradients."""

    def joint_norm(self, norms: Tensor) -> Tensor:
        """The Euclidean norm of gradients, of `norms` of those that are here."""
        norm: Tensor = torch.linalg.vector_norm(norms)
        return norm

    def bad_gradients(self, model: nn.Module) -> list[str]:
        """Names of the parameters whose gradient is not finite."""
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        return [name for name, grad in gradients.items() if grad is not None and not local(grad).isfinite().all()]

    def whole(self, name: str, tensor: Tensor) -> Tensor:
        """The whole of what is here of a parameter, or of its optimizer's state; `name` is the parameter's."""
        return tensor

    def my_part(self, name: str, whole: Tensor, here: Tensor) -> Tensor:
        """What `here`, a parameter or its optimizer's, has of the `whole`."""
        return whole


def local(tensor: Tensor) -> Tensor:
    """What this process has of a tensor that is sharded; else the tensor."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
