"""Which experts a token goes to, and with what weights."""

from abc import abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atomiclm.model.accounting import Accounted
from atomiclm.model.components import check_not_negative, check_positive


@dataclass(frozen=True)
class Routing:
    """What a router decided about some tokens; k is experts_per_token.

    experts   (tokens, k) int64: the experts chosen, best first
    weights   (tokens, k): factor on the output of each
    logits    (tokens, num_experts): what the router's projection gave
    scores    (tokens, num_experts): non-negative affinities made of the logits, before any choice
    load      (num_experts,) int64: how many tokens chose each expert
    """

    experts: Tensor
    weights: Tensor
    logits: Tensor
    scores: Tensor
    load: Tensor


@dataclass(eq=False, repr=False)
class Router(Accounted):
    """``weights = scale * scores[chosen] (/ their sum, where normalize)``, ``scores = score(projection(x))``.

    A subclass says how logits become scores and which experts they choose, in float32 or wider, under autocast too: a
    choice is not continuous, and rounding would change it (Fedus et al. 2021, arXiv 2101.03961, section 2.4). A token's
    routing depends on that token alone; every token gets experts_per_token experts.

    normalize   the chosen weights sum to ``scale``
    scale       factor on the weights; a published model that does not normalise may need one

    In training mode the buffer ``load`` counts the choices of all micro-batches of a step, but not again when gradient
    checkpointing computes them a second time; ``after_step`` moves the counts to ``last_load``. ``batch_load`` is the
    load of a whole step where a survey has counted it (see ``Decoder.needs_survey``), else None.
    """

    dim: int
    num_experts: int
    experts_per_token: int
    normalize: bool = field(default=True, kw_only=True)
    scale: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        num_experts, experts_per_token = self.num_experts, self.experts_per_token
        check_positive(num_experts=num_experts, experts_per_token=experts_per_token, scale=self.scale)
        if experts_per_token > num_experts:
            raise ValueError(f"experts_per_token={experts_per_token} must be at most num_experts={num_experts}")
        if self.normalize and experts_per_token == 1 and num_experts > 1:
            raise ValueError(
                "normalize=True with experts_per_token=1 makes every weight 1, whatever the router says, so it would "
                "get no gradient; set normalize=False (as in Switch) or choose more experts a token"
            )
        self.projection = nn.Linear(self.dim, num_experts, bias=False)
        # Counts are exact up to 2^24 tokens an expert and step. Between steps they are zero: nothing to save.
        self.load = nn.Buffer(torch.zeros(num_experts), persistent=False)
        self.last_load = nn.Buffer(torch.zeros(num_experts), persistent=False)
        self.batch_load: Tensor | None = None

    @abstractmethod
    def score(self, logits: Tensor) -> Tensor:
        """Affinities (tokens, num_experts), not negative, of logits of the same shape."""

    def choose(self, scores: Tensor) -> Tensor:
        """Experts (tokens, experts_per_token) by their scores (tokens, num_experts): the highest."""
        return scores.topk(self.experts_per_token, dim=-1).indices

    def forward(self, hidden: Tensor) -> Routing:
        """Route tokens (tokens, dim)."""
        with torch.autocast(hidden.device.type, enabled=False):
            wide = torch.promote_types(hidden.dtype, torch.float32)
            logits = F.linear(hidden.to(wide), self.projection.weight.to(wide))
            scores = self.score(logits)
            experts = self.choose(scores.detach())
            weights = scores.gather(-1, experts)
            if self.normalize:
                # Sigmoids may all underflow; their weights are then 0 rather than NaN.
                weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
            if self.scale != 1:
                weights = weights * self.scale
        # Compared and summed instead of bincount, whose output has a size unknown to a compiler.
        load = (experts.flatten()[:, None] == torch.arange(self.num_experts, device=experts.device)).sum(0)
        # A recomputation within a backward pass does not count; a compiled one never counts twice.
        if self.training and (torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1):
            self.load.add_(load)
        return Routing(experts, weights, logits, scores, load)

    def step_counts(self) -> list[Tensor]:
        return [self.load]

    def after_survey(self) -> None:
        self.batch_load = self.load.clone()
        self.load.zero_()

    def after_step(self) -> None:
        """The optimizer took a step: its load is complete."""
        self.last_load.copy_(self.load)
        self.discard_step()

    def discard_step(self) -> None:
        self.load.zero_()
        self.batch_load = None

    def activation_elements_per_token(self, context_length: int) -> int:
        """The input, the scores, the indices of the chosen ones (two numbers each), and what the division needs."""
        division = self.experts_per_token + 1 if self.normalize else 0
        return self.dim + self.num_experts + 2 * self.experts_per_token + division


