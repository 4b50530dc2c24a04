"""What all optimizers here share: groups by role, a step over the parameters that have a gradient, and their memory."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from atomiclm.optim.groups import RoleSettings, parameter_groups


class RoleOptimizer(torch.optim.Optimizer, ABC):
    """A rule that updates one parameter at a time, from its gradient and its own state.

    State that is a tensor is kept in checkpoints as a tensor and state that is a number as a number, by the name of the
    parameter; both come back to the last bit. Settings are attributes of the optimizer; a group of `param_groups` holds
    only what differs between groups: `params`, `names`, `role`, `lr`, `weight_decay`.

    A weight of more than two dimensions is a batch of matrices in its last two, each treated as if it were a parameter
    of its own (the experts of a mixture: (experts, out, in)).
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        roles: Mapping[str, str],
        lr_multipliers: Mapping[str, float] | None,
        settings: RoleSettings,
    ) -> None:
        super().__init__(parameter_groups(named_parameters, roles, lr_multipliers or {}, settings), {})

    # As torch has it, without the wrapper that loads torch's compiler at the first call, which takes a second.
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients that are there; a parameter without one is left alone."""
        assert closure is None, "optimizers here need no closure"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad, self.state[parameter], group)

    @abstractmethod
    def update(self, weight: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Change `weight` and `state` in place for one step. `state` is empty before the first; `gradient` is kept."""

    @classmethod
    @abstractmethod
    def state_elements(cls, shape: tuple[int, ...], role: str, settings: Mapping[str, Any]) -> int:
        """Numbers that the tensors of one parameter's state hold.

        Args:
            shape: of the parameter.
            role: of the parameter.
            settings: the optimizer's arguments by name, as its config node has them; an absent one has its default.
        """
