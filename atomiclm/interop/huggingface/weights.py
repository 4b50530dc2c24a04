"""Tensors under our names and under theirs, the same function in both."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from atomiclm.interop.huggingface.rotary_rows import rotary_rows
from atomiclm.model import Decoder
from atomiclm.user_error import UserError

if TYPE_CHECKING:
    from atomiclm.interop.huggingface.architecture import Architecture

Transform = Callable[[list[Tensor]], list[Tensor]]


def _same(tensors: list[Tensor]) -> list[Tensor]:
    return tensors


@dataclass(frozen=True)
class Weight:
    """Tensors of ours that are, after ``to_theirs``, tensors of theirs; ``to_ours`` is its inverse."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    to_theirs: Transform = _same
    to_ours: Transform = _same


def transposed(weight: Weight) -> Weight:
    """The same with one matrix of theirs kept as (inputs, outputs)."""
    return Weight(
        weight.ours,
        weight.theirs,
        lambda tensors: [weight.to_theirs(tensors)[0].mT],
        lambda tensors: weight.to_ours([tensors[0].mT]),
    )


def unstacked(ours: str, theirs: Iterable[str]) -> Weight:
    """One tensor whose slices along the first dimension are tensors of their own."""
    names = tuple(theirs)
    return Weight((ours,), names, lambda tensors: list(tensors[0].unbind(0)), lambda tensors: [torch.stack(tensors)])


def joined(ours: Iterable[str], theirs: str, sizes: list[int]) -> Weight:
    """Tensors that they keep end to end along the first dimension, with these sizes."""
    return Weight(
        tuple(ours), (theirs,), lambda tensors: [torch.cat(tensors)], lambda tensors: list(tensors[0].split(sizes))
    )


def interleaved(ours: Iterable[str], theirs: str, num_heads: int) -> Weight:
    """Queries, keys and values that they keep head by head: (heads, 3, head_dim) rows."""

    def to_theirs(tensors: list[Tensor]) -> list[Tensor]:
        return [torch.stack([tensor.unflatten(0, (num_heads, -1)) for tensor in tensors], 1).flatten(0, 2)]

    def to_ours(tensors: list[Tensor]) -> list[Tensor]:
        return [part.flatten(0, 1) for part in tensors[0].unflatten(0, (num_heads, 3, -1)).unbind(1)]

    return Weight(tuple(ours), (theirs,), to_theirs, to_ours)


def our_tensors(model: Decoder) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, a tied one once; what multi-token prediction adds is left out."""
    persistent = set(model.state_dict())
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    tensors = {**dict(model.named_parameters()), **buffers}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("lookahead.")}


def to_theirs(architecture: "Architecture", model: Decoder, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by their names, of tensors by our names (the parameters of ``model``, or their gradients)."""
    rows = rotary_rows(model, architecture.rotary_layout)
    theirs: dict[str, Tensor] = {}
    for weight in architecture.weights(model):
        ours = [tensors[name][rows[name]] if name in rows else tensors[name] for name in weight.ours]
        theirs |= zip(weight.theirs, weight.to_theirs(ours), strict=True)
    return theirs


def to_ours(architecture: "Architecture", model: Decoder, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse: tensors by our names, for ``model``.

    Raises:
        ValueError: a tensor is missing, has another shape, or has no place in the model.
    """
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
    rows = rotary_rows(model, architecture.rotary_layout)
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
            ours[name] = part[rows[name].argsort()] if name in rows else part
    return ours