class SoftmaxTopK(Router):
    """``scores = softmax(logits)`` over all experts; the experts_per_token highest are taken.

    normalize=True is the softmax over the chosen alone: Mixtral (Jiang et al. 2024, arXiv 2401.04088), Qwen3
    (arXiv 2505.09388). False keeps the probabilities: Switch (arXiv 2101.03961, one expert a token), OLMoE
    (arXiv 2409.02060), and with ``scale`` DeepSeek-V2-Lite (arXiv 2405.04434).
    """

    def score(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)


@dataclass(eq=False, repr=False)
class GroupLimitedSoftmax(SoftmaxTopK):
    """``SoftmaxTopK`` that takes its experts from ``groups_per_token`` of ``num_groups`` equal groups of neighbours.

    A group is worth its best expert. Source: DeepSeek-V2 (2024), arXiv 2405.04434, section 2.2.2 (device-limited
    routing).
    """

    num_groups: int
    groups_per_token: int
    normalize: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_groups(self)

    def choose(self, scores: Tensor) -> Tensor:
        worth = scores.unflatten(-1, (self.num_groups, -1)).amax(-1)
        return super().choose(_only_groups(scores, worth, self.groups_per_token))


@dataclass(eq=False, repr=False)
class SigmoidTopK(Router):
    """``scores = sigmoid(logits)``; chosen by ``scores + correction_bias``, weighted by the scores alone.

    After each optimizer step ``bias_rate`` is added to the bias of every expert with less than the mean load of the
    step (all micro-batches of this process), and taken from that of every expert with more. It is a buffer, saved in
    checkpoints; ``bias_rate=0`` freezes it. With num_groups > 1 the experts come from ``groups_per_token`` groups of
    neighbours, a group being worth the sum of its two best.

    Source: DeepSeek-V3 (2024), arXiv 2412.19437, section 2.1.2; the bias: Wang et al. 2024, arXiv 2408.15664,
    algorithm 1.
    """

    num_groups: int = 1
    groups_per_token: int = 1
    bias_rate: float = field(default=0.001, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_groups(self)
        if self.num_experts == self.num_groups > 1:
            raise ValueError(
                f"num_groups={self.num_groups} leaves one expert a group, and a group is worth the sum of its two "
                "best; use fewer groups, or num_groups=1 for none"
            )
        check_not_negative(bias_rate=self.bias_rate)
        self.correction_bias = nn.Buffer(torch.zeros(self.num_experts))

    def score(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def choose(self, scores: Tensor) -> Tensor:
        biased = scores + self.correction_bias
        if self.num_groups > 1:
            worth = biased.unflatten(-1, (self.num_groups, -1)).topk(2, dim=-1).values.sum(-1)
            biased = _only_groups(biased, worth, self.groups_per_token)
        return super().choose(biased)

    def after_step(self) -> None:
        if self.bias_rate:
            self.correction_bias.add_(self.bias_rate * (self.load.mean() - self.load).sign())
        super().after_step()


def _check_groups(router: GroupLimitedSoftmax | SigmoidTopK) -> None:
    num_groups, groups_per_token = router.num_groups, router.groups_per_token
    check_positive(num_groups=num_groups, groups_per_token=groups_per_token)
    if router.num_experts % num_groups:
        raise ValueError(f"num_groups={num_groups} must divide num_experts={router.num_experts}: groups are equal")
    if groups_per_token > num_groups:
        raise ValueError(f"groups_per_token={groups_per_token} must be at most num_groups={num_groups}")
    reachable = groups_per_token * (router.num_experts // num_groups)
    if router.experts_per_token > reachable:
        raise ValueError(
            f"experts_per_token={router.experts_per_token} is more than the {reachable} experts of "
            f"groups_per_token={groups_per_token} groups; raise groups_per_token or lower experts_per_token"
        )


def _only_groups(scores: Tensor, worth: Tensor, groups_per_token: int) -> Tensor:
    """Scores (tokens, experts), -inf outside the groups of highest worth (tokens, groups)."""
    chosen = worth.topk(groups_per_token, dim=-1).indices
    outside = torch.ones_like(worth, dtype=torch.bool).scatter(-1, chosen, False)
    size = scores.shape[-1] // worth.shape[-1]
    return scores.masked_fill(outside.repeat_interleave(size, dim=-1), -torch.inf)
