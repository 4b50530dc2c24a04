"""The position-wise network of a block: plain, and gated."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atomiclm.model.accounting import Accounted
from atomiclm.model.components import ResidualLinear, check_choice, check_positive

Activation = Literal["gelu", "gelu_tanh", "identity", "relu", "relu_squared", "sigmoid", "silu"]
"""gelu           x Phi(x)                       Hendrycks, Gimpel 2016, arXiv 1606.08415
gelu_tanh      its tanh approximation, as in GPT-2
identity       x
relu           max(x, 0)
relu_squared   max(x, 0)^2                    So et al. 2021 (Primer), arXiv 2109.08668
sigmoid        1 / (1 + exp(-x))
silu           x sigmoid(x)                   also called swish; Ramachandran et al. 2017, arXiv 1710.05941
"""


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "identity": lambda x: x,
    "relu": F.relu,
    "relu_squared": lambda x: F.relu(x).square(),
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
}


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    check_choice(_FUNCTIONS, activation=name)
    return _FUNCTIONS[name]


def tensors_saved(name: str) -> int:
    """How many tensors of its input's size the activation saves for the backward pass, beside its output: 0 or 1."""
    # The derivative of these is a function of their output, which the next product saves anyway.
    return 0 if name in ("identity", "relu", "sigmoid") else 1


@dataclass(eq=False, repr=False)
class FeedForward(Accounted):
    """``down(activation(up(x)))``, applied to each token: (batch, time, dim) to the same. ``hidden_dim=None`` is 4 dim.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.3 (ReLU); GELU as in GPT-2 (Radford et al. 2019); the
    squared ReLU of Primer (So et al. 2021, arXiv 2109.08668).
    """

    dim: int
    hidden_dim: int | None = None
    activation: Activation = "gelu"
    bias: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(hidden_dim=self.hidden_dim)
        self._activate = activation_function(self.activation)
        self.hidden_dim = width = 4 * self.dim if self.hidden_dim is None else self.hidden_dim
        self.up = nn.Linear(self.dim, width, bias=self.bias)
        self.down = ResidualLinear(width, self.dim, bias=self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.down(self._activate(self.up(hidden)))

    def activation_elements_per_token(self, context_length: int) -> int:
        """The inputs of the two projections, and of the activation where its derivative is taken from there."""
        return self.dim + (1 + tensors_saved(self.activation)) * self.up.out_features


@dataclass(eq=False, repr=False)
class GatedFeedForward(Accounted):
    """``down(activation(gate(x)) * up(x))``, applied to each token: (batch, time, dim) to the same.

    ``hidden_dim=None`` applies the 2/3 rule: ``2/3 * 4 dim``, rounded up to a multiple of ``multiple_of``, gives its
    three matrices the parameters of a plain network's two. A hidden_dim that is given is taken as it is.

    Source: Shazeer 2020, arXiv 2002.05202, section 2: equations 5 and 6, and the 2/3.
    """

    dim: int
    hidden_dim: int | None = None
    activation: Activation = "silu"
    multiple_of: int = 8
    bias: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(hidden_dim=self.hidden_dim)
        self._activate = activation_function(self.activation)
        width = two_thirds(self.dim, self.multiple_of) if self.hidden_dim is None else self.hidden_dim
        self.hidden_dim = width
        self.gate = nn.Linear(self.dim, width, bias=self.bias)
        self.up = nn.Linear(self.dim, width, bias=self.bias)
        self.down = ResidualLinear(width, self.dim, bias=self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.down(self._activate(self.gate(hidden)) * self.up(hidden))

    def activation_elements_per_token(self, context_length: int) -> int:
        """The input, both factors and their product, and the activation's input where its derivative needs that."""
        return self.dim + (3 + tensors_saved(self.activation)) * self.up.out_features


class SwiGLU(GatedFeedForward):
    """``down(silu(gate(x)) * up(x))`` (Shazeer 2020, arXiv 2002.05202, equation 6), the gated network of LLaMA."""

    def __init__(self, dim: int, hidden_dim: int | None = None, multiple_of: int = 8, bias: bool = False) -> None:
        super().__init__(dim, hidden_dim, "silu", multiple_of, bias)


class GEGLU(GatedFeedForward):
    """``down(gelu(gate(x)) * up(x))`` (Shazeer 2020, arXiv 2002.05202, equation 6); transformers' Gemma has
    "gelu_tanh".
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int | None = None,
        activation: Literal["gelu", "gelu_tanh"] = "gelu",
        multiple_of: int = 8,
        bias: bool = False,
    ) -> None:
        check_choice(("gelu", "gelu_tanh"), activation=activation)
        super().__init__(dim, hidden_dim, activation, multiple_of, bias)


class ReGLU(GatedFeedForward):
    """``down(relu(gate(x)) * up(x))`` (Shazeer 2020, arXiv 2002.05202, equation 6)."""

    def __init__(self, dim: int, hidden_dim: int | None = None, multiple_of: int = 8, bias: bool = False) -> None:
        super().__init__(dim, hidden_dim, "relu", multiple_of, bias)


class GLU(GatedFeedForward):
    """``down(sigmoid(gate(x)) * up(x))``: the gated linear unit (Dauphin et al. 2016, arXiv 1612.08083)."""

    def __init__(self, dim: int, hidden_dim: int | None = None, multiple_of: int = 8, bias: bool = False) -> None:
        super().__init__(dim, hidden_dim, "sigmoid", multiple_of, bias)


class Bilinear(GatedFeedForward):
    """``down(gate(x) * up(x))``: a gate without an activation (Shazeer 2020, arXiv 2002.05202, equation 6)."""

    def __init__(self, dim: int, hidden_dim: int | None = None, multiple_of: int = 8, bias: bool = False) -> None:
        super().__init__(dim, hidden_dim, "identity", multiple_of, bias)


@dataclass(eq=False, repr=False)
class ClampedSwiGLU(GatedFeedForward):
    """``down((u + 1) g sigmoid(alpha g))``, ``g = min(gate(x), limit)``, ``u = clamp(up(x), -limit, limit)``.

    The experts of gpt-oss: bounded factors, and a linear part beside the product. alpha 1.702 makes ``g sigmoid(alpha
    g)`` close to GELU (Hendrycks, Gimpel 2016, arXiv 1606.08415, section 2). Source: OpenAI 2025, gpt-oss model card,
    arXiv 2508.10925, and its reference implementation.
    """

    alpha: float = field(default=1.702, kw_only=True)
    limit: float = field(default=7.0, kw_only=True)
    activation: Activation = field(default="silu", init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(alpha=self.alpha, limit=self.limit)

    def forward(self, hidden: Tensor) -> Tensor:
        gate = self.gate(hidden).clamp(max=self.limit)
        up = self.up(hidden).clamp(-self.limit, self.limit)
        return self.down((up + 1) * (gate * (self.alpha * gate).sigmoid()))

    def activation_elements_per_token(self, context_length: int) -> int:
        """The input; both factors before and after clamping, the sigmoid, its product, the product of all."""
        return self.dim + 7 * self.up.out_features


def two_thirds(dim: int, multiple_of: int, parts: int = 1) -> int:
    """Width of a gated network with the parameters of a plain one of width ``4 dim``, divided into ``parts``.

    ``ceil(8 dim / (3 parts multiple_of)) * multiple_of``, in integers.
    """
    check_positive(multiple_of=multiple_of)
    return -(-8 * dim // (3 * parts * multiple_of)) * multiple_of
