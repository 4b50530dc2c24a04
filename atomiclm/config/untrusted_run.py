"""A model out of a run folder, which may come from a stranger: judged before anything of its size is allocated."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomiclm.config.bounds import model_size_faults
from atomiclm.config.build import build
from atomiclm.config.validate import node_faults
from atomiclm.user_error import UserError

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER_BYTES = 10_000_000
"""Of a safetensors file: names and shapes of some 80,000 tensors. The library itself accepts ten times as much."""


def checked_model(model: Any) -> dict[str, Any]:
    """Return the `model` of a config.yaml, judged as one that was composed is.

    Raises:
        ValueError: its faults, each with its path.
    """
    if not isinstance(model, dict):
        raise UserError("model: is no mapping, and so no component")
    faults = node_faults("model", model) or list(model_size_faults(model))
    if faults:
        raise UserError("; ".join(map(str, faults[:8])))
    return model


def check_weights_fit(model: dict[str, Any], weights: Path) -> None:
    """Hold the shapes of a safetensors file against those of a `model`, with neither of them in memory.

    Raises:
        ValueError: names or shapes differ, or the file is damaged.
    """
    import torch

    from atomiclm.training.state import load_tensors

    found = _shapes(weights)
    with torch.device("meta"):
        decoder = build(model)
    try:
        load_tensors(decoder, found)
    except UserError as error:
        raise UserError(f"model: {error}") from error


def _shapes(weights: Path) -> "dict[str, Tensor]":
    """The tensors of a safetensors file, with shapes and no numbers."""
    import safetensors
    import torch

    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise UserError(f"{weights.name} is damaged: its header has {length:,} bytes, more than {MAX_HEADER_BYTES:,}")
    try:
        with safetensors.safe_open(weights, "pt") as stored:
            names = stored.keys()
            return {name: torch.empty(stored.get_slice(name).get_shape(), device="meta") for name in names}
    except safetensors.SafetensorError as error:
        raise UserError(f"{weights.name} is damaged: {error}") from error
