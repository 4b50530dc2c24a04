"""Initial weights, keyed by name."""

import hashlib
import math
from typing import TYPE_CHECKING

import torch

from atomiclm.model.roles import parameter_roles
from atomiclm.model.rules import check_positive

if TYPE_CHECKING:
    from atomiclm.model.decoder import Decoder


class NormalInit:
    """Every weight is drawn from N(0, std^2); projections into the residual stream from N(0, std^2 / (2 num_layers)).

    There are two such projections a layer, so their sum over all layers has the variance of one (Radford et al. 2019,
    GPT-2, section 2.3). ``residual_scale=False`` leaves the division out. Biases start at 0, gains as their norm made
    them. Embeddings and an untied head are weights like the others. std 0.02 is GPT-2's, for dim 768 and about.

    A parameter's numbers depend on the seed, its name and its shape alone: not on the other parameters, on the order of
    building, on the device (they are drawn on the CPU in float32) or on the global random state, which is neither read
    nor moved. Two models with a tensor in common start from the same tensor.
    """

    def __init__(self, seed: int = 0, std: float = 0.02, residual_scale: bool = True) -> None:
        check_positive("std", std)
        self.seed = seed
        self.std = std
        self.residual_scale = residual_scale

    @torch.no_grad()
    def __call__(self, model: "Decoder") -> None:
        """Fill the parameters of ``model`` in place; on the meta device there is nothing to fill."""
        roles = parameter_roles(model)
        for name, parameter in model.named_parameters():
            role = roles[name]
            if role == "gain" or parameter.is_meta:
                continue
            if role == "bias":
                parameter.zero_()
                continue
            depth = 2 * model.num_layers if role == "residual" and self.residual_scale else 1
            parameter.copy_(_standard_normal(parameter.shape, self.seed, name) * (self.std / math.sqrt(depth)))


def _standard_normal(shape: torch.Size, seed: int, name: str) -> torch.Tensor:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.empty(shape, dtype=torch.float32, device="cpu").normal_(generator=generator)
