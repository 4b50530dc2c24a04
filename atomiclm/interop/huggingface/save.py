"""A folder that `AutoModelForCausalLM` and `AutoTokenizer` load, once they are known to compute the same from it."""

import importlib.util
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from atomiclm.atomic_io import new_folder
from atomiclm.cli import UserError
from atomiclm.interop.describe import windows_of
from atomiclm.interop.huggingface.architectures import express
from atomiclm.interop.huggingface.load import load_huggingface
from atomiclm.interop.huggingface.weights import our_tensors, to_theirs
from atomiclm.interop.tokenizer_json import tokenizer_config, tokenizer_json
from atomiclm.model import Decoder
from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer

LONGEST_TEXT = 512
"""Tokens that are tried at most; otherwise enough for the widest window to leave some out."""
GENERATED = 4
TOLERANCE = 1e-3
"""Of the largest logit. Two implementations in float32 differ by a thousandth of that."""


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

    The folder appears complete or not at all, and once it is known to load and to compute the same, with transformers
    too where that is installed.

    Args:
        model: any decoder that an architecture of transformers can express; dropout is not part of it.
        folder: does not exist yet, or is empty.
        tokenizer: for `tokenizer.json` and `tokenizer_config.json`, beside the model's three files.
        dtype: of the written weights; None keeps that of the model.

    Raises:
        UserError: no architecture says all of the model, or of the tokenizer; transformers computes something else; the
            folder is not empty.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):  # before minutes of work
        raise UserError(f"{folder} is not an empty folder; name one that does not exist yet")
    architecture, config = express(model)
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
    # null where there is none, since transformers would put a number of its own.
    end = None if tokenizer is None else tokenizer.special_tokens.get(END_OF_TEXT)
    special: dict[str, Any] = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": None}
    kept = model.embedding.weight.dtype if dtype is None else dtype
    named = {"architectures": [architecture.class_name], "model_type": architecture.model_type, **config}
    named |= {"dtype": str(kept).removeprefix("torch."), **special}
    contents: dict[str, Any] = {"config.json": named, "generation_config.json": special}
    if tokenizer is not None:
        contents["tokenizer.json"] = tokenizer_json(tokenizer)
        contents["tokenizer_config.json"] = tokenizer_config(tokenizer, model.context_length)
    try:
        with new_folder(folder) as partial:
            safetensors.torch.save_file(written, partial / "model.safetensors", metadata={"format": "pt"})
            for name, content in contents.items():
                text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
                (partial / name).write_text(text + "\n", encoding="utf-8")
            _verify(partial, architecture.class_name)
            files = {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
    except safetensors.SafetensorError as error:  # what a full disk is called by the library
        raise OSError(f"cannot write {folder}: {error}") from error
    left_out = [] if model.lookahead is None else ["lookahead: prediction of further tokens, used in training only"]
    return Exported(folder, architecture.class_name, files, left_out)


def _verify(folder: Path, class_name: str) -> None:
    """Compare logits: here and there (in transformers), and there with a cache and without one."""
    ours = load_huggingface(folder, tokenizer=False)[0]
    if importlib.util.find_spec("transformers") is None:
        return
    count = min(GENERATED, ours.context_length)
    length = min(
        max(16, *(window or 0 for window in windows_of(ours))) + 1, LONGEST_TEXT, ours.context_length - count + 1
    )
    tokens = torch.randint(ours.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # they are of that library's own affairs
        try:
            whole, cached, tokens = _theirs(folder, tokens, count)
        except Exception as error:  # whatever it raises
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(f"{class_name} of transformers refuses this model ({reason:.500})") from error
        expected = ours(tokens[:, :-1])
    if not _agree(whole, expected):
        raise UserError(f"{class_name} of transformers computes other logits than this model; it is not exported")
    if not _agree(cached, expected[:, -cached.shape[1] :]):
        raise UserError(
            f"{class_name} of transformers computes other logits with its cache than without; it is not exported"
        )


def _theirs(folder: Path, tokens: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The logits of a text at once, those of its end token by token with a cache, and the text."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        # The kernels that it otherwise takes for experts refuse sizes that are no multiples of 16 bytes.
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, experts_implementation="eager", local_files_only=True
        ).eval()
    finally:
        if shows_progress:
            logging.enable_progress_bar()
    generated = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
        use_cache=True,
        output_logits=True,
        return_dict_in_generate=True,
    )
    whole = model(generated.sequences[:, :-1], use_cache=False).logits
    return whole, torch.stack(generated.logits, 1), generated.sequences


def _agree(one: Tensor, other: Tensor) -> bool:
    scale = float(other.abs().nan_to_num().max())
    return torch.allclose(one, other, rtol=0, atol=TOLERANCE * scale, equal_nan=True)
