"""NTK-aware scaling: a larger theta, so that fast pairs stay and the slowest is stretched; fixed, or by the length."""

from typing import Literal

import torch
from torch import Tensor

from atomiclm.model.rope import RotaryEmbedding, powers, trained_length
from atomiclm.model.rules import check_factor, check_ntk


class NTKAware(RotaryEmbedding):
    """RoPE with ``theta' = theta * factor^(rotated / (rotated - 2))``.

    The exponent is such that the slowest pair turns factor times slower (as in position interpolation) and the fastest
    as before. Angles: ``theta'^(-2i / rotated)`` radians a position.

    Source: bloc97 2023 (a post, "NTK-aware scaled RoPE"), written up in Peng et al. 2023, arXiv 2309.00071,
    section 3.1.
    """

    def __init__(
        self,
        head_dim: int,
        factor: float,
        theta: float = 10000.0,
        rotary_fraction: float = 1.0,
        layout: Literal["adjacent", "half"] = "adjacent",
    ) -> None:
        super().__init__(head_dim, theta, rotary_fraction, layout)
        check_factor("factor", factor)
        check_ntk(self.rotated)
        self.factor = factor

    def frequencies(self, length: int, device: torch.device | None = None) -> Tensor:
        """(rotated / 2,) float32: radians a position, whatever the length."""
        return 1.0 / powers(stretched_theta(self.theta, self.factor, self.rotated), self.rotated, device)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{super().extra_repr()}, factor={self.factor}"


class DynamicNTK(RotaryEmbedding):
    """NTK-aware scaling by as much as the length needs, and none up to ``original_length``.

    A sequence of ``length`` tokens is turned by ``theta' = theta * s^(rotated / (rotated - 2))`` with
    ``s = factor * max(length, original_length) / original_length - (factor - 1)``. With factor = 1, s is the length
    over the one trained on; larger factors stretch by more than that.

    original_length   length trained on, in tokens; None is the model's context_length

    Source: emozilla 2023 (a post, "Dynamically scaled RoPE"), in Peng et al. 2023, arXiv 2309.00071, section 3.3; the
    formula with a factor is Hugging Face's.

    Departure from the source: a sequence shorter than the model's context_length counts as that long (see
    ``Position.rotation``). In the source s follows the tokens seen so far, and cached decoding then differs from the
    full pass: keys keep the angles of an earlier s (transformers, issue 25104), and even where they are cached before
    rotation (the paper), what layers above the first have read was computed with an earlier s. Here the scaling is
    fixed within the context, as in vLLM and in training on whole windows, and follows the length of a pass only beyond
    it. With original_length=None there is none within the context, as in the source. Packed documents share the length
    of their row.
    """

    def __init__(
        self,
        head_dim: int,
        factor: float,
        original_length: int | None = None,
        theta: float = 10000.0,
        rotary_fraction: float = 1.0,
        layout: Literal["adjacent", "half"] = "adjacent",
        context_length: int | None = None,
    ) -> None:
        super().__init__(head_dim, theta, rotary_fraction, layout)
        check_factor("factor", factor)
        check_ntk(self.rotated)
        self.factor = factor
        self.original_length = trained_length(original_length, context_length)
        self.context_length = context_length

    def frequencies(self, length: int, device: torch.device | None = None) -> Tensor:
        """(rotated / 2,) float32: radians a position in a sequence of ``length`` tokens."""
        longer = max(length, self.original_length)
        factor = self.factor * longer / self.original_length - (self.factor - 1)
        return 1.0 / powers(stretched_theta(self.theta, factor, self.rotated), self.rotated, device)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{super().extra_repr()}, factor={self.factor}, original_length={self.original_length}"


def stretched_theta(theta: float, factor: float, rotated: int) -> float:
    """``theta * factor^(rotated / (rotated - 2))``: the slowest pair becomes factor times slower."""
    stretched: float = theta * factor ** (rotated / (rotated - 2))
    return stretched
