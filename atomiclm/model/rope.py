"""Rotary position embedding. Its scalings to longer contexts are in `rope_scaling.py`."""

from dataclasses import KW_ONLY, dataclass
from math import ceil
from typing import Literal, get_args

import torch
from torch import Tensor

from atomiclm.model.components import check_choice, check_share
from atomiclm.model.position import Position, check_theta, wavelengths

Layout = Literal["adjacent", "half"]


@dataclass(eq=False, repr=False)
class RotaryEmbedding(Position):
    """Rotate each pair of query and key features by an angle that grows with the position.

    A pair is one complex number z_i. At position t it becomes ``z_i * exp(j * t * theta^(-2i / rotated))``, so the
    product of a query and a key depends on the distance between them alone. Shapes: (batch, heads, time, head_dim) to
    the same. No parameters; any length.

    theta             base of the wavelengths, which run from 2 pi to 2 pi theta^(1 - 2 / rotated) tokens
    rotary_fraction   share of the features that are rotated: the first ``rotated = int(head_dim * rotary_fraction)``,
                      an even number; the others pass as they are (GPT-NeoX, Phi)
    layout            which features are a pair: "adjacent" (2i, 2i + 1), "half" (i, i + rotated / 2). One is the other
                      after a permutation of the rows of the query and key projections

    Source: Su et al. 2021, arXiv 2104.09864, equations 14 and 34; neighbours as in LLaMA (Touvron et al. 2023, arXiv
    2302.13971); halves, and a part of the features, as in GPT-NeoX-20B (Black et al. 2022, arXiv 2204.06745).

    Angles and products are float32 or wider whatever the precision of the model: in bfloat16 positions beyond 256 are
    not even distinct. The table of angles is made for each forward pass and shared by its layers; a stored one could go
    stale. ``benchmarks/rope_layouts.py`` has what each way costs.
    """

    head_dim: int
    _: KW_ONLY
    theta: float = 10000.0
    rotary_fraction: float = 1.0
    layout: Layout = "adjacent"

    rotation_scale = 1.0
    """Factor on the rotated features, 1 unless a scaling has a temperature; scores feel its square."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(rotary_fraction=self.rotary_fraction)
        check_theta(self.theta)
        check_choice(get_args(Layout), layout=self.layout)
        head_dim, fraction = self.head_dim, self.rotary_fraction
        self.rotated = int(head_dim * fraction)
        if fraction == 1 and head_dim % 2:
            raise ValueError(
                f"head_dim={head_dim} is odd, but rotary positions rotate features in pairs; choose num_heads so that "
                "dim / num_heads is even, set head_dim to an even number, or use position=none or position=learned"
            )
        if self.rotated < 2 or self.rotated % 2:
            even = max(2, self.rotated - self.rotated % 2)
            raise ValueError(
                f"rotary_fraction={fraction} of head_dim={head_dim} is {self.rotated} features, but rotary positions "
                f"rotate features in pairs; {ceil(1e4 * even / head_dim) / 1e4} would rotate {even}"
            )

    def frequencies(self, length: int, device: torch.device | None = None) -> Tensor:
        """(rotated / 2,) float32: radians a position of each pair, ``theta^(-2i / rotated)``.

        ``length`` is that of the whole sequence (``Position.rotation``), for scalings that depend on it.
        """
        return 1.0 / wavelengths(self.theta, self.rotated, device)

    def rotation(self, positions: Tensor, length: int) -> Tensor:
        """Cosines and sines, float32, times ``rotation_scale``; with a dimension for heads if positions go by row.

        adjacent   (time, rotated / 2, 2): cosine and sine, that is ``exp(j * angle)``
        half       (2, time, rotated): cosines of both halves, and sines of both, the first half's negated
        """
        # Plain products only: autocast would take a matmul or einsum down to bfloat16.
        angles = positions[..., None].to(torch.float32) * self.frequencies(length, positions.device)
        if positions.ndim == 2:
            angles = angles[:, None]
        cosines, sines = angles.cos() * self.rotation_scale, angles.sin() * self.rotation_scale
        if self.layout == "adjacent":
            return torch.stack((cosines, sines), -1)
        return torch.stack((torch.cat((cosines, cosines), -1), torch.cat((-sines, sines), -1)))

    def rotate(self, vectors: Tensor, rotation: Tensor | None) -> Tensor:
        """Rotate the first ``rotated`` features of (batch, heads, time, head_dim) by the table."""
        assert rotation is not None, "the decoder passes what rotation() returned"
        part, rest = vectors.split((self.rotated, self.head_dim - self.rotated), -1)
        wide = part.to(torch.promote_types(vectors.dtype, torch.float32))
        if self.layout == "half":
            rotated = rotate_halves(wide, rotation)
        elif torch.compiler.is_compiling():
            rotated = rotate_adjacent_real(wide, rotation)
        else:
            rotated = rotate_adjacent(wide, rotation)
        rotated = rotated.to(vectors.dtype)
        return torch.cat((rotated, rest), -1) if rest.shape[-1] else rotated


def rotate_adjacent(vectors: Tensor, table: Tensor) -> Tensor:
    """Multiply pairs of neighbours (..., time, rotated), seen as complex numbers, by a table (time, rotated / 2, 2)."""
    strides = vectors.stride()
    if strides[-1] != 1 or vectors.storage_offset() % 2 or any([stride % 2 for stride in strides[:-1]]):
        vectors = vectors.contiguous()  # a pair that straddles two complex numbers cannot be seen as one
    pairs = torch.view_as_complex(vectors.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.view_as_complex(table)).flatten(-2)


def rotate_adjacent_real(vectors: Tensor, table: Tensor) -> Tensor:
    """The same without complex numbers, which the compiler does not fuse; run one by one these steps are slower."""
    real, imaginary = vectors.unflatten(-1, (-1, 2)).unbind(-1)
    cosines, sines = table.unbind(-1)
    rotated = (real * cosines - imaginary * sines, real * sines + imaginary * cosines)
    return torch.stack(rotated, -1).flatten(-2)


def rotate_halves(vectors: Tensor, table: Tensor) -> Tensor:
    """Rotate the pairs of the two halves of (..., time, rotated) by a table (2, time, rotated)."""
    cosines, sines = table.unbind(0)
    first, second = vectors.chunk(2, -1)
    return vectors * cosines + torch.cat((second, first), -1) * sines
