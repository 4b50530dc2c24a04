"""The position-wise network of a block: plain, and gated."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from atomiclm.model.accounting import Accounted, matmul_flops
from atomiclm.model.linear import ResidualLinear
from atomiclm.model.rules import check_positive


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


# gelu is x Phi(x); gelu_tanh its tanh approximation, the one in GPT-2 (Hendrycks, Gimpel 2016, arXiv 1606.08415);
# silu is x sigmoid(x).
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": F.relu,
    "silu": F.silu,
}
Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation={name!r} is not known; choose one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


class FeedForward(Accounted):
    """``down(activation(up(x)))``, applied to each token: (batch, time, dim) to the same.

    ``hidden_dim=None`` is 4 dim. Parameters: ``2 dim hidden_dim`` plus biases; FLOPs a token: two for each weight.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.3; GELU as in GPT-2 (Radford et al. 2019).
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int | None = None,
        activation: Activation = "gelu",
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.hidden_dim = 4 * dim if hidden_dim is None else hidden_dim
        check_positive("hidden_dim", self.hidden_dim)
        self.activation = activation
        self._activate = _activation(activation)
        self.up = nn.Linear(dim, self.hidden_dim, bias=bias)
        self.down = ResidualLinear(self.hidden_dim, dim, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Apply to (batch, time, dim)."""
        return self.down(self._activate(self.up(hidden)))

    def flops_per_token(self, context_length: int) -> int:
        """Two for each weight; the context does not matter."""
        return matmul_flops(self.up, self.down)


class GatedFeedForward(Accounted):
    """``down(activation(gate(x)) * up(x))``, applied to each token: (batch, time, dim) to the same.

    ``hidden_dim=None`` applies the 2/3 rule: a gated network has three matrices where a plain one has two, so
    ``hidden_dim = 2/3 * 4 dim``, rounded up to a multiple of ``multiple_of``, gives it the plain one's parameters (or
    up to ``3 dim (multiple_of - 1)`` more, from the rounding). A hidden_dim that is given is taken as it is.
    Parameters: ``3 dim hidden_dim`` plus biases; FLOPs a token: two for each weight.

    Source: Shazeer 2020, arXiv 2002.05202, equations 5 and 6 and section 3 (the 2/3).
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int | None = None,
        activation: Activation = "silu",
        multiple_of: int = 8,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_positive("multiple_of", multiple_of)
        self.multiple_of = multiple_of
        # In integers: ceil(8 dim / 3 / multiple_of) * multiple_of, with no rounding of thirds.
        self.hidden_dim = -(-8 * dim // (3 * multiple_of)) * multiple_of if hidden_dim is None else hidden_dim
        check_positive("hidden_dim", self.hidden_dim)
        self.activation = activation
        self._activate = _activation(activation)
        self.gate = nn.Linear(dim, self.hidden_dim, bias=bias)
        self.up = nn.Linear(dim, self.hidden_dim, bias=bias)
        self.down = ResidualLinear(self.hidden_dim, dim, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Apply to (batch, time, dim)."""
        return self.down(self._activate(self.gate(hidden)) * self.up(hidden))

    def flops_per_token(self, context_length: int) -> int:
        """Two for each weight; the context does not matter."""
        return matmul_flops(self.gate, self.up, self.down)


class SwiGLU(GatedFeedForward):
    """``down(silu(gate(x)) * up(x))``: the gated network of LLaMA; see ``GatedFeedForward`` for hidden_dim.

    Source: Shazeer 2020, arXiv 2002.05202, equation 6; Touvron et al. 2023, arXiv 2302.13971, section 2.2.
    """

    def __init__(self, dim: int, hidden_dim: int | None = None, multiple_of: int = 8, bias: bool = False) -> None:
        super().__init__(dim, hidden_dim, "silu", multiple_of, bias)
