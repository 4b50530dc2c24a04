"""A decoder from a folder that transformers wrote, or `save_huggingface`.

The folder may come from anyone: it is read within bounds, and never run. Weights are read from safetensors alone; a
pickle (`*.bin`, `*.pt`) beside them is not opened. Links are followed, since the cache of Hugging Face is made of them:
all that a link out of the folder could give is another safetensors file.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from atomiclm.cli import UserError
from atomiclm.interop.huggingface.architecture import Architecture
from atomiclm.interop.huggingface.architectures import architecture_of
from atomiclm.interop.huggingface.config_json import check_value
from atomiclm.interop.huggingface.express import build
from atomiclm.interop.huggingface.weights import to_ours
from atomiclm.interop.tokenizer_json_import import read_tokenizer
from atomiclm.model import Decoder
from atomiclm.tokenizer import BasicTokenizer
from atomiclm.tokenizer.file_format import read_json

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
    config = _read_object(folder / "config.json")
    where = str(folder / "config.json")
    architecture = architecture_of(str(config.get("model_type"))[:100], where)
    paths = _weight_files(folder)
    shapes = _shapes_in(paths)
    _check_layers(where, config, len(shapes))
    # First without memory: a few bytes of configuration can ask for more of it than any machine has.
    with torch.device("meta"):
        sizes = _build(architecture, config, where)
    wanted, stored = sum(p.numel() for p in sizes.parameters()), sum(map(math.prod, shapes.values()))
    if wanted > stored + SLACK:  # a smaller difference is told below, by the tensors
        raise UserError(f"{where} describes {wanted:,} parameters, but the weights are {stored:,} numbers")
    model = _build(architecture, config, where).to(dtype)
    tensors = architecture.with_prefix(_tensors_in(paths))
    try:
        ours = to_ours(architecture, model, tensors)
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from error
    except RuntimeError as error:  # what torch says where parts of a tensor cannot be taken apart
        raise UserError(f"{folder}: the weights have other shapes than {where} says ({error!s:.200})") from error
    _check_kinds(folder, ours)
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


def _read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    if not path.is_file():
        raise UserError(f"{path} is missing; give a folder that transformers' save_pretrained, or export, wrote")
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: the one, or those that the index names."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise UserError(f"{folder} has no model.safetensors; other formats run code when they are read")
    names = _read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f"{index}: weight_map must be an object of the tensors' names and their files")
    paths = []
    for name in sorted(set(names.values())):
        plain = Path(name).name == name and name.isprintable() and len(name.encode()) <= 255  # as long as a name may be
        if not plain or not (folder / name).is_file():
            raise UserError(f"{index}: weight_map names {name!a:.100}, which is not a file of this folder")
        paths.append(folder / name)
    return paths


def _shapes_in(paths: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor, from the files' headers: nothing of their size is read."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in paths:
        try:
            with safetensors.safe_open(path, "pt") as file:
                found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, KeyError, MemoryError) as error:
            raise _damaged(path, error) from error
        if twice := found.keys() & shapes.keys():
            raise UserError(f"{path}: the tensor {min(twice)!a:.100} is in another file too; keep one of them")
        shapes |= found
    return shapes


def _tensors_in(paths: Iterable[Path]) -> dict[str, Tensor]:
    """All tensors of the files."""
    tensors: dict[str, Tensor] = {}
    for path in paths:
        try:
            tensors |= safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, KeyError, MemoryError, RuntimeError) as error:
            raise _damaged(path, error) from error
    return tensors


def _check_layers(where: str, config: dict[str, Any], num_tensors: int) -> None:
    """Raise where a configuration asks for more layers than there are tensors: they would be built one by one."""
    for key in ("num_hidden_layers", "n_layer", "n_layers"):
        check_value(where, key, config.get(key))
        if (config.get(key) or 0) > num_tensors:
            raise UserError(f"{where}: {key}={config[key]}, but the weights have {num_tensors} tensors in all")


def _check_kinds(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Raise for weights that are no real numbers: copied into parameters they would be rounded, or lose a part."""
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            raise UserError(f"{folder}: the tensor {name} holds {tensor.dtype}, not floating-point numbers")


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged: {ascii(str(error))[1:-1]:.300}")
