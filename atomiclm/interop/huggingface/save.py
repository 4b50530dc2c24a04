"""A folder that `AutoModelForCausalLM` and `AutoTokenizer` load."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from atomiclm.atomic_io import new_folder
from atomiclm.cli import UserError
from atomiclm.interop.huggingface.architectures import express
from atomiclm.interop.huggingface.verify import verify
from atomiclm.interop.huggingface.weights import our_tensors, to_theirs
from atomiclm.interop.tokenizer_json import tokenizer_config, tokenizer_json
from atomiclm.model import Decoder
from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer


@dataclass(frozen=True)
class Exported:
    """What was written: the class that loads it, the files with their sizes in bytes, and what was left out."""

    folder: Path
    class_name: str
    files: dict[str, int]
    left_out: list[str]


def save_huggingface(
    model: Decoder, folder: str | Path, tokenizer: BasicTokenizer | None = None, dtype: torch.dtype | None = None
) -> Exported:
    """Write a model, and its tokenizer, the way transformers keeps them.

    `model.safetensors`, `config.json`, `generation_config.json`, and with a tokenizer `tokenizer.json` and
    `tokenizer_config.json`. The folder appears complete or not at all, and once it is known to load and to compute the
    same, with transformers too where that is installed.

    Args:
        model: any decoder that an architecture of transformers can express; dropout is not part of it.
        folder: does not exist yet, or is empty.
        tokenizer: None writes the model alone.
        dtype: of the written weights; None keeps that of the model.

    Raises:
        UserError: no architecture says all of the model, with the options it cannot say; the tokenizer cannot be said;
            transformers computes something else; the folder is not empty.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):  # before minutes of work
        raise UserError(f"{folder} is not an empty folder; name one that does not exist yet")
    architecture, config = express(model)
    contents = {"config.json": {"architectures": [architecture.class_name], "model_type": architecture.model_type}}
    tensors = to_theirs(architecture, model, our_tensors(model))
    # Buffers are not weights: a correction of a router's choice is finer than bfloat16.
    parameters = {name for name, _ in model.named_parameters()}
    cast = {
        name for weight in architecture.weights(model) if parameters.issuperset(weight.ours) for name in weight.theirs
    }
    written = {
        name: tensor.detach().to("cpu", dtype if name in cast else None, copy=True).contiguous()
        for name, tensor in tensors.items()
    }
    special = _special_ids(tokenizer)
    kept = model.embedding.weight.dtype if dtype is None else dtype
    contents["config.json"] |= {**config, "dtype": str(kept).removeprefix("torch."), **special}
    contents["generation_config.json"] = dict(special)
    if tokenizer is not None:
        contents["tokenizer.json"] = tokenizer_json(tokenizer)
        contents["tokenizer_config.json"] = tokenizer_config(tokenizer, model.context_length)
    try:
        with new_folder(folder) as partial:
            safetensors.torch.save_file(written, partial / "model.safetensors", metadata={"format": "pt"})
            for name, content in contents.items():
                text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
                (partial / name).write_text(text + "\n", encoding="utf-8")
            verify(partial, architecture.class_name)
            files = {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
    except safetensors.SafetensorError as error:  # what a full disk is called by the library
        raise OSError(f"cannot write {folder}: {error}") from error
    left_out = [] if model.lookahead is None else ["lookahead: prediction of further tokens, used in training only"]
    return Exported(folder, architecture.class_name, files, left_out)


def _special_ids(tokenizer: BasicTokenizer | None) -> dict[str, Any]:
    """Ids that generation needs; null where there are none, since transformers would put a number of its own."""
    end = None if tokenizer is None else tokenizer.special_tokens.get(END_OF_TEXT)
    return {"bos_token_id": end, "eos_token_id": end, "pad_token_id": None}
