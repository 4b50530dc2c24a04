"""Whether transformers, where it is installed, computes from an exported folder what the exported model computes."""

import importlib.util
import warnings
from pathlib import Path

import torch
from torch import Tensor

from atomiclm.cli import UserError
from atomiclm.interop.describe import blocks_of, window_of
from atomiclm.interop.huggingface.load import load_huggingface
from atomiclm.model import Decoder

LONGEST_TEXT = 512
"""Tokens that are tried at most; otherwise enough for the widest window to leave some out."""
GENERATED = 4
TOLERANCE = 1e-3
"""Of the largest logit. Two implementations in float32 differ by a thousandth of that."""


def verify(folder: Path, class_name: str) -> None:
    """Load the folder here and there, and compare logits: here and there, and there with a cache and without one.

    Raises:
        UserError: transformers refuses the folder, or computes something else.
    """
    ours = load_huggingface(folder, tokenizer=False)[0]
    if importlib.util.find_spec("transformers") is None:
        return
    count = min(GENERATED, ours.context_length)
    tokens = _text(ours, ours.context_length - count + 1)
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


def _text(model: Decoder, longest: int) -> Tensor:
    """Token ids to go on from."""
    windows = [window_of(block.attention) or 0 for block in blocks_of(model)]
    length = min(max(16, *windows) + 1, LONGEST_TEXT, longest)
    return torch.randint(model.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))


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
