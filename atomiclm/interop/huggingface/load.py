"""A decoder from a folder that transformers wrote, or `save_huggingface`.

The folder may come from anyone: it is read within bounds, and never run. Weights are read from safetensors alone; a
pickle beside them is not opened. Links are followed, since the cache of Hugging Face is made of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from atomiclm.atomic_io import read_json
from atomiclm.cli import UserError
from atomiclm.interop.huggingface.architecture import Architecture
from atomiclm.interop.huggingface.architectures import architecture_of, build, read_arguments
from atomiclm.interop.huggingface.weights import to_ours
from atomiclm.interop.tokenizer_json import read_tokenizer
from atomiclm.model import Decoder, LayerPattern
from atomiclm.tokenizer import BasicTokenizer

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
        ValueError: the architecture or an option of it is not known, or the tensors do not fit; nothing is ignored that
            changes the function.
        OSError: a file cannot be read.
    """
    folder = Path(folder)
    architecture, config, where = _read_config(folder)
    files = weight_files(folder)
    # First without memory: a few bytes of configuration can ask for more of it than any machine has.
    with _refusing(where), torch.device("meta"):
        wanted = sum(parameter.numel() for parameter in build(architecture, config, where).parameters())
    tensors = architecture.with_whole_names(_tensors_in(files))
    stored = sum(tensor.numel() for tensor in tensors.values())
    if wanted > stored + SLACK:  # a smaller difference is told below, by the tensors
        raise UserError(f"{where} describes {wanted:,} parameters, but the weights are {stored:,} numbers")
    with _refusing(where):
        model = build(architecture, config, where).to(dtype)
    try:
        ours = to_ours(architecture, model, tensors)
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from error
    except RuntimeError as error:  # what torch says where parts of a tensor cannot be taken apart
        raise UserError(f"{folder}: the weights have other shapes than {where} says ({error!s:.200})") from error
    model.load_state_dict(ours, strict=False)
    path = folder / "tokenizer.json"
    return model.eval(), read_tokenizer(path) if tokenizer and path.exists() else None


def read_model_node(folder: Path) -> dict[str, Any]:
    """A folder's decoder as the `model` node of a configuration, without `init`; raises as `load_huggingface`."""
    architecture, config, where = _read_config(folder)
    with _refusing(where):
        return _call(Decoder, read_arguments(architecture, config, where))


def _call(kind: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"_target_": f"atomiclm.model.{kind.__name__}", **{name: _node(each) for name, each in arguments.items()}}


def _node(value: Any) -> Any:
    """What a configuration has for a value: of a class, or a partial of one, the node that it is built from."""
    if isinstance(value, type | partial):
        made = partial(value)  # of a partial the same one
        return {**_call(made.func, made.keywords), "_partial_": True}
    if isinstance(value, LayerPattern):
        return _call(LayerPattern, vars(value))
    if isinstance(value, dict):
        return {name: _node(each) for name, each in value.items()}
    return [_node(each) for each in value] if isinstance(value, list | tuple) else value


def _read_config(folder: Path) -> tuple[Architecture, dict[str, Any], str]:
    """The architecture, the content of config.json, and its path for messages."""
    where = str(folder / "config.json")
    config = _read_object(folder / "config.json")
    return architecture_of(str(config.get("model_type"))[:100], where), config, where


@contextmanager
def _refusing(where: str) -> Iterator[None]:
    try:
        yield
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if where in str(error):
            raise
        # Every key is of its kind by now; what is left are sizes that do not go together.
        raise UserError(f"{where} describes no model that can be built ({error!s:.2000})") from error


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path} is missing; give a folder that transformers' save_pretrained, or export, wrote")
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: the one, or those that the index names."""
    found = {path.name: path for path in folder.glob("*.safetensors") if path.is_file()}
    if "model.safetensors" in found:
        return [found["model.safetensors"]]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise UserError(f"{folder} has no model.safetensors; other formats run code when they are read")
    names = _read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise UserError(f"{index}: weight_map must be an object of the tensors' names and their files")
    for name in names.values():
        if not isinstance(name, str) or name not in found:
            raise UserError(f"{index}: weight_map names {name!a:.100}, which is not a file of this folder")
    return [found[name] for name in sorted(set(names.values()))]


def _tensors_in(files: list[Path]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path in files:
        try:
            tensors |= safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, KeyError, MemoryError, RuntimeError) as error:
            raise UserError(f"{path} is damaged: {ascii(str(error))[1:-1]:.300}") from error
    return tensors
