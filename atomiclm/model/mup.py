"""Maximal update parametrisation: hyperparameters found on a narrow model serve a wide one."""

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import torch

from atomiclm.model.accounting import DecoderCosts
from atomiclm.model.attention_scores import Scores
from atomiclm.model.components import check_positive, parameter_roles
from atomiclm.model.init import Initialisation, NormalInit
from atomiclm.roles import Role


@dataclass
class MaximalUpdateInit(NormalInit):
    """Initial weights, learning rates and multipliers such that every layer's change a step is the same at any width.

    A base model, of width base_dim, is parametrised as ``NormalInit(seed, std, residual_scale)`` would, bit for bit.
    With m the fan-in of a projection over its fan-in in the base model, a wider model differs from that by:

    =====================================  ==============  ===================  =====================
    parameter                              initial std     Adam learning rate   multiplier
    =====================================  ==============  ===================  =====================
    embeddings, gains, biases              as in the base  as in the base       none
    hidden (roles matrix, residual)        / sqrt(m)       / m                  none
    head, tied or not                      as in the base  as in the base       logits / m
    attention scores, with width d         .               .                    1 / d, not 1 / sqrt(d)
    =====================================  ==============  ===================  =====================

    Source: Yang et al. 2022, arXiv 2203.03466, table 8 (the one whose head may be tied) and definition 4.1 (attention).

    base_dim        width at which this is the standard parametrisation
    base_head_dim   features of a query in the base model (for latent attention content_dim + rotary_dim); a score's
                    scale is the base's times ``base_head_dim / width``. The same as this model's when width comes from
                    more heads
    zero_head       start an untied head at 0, as the authors advise: the logits of a random head shrink as width grows
    base_fan_in     fan-ins (last dimensions) in the base model that are not in proportion to dim, by a part of the
                    parameter's name: ``{"feedforward.down": 512}`` where hidden_dim is 512 at every width, or
                    ``{"attention.expand": 64}`` for a latent that does not grow. Every other is taken to be ``fan_in *
                    base_dim / dim``

    An embedding's scale "sqrt_dim" becomes the base's. The learning rates are Adam's: an optimizer whose updates scale
    otherwise, such as Muon, wants others. A decay that is multiplied by the learning rate shrinks with it. Projections
    to a fixed number of outputs (a router's scores, a gate for each head) are treated as hidden ones.
    """

    _: KW_ONLY
    base_dim: int
    base_head_dim: int
    zero_head: bool = False
    base_fan_in: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(base_dim=self.base_dim, base_head_dim=self.base_head_dim)
        check_positive(**{f"base_fan_in.{name}": fan_in for name, fan_in in (self.base_fan_in or {}).items()})

    def __call__(self, model: DecoderCosts) -> Initialisation:
        roles = parameter_roles(model)
        shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        for part, fan_in in (self.base_fan_in or {}).items():
            if not any(_is_part(part, name) for name in shapes):
                raise ValueError(
                    f"base_fan_in.{part}={fan_in} must be for a part of a parameter's name, such as {min(shapes)}"
                )
        hidden = [name for name, role in roles.items() if role in ("matrix", "residual")]
        growth = {name: self.growth(model, name, shapes[name]) for name in hidden}
        score_scales = {}
        for name, module in model.named_modules():
            if isinstance(scores := getattr(module, "scores", None), Scores):
                width: Any = getattr(module, "query_width", None) or module.head_dim
                if width != self.base_head_dim:
                    score_scales[name] = scores.factor(self.base_head_dim) * self.base_head_dim / width
        return replace(
            super().__call__(model),
            lr_multipliers={name: 1.0 / factor for name, factor in growth.items() if factor != 1.0},
            logits_scale=self.base_dim / model.dim,
            embedding_scale=None if model.dim == self.base_dim else math.sqrt(self.base_dim),
            score_scales=score_scales,
        )

    def deviation(self, model: DecoderCosts, name: str, shape: torch.Size, role: Role) -> float:
        if role == "head" and self.zero_head:
            return 0.0
        deviation = super().deviation(model, name, shape, role)
        if role not in ("matrix", "residual"):
            return deviation
        return deviation / math.sqrt(self.growth(model, name, shape))

    def growth(self, model: DecoderCosts, name: str, shape: torch.Size) -> float:
        """Fan-in of a parameter over what it is in the base model."""
        for part, base in (self.base_fan_in or {}).items():
            if _is_part(part, name):
                return shape[-1] / base
        return model.dim / self.base_dim


def _is_part(part: str, name: str) -> bool:
    """Whether the words of ``part`` stand together in the dotted ``name``."""
    return f".{part}." in f".{name}."
