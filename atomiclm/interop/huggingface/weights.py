"""Tensors under our names and under theirs, with the features of each rotated pair where either has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from atomiclm.cli import UserError
from atomiclm.model import Decoder, LatentAttention, RotaryEmbedding

if TYPE_CHECKING:
    from atomiclm.interop.huggingface.architecture import Architecture

Layout = Literal["adjacent", "half", "half_reversed"]
"""Positions of pair i among r rotated features: (2i, 2i + 1); (i, i + r/2); (i + r/2, i), the other way round."""


@dataclass(frozen=True)
class Weight:
    """The same numbers here and there.

    Several tensors of ours lie in one of theirs, along the first dimension: end to end, or with `heads` (queries, keys
    and values) as rows (heads, 3, head_dim). Where they are `stacked`, several of theirs are the slices of one of ours.
    `transposed`: whether a matrix of theirs is (inputs, outputs).
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    transposed: bool = False
    heads: int | None = None
    stacked: bool = False

    def to_theirs(self, tensors: list[Tensor]) -> list[Tensor]:
        if self.stacked:
            return list(tensors[0].unbind(0))
        whole = tensors[0]
        if len(tensors) > 1:
            by_head = [tensor.unflatten(0, (self.heads or 1, -1)) for tensor in tensors]
            whole = torch.cat(by_head, 1).flatten(0, 1)
        return [whole.mT if self.transposed and whole.ndim == 2 else whole]

    def to_ours(self, tensors: list[Tensor]) -> list[Tensor]:
        if self.stacked:
            return [torch.stack(tensors)]
        whole = tensors[0].mT if self.transposed and tensors[0].ndim == 2 else tensors[0]
        if len(self.ours) == 1:
            return [whole]
        by_head = whole.unflatten(0, (self.heads or 1, -1))
        return [part.flatten(0, 1) for part in by_head.tensor_split(len(self.ours), 1)]


def our_tensors(model: Decoder) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, a tied one once; what multi-token prediction adds is left out."""
    return {
        name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if not name.startswith("lookahead.")
    }


def _positions(layout: Layout, rotated: int) -> Tensor:
    """Where the two features of pair 0, of pair 1, ... lie."""
    features = torch.arange(rotated)
    if layout == "adjacent":
        return features
    halves = features.view(2, -1)
    return (halves if layout == "half" else halves.flip(0)).mT.flatten()


def _rotary_rows(model: Decoder, layout: Layout) -> dict[str, Tensor]:
    """For each tensor of ours that makes rotated features: our row of each of their rows, where they differ."""
    found: dict[str, Tensor] = {}
    for layer, block in enumerate(model.layers):
        scheme, attention = model.position.of_layer(layer), block.attention
        if not isinstance(scheme, RotaryEmbedding) or scheme.layout == layout:
            continue
        # The parts that make rotated features, or have a gain for each, and how many others a head has before them.
        before = {"query": 0, "key": 0, "query_key_norm": 0}
        if isinstance(attention, LatentAttention):
            before = {"query": attention.content_dim, "squeeze": attention.latent_dim}
        for name, parameter in attention.named_parameters():
            if (part := name.partition(".")[0]) not in before:
                continue
            first, width = before[part], before[part] + attention.head_dim
            rows = torch.arange(width)
            rows[first + _positions(layout, scheme.rotated)] = first + _positions(scheme.layout, scheme.rotated)
            heads = torch.arange(parameter.shape[0] // width)
            found[f"blocks.{layer}.attention.{name}"] = (heads[:, None] * width + rows).flatten()
    return found


def to_theirs(architecture: "Architecture", model: Decoder, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by their names, of tensors by our names (the parameters of ``model``, or their gradients)."""
    rows = _rotary_rows(model, architecture.rotary_layout)
    theirs: dict[str, Tensor] = {}
    for weight in architecture.weights(model):
        ours = [tensors[name][rows[name]] if name in rows else tensors[name] for name in weight.ours]
        theirs |= zip(weight.theirs, weight.to_theirs(ours), strict=True)
    return theirs


def to_ours(architecture: "Architecture", model: Decoder, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse. Raises UserError where a tensor is missing, has another shape, or has no place in the model."""
    weights = architecture.weights(model)
    wanted = {name for weight in weights for name in weight.theirs}
    if missing := sorted(wanted - tensors.keys()):
        raise UserError(f"the weights lack {len(missing)} tensors, such as {missing[0]}; is the folder complete?")
    left = {name for name in tensors.keys() - wanted if not architecture.is_redundant(name, tensors, model)}
    if left:
        raise UserError(
            f"the weights hold {len(left)} tensors that {architecture.class_name} as config.json describes it has not, "
            f"such as {min(left)}"
        )
    rows = _rotary_rows(model, architecture.rotary_layout)
    shapes = {name: tensor.shape for name, tensor in our_tensors(model).items()}
    ours: dict[str, Tensor] = {}
    for weight in weights:
        parts = weight.to_ours([tensors[name] for name in weight.theirs])
        for name, part in zip(weight.ours, parts, strict=True):
            if part.shape != shapes[name]:
                raise UserError(
                    f"{' + '.join(weight.theirs[:3])} has the shape {tuple(part.shape)} where config.json says "
                    f"{tuple(shapes[name])}"
                )
            if not part.is_floating_point():
                raise UserError(f"{weight.theirs[0]} holds {part.dtype}, not floating-point numbers")
            ours[name] = part[rows[name].argsort()] if name in rows else part
    return ours
