"""A decoder from a folder that transformers wrote, or `save_huggingface`."""

import math
from pathlib import Path
from typing import Any

import torch

from atomiclm.interop.huggingface.architecture import Architecture
from atomiclm.interop.huggingface.architectures import architecture_of
from atomiclm.interop.huggingface.express import build
from atomiclm.interop.huggingface.files import (
    check_kinds,
    check_layers,
    read_object,
    shapes_in,
    tensors_in,
    weight_files,
)
from atomiclm.interop.huggingface.tokenizer_import import read_tokenizer
from atomiclm.interop.huggingface.weights import to_ours
from atomiclm.model import Decoder
from atomiclm.tokenizer import BasicTokenizer
from atomiclm.user_error import UserError

SLACK = 1 << 24
"""Parameters that may be built in vain, 64 MiB of them, to say precisely which tensors are missing."""


def load_huggingface(
    folder: str | Path, dtype: torch.dtype = torch.float32, tokenizer: bool = True
) -> tuple[Decoder, BasicTokenizer | None]:
    """Read a model, and its tokenizer where there is one.

    Args:
        folder: with `config.json` and `model.safetensors`, or its shards and their index.
        dtype: of the parameters.
        tokenizer: whether `tokenizer.json` is read too. Only byte-level BPE as atomiclm exports it can be.

    Returns:
        The decoder in evaluation mode on the CPU, without dropout; the tokenizer, None without a `tokenizer.json`.

    Raises:
        ValueError: the architecture is not known, an option of it is not, or the tensors do not fit; the message names
            the key or the tensor. Nothing is ignored that changes the function.
        OSError: a file cannot be read.
    """
    folder = Path(folder)
    config = read_object(folder / "config.json")
    where = str(folder / "config.json")
    architecture = architecture_of(str(config.get("model_type"))[:100], where)
    paths = weight_files(folder)
    shapes = shapes_in(paths)
    check_layers(where, config, len(shapes))
    # First without memory: a few bytes of configuration can ask for more of it than any machine has.
    with torch.device("meta"):
        sizes = _build(architecture, config, where)
    wanted, stored = sum(p.numel() for p in sizes.parameters()), sum(map(math.prod, shapes.values()))
    if wanted > stored + SLACK:  # a smaller difference is told below, by the tensors
        raise UserError(f"{where} describes {wanted:,} parameters, but the weights are {stored:,} numbers")
    model = _build(architecture, config, where).to(dtype)
    tensors = architecture.with_prefix(tensors_in(paths))
    try:
        ours = to_ours(architecture, model, tensors)
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from error
    except RuntimeError as error:  # what torch says where parts of a tensor cannot be taken apart
        raise UserError(f"{folder}: the weights have other shapes than {where} says ({error!s:.200})") from error
    check_kinds(folder, ours)
    model.load_state_dict(ours, strict=False)
    path = folder / "tokenizer.json"
    return model.eval(), read_tokenizer(path) if tokenizer and path.exists() else None


def _build(architecture: Architecture, config: dict[str, Any], where: str) -> Decoder:
    try:
        return build(architecture, config, where)
    except ValueError as error:
        text = str(error) if where in str(error) else f"{where}: {error}"
        raise UserError(f"{text:.2000}") from error  # a message may quote the file, which may be a stranger's
    except (ArithmeticError, RuntimeError, TypeError) as error:
        # Every key is of its kind by now; what is left are sizes that do not go together.
        raise UserError(f"{where} describes no model that can be built ({error!s:.200})") from error
