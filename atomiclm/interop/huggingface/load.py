"""A decoder from a folder that transformers wrote, or `save_huggingface`."""

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from atomiclm.interop.huggingface.architectures import architecture_of
from atomiclm.interop.huggingface.express import build
from atomiclm.interop.huggingface.tokenizer_import import read_tokenizer
from atomiclm.interop.huggingface.weights import to_ours
from atomiclm.model import Decoder
from atomiclm.tokenizer import BasicTokenizer


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
    config = _json(folder / "config.json")
    where = str(folder / "config.json")
    architecture = architecture_of(str(config.get("model_type")), where)
    model = build(architecture, config, where).to(dtype)
    tensors = architecture.with_prefix(_tensors(folder))
    try:
        ours = to_ours(architecture, model, tensors)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    model.load_state_dict(ours, strict=False)
    path = folder / "tokenizer.json"
    return model.eval(), read_tokenizer(path) if tokenizer and path.exists() else None


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; give a folder that transformers' save_pretrained, or export, wrote")
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object")
    return content


def _tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder; of shards, those that the index names."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if single.is_file():
        names = [single.name]
    elif index.is_file():
        names = sorted(set(_json(index)["weight_map"].values()))
    else:
        raise ValueError(f"{folder} has no model.safetensors; other formats run code when they are read")
    tensors: dict[str, Tensor] = {}
    for name in names:
        if Path(name).name != name:
            raise ValueError(f"{index} names {name!r}, which is not a file of this folder")
        try:
            tensors |= safetensors.torch.load_file(folder / name)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{folder / name} is damaged: {error}") from error
    return tensors
