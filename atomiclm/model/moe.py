"""A feed-forward network made of experts, of which each token passes through a few."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atomiclm.model.accounting import Accounted
from atomiclm.model.components import check_not_negative, check_positive, supply_part
from atomiclm.model.feedforward import Activation, GatedFeedForward, activation_function, tensors_saved, two_thirds
from atomiclm.model.router import Router, Routing, SoftmaxTopK
from atomiclm.roles import Role


class MixtureOfExperts(Accounted):
    """``y = sum_{e chosen} weight_e expert_e(x) + shared(x)``, applied to each token: (batch, time, dim) to the same.

    Experts are gated networks, as in ``GatedFeedForward``, without biases.

    num_experts         routed experts, of which the router chooses experts_per_token for each token
    hidden_dim          features within one expert. None makes the experts that one token meets, routed and shared, as
                        wide together as a dense gated network by the 2/3 rule, each rounded up to multiple_of
    num_shared_experts  experts that every token passes through, with weight 1; 0 for none. They are one gated
                        network of num_shared_experts times the width, which is the same function
    shared_hidden_dim   features within one shared expert; None = hidden_dim
    router              a ``Router``, given dim, num_experts and experts_per_token
    balance_weight      factor on ``load_balance_loss``; 0 leaves it out
    router_z_weight     factor on ``router_z_loss``; 0 leaves it out

    In training mode ``auxiliary`` holds the weighted losses of the last forward pass, as ``Decoder.auxiliary_losses``
    reads them; the balance loss needs the load of the whole step (see ``Decoder.needs_survey``). Gradient checkpointing
    has to be the non-reentrant kind, whose first pass has their gradient.

    Source: Shazeer et al. 2017, arXiv 1701.06538; Mixtral, Jiang et al. 2024, arXiv 2401.04088; shared experts: Dai et
    al. 2024 (DeepSeekMoE), arXiv 2401.06066.
    """

    def __init__(
        self,
        dim: int,
        num_experts: int = 8,
        experts_per_token: int = 2,
        hidden_dim: int | None = None,
        num_shared_experts: int = 0,
        shared_hidden_dim: int | None = None,
        router: Callable[..., Router] = SoftmaxTopK,
        activation: Activation = "silu",
        multiple_of: int = 8,
        balance_weight: float = 0.0,
        router_z_weight: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = {"dim": dim, "num_experts": num_experts, "experts_per_token": experts_per_token}
        check_positive(**sizes)
        check_not_negative(
            num_shared_experts=num_shared_experts, balance_weight=balance_weight, router_z_weight=router_z_weight
        )
        if shared_hidden_dim is not None and not num_shared_experts:
            raise ValueError(
                f"shared_hidden_dim={shared_hidden_dim} without shared experts; set num_shared_experts to 1 or more"
            )
        active = experts_per_token + num_shared_experts
        self.dim = dim
        self.num_experts = num_experts
        self.experts_per_token = experts_per_token
        self.hidden_dim = two_thirds(dim, multiple_of, active) if hidden_dim is None else hidden_dim
        self.num_shared_experts = num_shared_experts
        self.shared_hidden_dim = self.hidden_dim if shared_hidden_dim is None else shared_hidden_dim
        self.activation = activation
        self.multiple_of = multiple_of
        self.balance_weight = balance_weight
        self.router_z_weight = router_z_weight
        self.router = supply_part("router", router, **sizes)
        self.experts = Experts(dim, self.hidden_dim, num_experts, experts_per_token, activation)
        self.shared: GatedFeedForward | None = None
        if num_shared_experts:
            width = num_shared_experts * self.shared_hidden_dim
            self.shared = GatedFeedForward(dim, width, activation)
        self.auxiliary: dict[str, Tensor] = {}

    def forward(self, hidden: Tensor) -> Tensor:
        tokens = hidden.flatten(0, -2)
        routing = self.router(tokens)
        # Outside training there are none, so that an evaluation cannot add the loss of an older batch.
        self.auxiliary = {}
        if self.training and self.balance_weight:
            self.auxiliary["load_balance"] = self.balance_weight * load_balance_loss(routing, self.router.batch_load)
        if self.training and self.router_z_weight:
            self.auxiliary["router_z"] = self.router_z_weight * router_z_loss(routing)
        output = self.experts(tokens, routing)
        if self.shared is not None:
            output = output + self.shared(tokens)
        return output.view_as(hidden)

    @property
    def needs_survey(self) -> bool:
        """Whether the load of a whole step must be known before its first micro-batch."""
        return self.balance_weight > 0

    def after_step(self) -> None:
        """Drop the losses of the last pass, and with them its graph."""
        self.auxiliary = {}

    discard_step = after_step

    @property
    def load(self) -> Tensor:
        """(num_experts,) tokens of each expert in the last whole step, over their mean; NaN before the first
        ``after_step``.
        """
        return self.router.last_load / self.router.last_load.mean()

    def num_active_parameters(self) -> int:
        """Parameters that one token meets: the router, the experts chosen for it, the shared ones."""
        return sum(weight.numel() for weight in self.parameters()) - self.experts.num_inactive_parameters()

    def activation_elements_per_token(self, context_length: int) -> int:
        of_shared = 0 if self.shared is None else self.shared.activation_elements_per_token(context_length) - self.dim
        of_router = self.router.activation_elements_per_token(context_length)
        of_losses = (1 if self.balance_weight else 0) + (self.num_experts + 1 if self.router_z_weight else 0)
        return of_router + self.experts.activation_elements_per_token(context_length) + of_shared + of_losses


@dataclass(eq=False, repr=False)
class Experts(Accounted):
    """``y = sum_i weights_i down_e(activation(gate_e(x)) * up_e(x))``, e the i-th expert chosen for the token.

    The weights of all experts are stacks of matrices: gate and up (num_experts, hidden_dim, dim), down
    (num_experts, dim, hidden_dim), without biases.

    Tokens are sorted by expert, so that an expert does one product a matrix for all its tokens. There is no capacity:
    nothing is dropped or padded. A token's terms are added best expert first, so the sum does not depend on the batch;
    an output is the same bits while each expert gets the same number of tokens, and equal to rounding otherwise.

    Source: Shazeer et al. 2017, arXiv 1701.06538, equation 1; without capacity or dropping as in MegaBlocks (Gale et
    al. 2022, arXiv 2211.15841).
    """

    roles: ClassVar[dict[str, Role]] = {"gate": "matrix", "up": "matrix", "down": "residual"}

    dim: int
    hidden_dim: int
    num_experts: int
    experts_per_token: int
    activation: Activation = "silu"

    def __post_init__(self) -> None:
        super().__post_init__()
        dim, hidden_dim = self.dim, self.hidden_dim
        check_positive(hidden_dim=hidden_dim)
        self._activate = activation_function(self.activation)
        self.gate = nn.Parameter(torch.empty(self.num_experts, hidden_dim, dim))
        self.up = nn.Parameter(torch.empty(self.num_experts, hidden_dim, dim))
        self.down = nn.Parameter(torch.empty(self.num_experts, dim, hidden_dim))
        # As nn.Linear starts: a decoder's init replaces it.
        for weight, inputs in ((self.gate, dim), (self.up, dim), (self.down, hidden_dim)):
            nn.init.uniform_(weight, -(inputs**-0.5), inputs**-0.5)

    def forward(self, hidden: Tensor, routing: Routing) -> Tensor:
        # A slot is one choice of one token: slot token * k + i. Sorting is stable, so runs repeat bit for bit.
        order = routing.experts.flatten().argsort(stable=True)
        token = order.div(self.experts_per_token, rounding_mode="floor")
        rows = hidden[token]
        if torch.compiler.is_compiling():  # a graph whose products have the sizes of this batch would serve no other
            outputs = self._grouped(rows, routing.load)
        else:
            outputs = self._one_by_one(rows, routing.load)
        slots = torch.empty_like(order).scatter(0, order, torch.arange(order.shape[0], device=order.device))
        chosen = outputs[slots].unflatten(0, routing.experts.shape)
        return (chosen * routing.weights.unsqueeze(-1)).sum(1).to(outputs.dtype)

    def _one_by_one(self, rows: Tensor, load: Tensor) -> Tensor:
        # unbind, not indexing: the gradients of the slices are then stacked once, not padded to full size one by one.
        stacks = zip(rows.split(load.tolist()), self.gate.unbind(), self.up.unbind(), self.down.unbind(), strict=True)
        products = [
            F.linear(self._activate(F.linear(own, gate)) * F.linear(own, up), down)
            for own, gate, up, down in stacks
            if own.shape[0]
        ]
        return torch.cat(products)

    def _grouped(self, rows: Tensor, load: Tensor) -> Tensor:
        """The same products, each matrix with all experts in one call that gets where their rows end."""
        device = rows.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else rows.dtype
        ends = load.cumsum(0).to(torch.int32)

        def product(left: Tensor, weights: Tensor) -> Tensor:
            (_, outputs, width), weights = weights.shape, weights.to(dtype)
            if outputs % 8 or width % 8:  # the kernel takes rows of whole 16 bytes alone
                left = F.pad(left, (0, -width % 8))
                weights = F.pad(weights, (0, -width % 8, 0, -outputs % 8))
            return F.grouped_mm(left, weights.mT, offs=ends)[:, :outputs]

        rows = rows.to(dtype)
        return product(self._activate(product(rows, self.gate)) * product(rows, self.up), self.down)

    def flops_per_token(self, context_length: int) -> int:
        return 6 * self.dim * self.hidden_dim * self.experts_per_token

    def num_inactive_parameters(self) -> int:
        """Weights of the experts that one token does not meet."""
        return 3 * self.dim * self.hidden_dim * (self.num_experts - self.experts_per_token)

    def activation_elements_per_token(self, context_length: int) -> int:
        """For each chosen expert: a copy of the input, what a gated network saves, the output, its weight, slots."""
        of_one = 2 * self.dim + (3 + tensors_saved(self.activation)) * self.hidden_dim
        # The weight; the token of the slot and the index it went to, int64 and so two numbers each.
        return self.experts_per_token * (of_one + 5)


def load_balance_loss(routing: Routing, batch_load: Tensor | None = None) -> Tensor:
    """``num_experts * sum_e f_e P_e``: experts_per_token when the load is even, more when it is not.

    f_e is the share of the tokens that chose expert e (they sum to experts_per_token), P_e the mean over tokens of
    expert e's share of the scores. The gradient goes through P alone. For a part of a batch, f is that of the whole
    batch, from its ``batch_load`` (num_experts,): the mean of this over all its tokens is what the batch gives at once.

    Source: Fedus et al. 2021, arXiv 2101.03961, equations 4 to 6, for one expert a token; with more, the sum of f is
    left as it is, as transformers has it (DeepSeek divides by experts_per_token). Scores that are no probabilities are
    divided by their sum, as in DeepSeek-V3, arXiv 2412.19437, section 2.1.2.
    """
    shares = routing.scores / (routing.scores.sum(-1, keepdim=True) + 1e-20)
    load = (routing.load if batch_load is None else batch_load).to(shares.dtype)
    chosen = load * (routing.experts.shape[1] / load.sum())
    return len(load) * (chosen * shares.mean(0)).sum()


def router_z_loss(routing: Routing) -> Tensor:
    """``mean over tokens of logsumexp(logits)^2``: keeps the router's logits small.

    Source: Zoph et al. 2022 (ST-MoE), arXiv 2202.08906.
    """
    return routing.logits.logsumexp(-1).square().mean()
