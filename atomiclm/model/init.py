"""Initial weights, keyed by name."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from atomiclm.model.accounting import DecoderCosts
from atomiclm.model.components import check_not_negative, check_positive, parameter_roles
from atomiclm.roles import Role


@dataclass(frozen=True)
class Initialisation:
    """What an initialiser returns for a decoder, which applies it once.

    weight            the first value of the parameter of that name; None leaves it as its module made it
    lr_multipliers    factors on the learning rate by name, which optimizers apply; 1 where a name is missing
    logits_scale      factor on the scale of the head
    embedding_scale   scale of an ``Embedding`` in place of "sqrt_dim"; None leaves that
    score_scales      scale of the ``Scores`` in the attention of that name
    """

    weight: Callable[[str], Tensor | None]
    lr_multipliers: Mapping[str, float] = field(default_factory=dict)
    logits_scale: float = 1.0
    embedding_scale: float | None = None
    score_scales: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Initialiser(ABC):
    """First values of a model's parameters. Biases are 0, gains as their module made them; a subclass says the rest.

    A parameter's numbers depend on the seed, its name and its shape alone: not on other parameters, the order of
    building, the device (they are drawn on the CPU in float32) or the global random state, which is neither read nor
    moved.
    """

    seed: int = 0

    def __call__(self, model: DecoderCosts) -> Initialisation:
        roles = parameter_roles(model)
        shapes = {name: parameter.shape for name, parameter in model.named_parameters()}

        def weight(name: str) -> Tensor | None:
            if roles[name] == "gain":
                return None
            std = 0.0 if roles[name] == "bias" else self.deviation(model, name, shapes[name], roles[name])
            return self.draw(name, shapes[name]) * std if std else torch.zeros(shapes[name])

        return Initialisation(weight)

    @abstractmethod
    def deviation(self, model: DecoderCosts, name: str, shape: torch.Size, role: Role) -> float:
        """The factor on what ``draw`` gives for a parameter that is neither gain nor bias; 0 starts it at zero."""

    def draw(self, name: str, shape: torch.Size) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device="cpu").normal_(generator=self.generator(name))

    def generator(self, name: str) -> torch.Generator:
        """A source of random numbers that depends on the seed and the name alone."""
        digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass
class NormalInit(Initialiser):
    """Every weight from N(0, std^2), projections into the residual stream from N(0, std^2 / (2 num_layers)).

    There are two of those a layer, so their sum over all layers has the variance of one (Radford et al. 2019, GPT-2,
    section 2.3); ``residual_scale=False`` leaves the division out. std 0.02 is GPT-2's, for dim 768 and about.
    """

    std: float = 0.02
    residual_scale: bool = True

    def __post_init__(self) -> None:
        check_positive(std=self.std)

    def deviation(self, model: DecoderCosts, name: str, shape: torch.Size, role: Role) -> float:
        return self.std / math.sqrt(2 * model.num_layers if role == "residual" and self.residual_scale else 1)


@dataclass
class TruncatedNormalInit(NormalInit):
    """As ``NormalInit``, from a normal distribution without its tails: no weight is beyond ``cut`` deviations.

    std is the deviation before the cut; what is left has 0.987 of it at cut = 3, 0.880 at 2. OLMo 2 has std 0.02, cut 3
    and no residual_scale (OLMo Team 2024, arXiv 2501.00656).
    """

    cut: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(cut=self.cut)

    def draw(self, name: str, shape: torch.Size) -> Tensor:
        """From N(0, 1) within -cut and cut: uniform between the two probabilities, through the inverse of Phi."""
        tail = 0.5 * math.erfc(self.cut / math.sqrt(2))
        # In float64: near its ends, the inverse would turn float32's rounding into visible steps.
        probabilities = torch.empty(shape, dtype=torch.float64, device="cpu")
        probabilities.uniform_(tail, 1 - tail, generator=self.generator(name))
        return torch.special.ndtri(probabilities).clamp(-self.cut, self.cut).float()


class ZeroOutputInit(NormalInit):
    """As ``NormalInit``, but projections into the residual stream start at 0: at first every block passes on its input.

    Source: Zhang, Dauphin, Ma 2019 (Fixup), arXiv 1901.09321, for the last layer of each branch; modded-nanogpt and
    nanochat for both projections of a block.
    """

    def __init__(self, seed: int = 0, std: float = 0.02) -> None:
        super().__init__(seed, std, residual_scale=False)

    def deviation(self, model: DecoderCosts, name: str, shape: torch.Size, role: Role) -> float:
        return 0.0 if role == "residual" else self.std


@dataclass
class FanInInit(Initialiser):
    """Matrices (..., fan_out, fan_in) from N(0, (gain^2 / fan_in) * min(1, fan_out / fan_in)).

    embedding_std   of token (and learned position) embeddings
    head_std        of an untied head; 0 starts it at zero
    zero_output     start projections into the residual stream at 0

    Source: Yang, Simon, Bernstein 2023, arXiv 2310.17813 (a spectral condition for feature learning), as nanochat used
    it first: embeddings of deviation 1, zero output projections, zero head.
    """

    gain: float = 1.0
    embedding_std: float = 1.0
    head_std: float = 0.0
    zero_output: bool = True

    def __post_init__(self) -> None:
        check_positive(gain=self.gain, embedding_std=self.embedding_std)
        check_not_negative(head_std=self.head_std)

    def deviation(self, model: DecoderCosts, name: str, shape: torch.Size, role: Role) -> float:
        if role == "embedding":
            return self.embedding_std
        if role == "head":
            return self.head_std
        if role == "residual" and self.zero_output:
            return 0.0
        fan_out, fan_in = shape[-2:]
        return self.gain / math.sqrt(fan_in) * min(1.0, math.sqrt(fan_out / fan_in))
