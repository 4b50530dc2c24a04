"""What a model costs, asked of its components.

FLOPs are those of matrix products, a multiply and an add counting as two, for one token of a full context in one
forward pass; a training step costs three times that (the backward pass has two products for each). Attention is counted
over the whole rectangle of ``context_length`` keys a query, although causality needs half of it, as PaLM does
(Chowdhery et al. 2022, arXiv 2204.02311, appendix B): ``2 * matmul_weights + 4 * layers * heads * head_dim *
context_length``. Embedding look-ups, norms, biases, softmax and rotations count zero. A tied head's matrix counts once,
as a product.
"""

from abc import ABC, abstractmethod

from torch import nn

from atomiclm.model.roles import ROLES, Role, parameter_roles


class Accounted(nn.Module, ABC):
    """A module that does matrix products and says how many."""

    @abstractmethod
    def flops_per_token(self, context_length: int) -> int:
        """Forward FLOPs of one token in a full context of ``context_length`` tokens."""


def matmul_flops(*linears: nn.Linear) -> int:
    """Forward FLOPs of one token through these projections: two for each weight."""
    return sum(2 * linear.in_features * linear.out_features for linear in linears)


def parameters_by_role(model: nn.Module) -> dict[Role, int]:
    """Number of parameters of each role, every role listed; a shared parameter counts once."""
    roles = parameter_roles(model)
    counts: dict[Role, int] = dict.fromkeys(ROLES, 0)
    for name, parameter in model.named_parameters():
        counts[roles[name]] += parameter.numel()
    return counts
