"""The files of a folder that transformers wrote, which may come from anyone: read within bounds, and never run.

Weights are read from safetensors alone; a pickle (`*.bin`, `*.pt`) beside them is not opened. Links are followed, since
the cache of Hugging Face is made of them: all that a link out of the folder could give is another safetensors file.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from atomiclm.interop.huggingface.values import check_value
from atomiclm.tokenizer.file_format import read_json
from atomiclm.user_error import UserError

type Shapes = dict[str, tuple[int, ...]]


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: it is missing, or not such a file.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; give a folder that transformers' save_pretrained, or export, wrote")
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: the one, or those that the index names.

    Raises:
        ValueError: there are none, or the index names something else.
        OSError: the index cannot be read.
    """
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise UserError(f"{folder} has no model.safetensors; other formats run code when they are read")
    names = read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f"{index}: weight_map must be an object of the tensors' names and their files")
    paths = []
    for name in sorted(set(names.values())):
        plain = Path(name).name == name and name.isprintable() and len(name.encode()) <= 255  # as long as a name may be
        if not plain or not (folder / name).is_file():
            raise UserError(f"{index}: weight_map names {name!a:.100}, which is not a file of this folder")
        paths.append(folder / name)
    return paths


def shapes_in(paths: Iterable[Path]) -> Shapes:
    """The shape of every tensor, from the files' headers: nothing of their size is read.

    Raises:
        ValueError: a file is damaged, or two hold a tensor of one name.
        OSError: a file cannot be read.
    """
    shapes: Shapes = {}
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


def tensors_in(paths: Iterable[Path]) -> dict[str, Tensor]:
    """All tensors of the files.

    Raises:
        ValueError: a file is damaged.
        OSError: a file cannot be read.
    """
    tensors: dict[str, Tensor] = {}
    for path in paths:
        try:
            tensors |= safetensors.torch.load_file(path)
        except (
            safetensors.SafetensorError,
            KeyError,
            MemoryError,
            RuntimeError,
        ) as error:  # KeyError: of a kind
            raise _damaged(path, error) from error
    return tensors


def check_layers(where: str, config: dict[str, Any], num_tensors: int) -> None:
    """Raise where a configuration asks for more layers than there are tensors: they would be built one by one.

    Raises:
        ValueError: names the key.
    """
    for key in ("num_hidden_layers", "n_layer", "n_layers"):
        check_value(where, key, config.get(key))
        if (config.get(key) or 0) > num_tensors:
            raise UserError(f"{where}: {key}={config[key]}, but the weights have {num_tensors} tensors in all")


def check_kinds(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Raise for weights that are no real numbers: copied into parameters they would be rounded, or lose a part.

    Raises:
        ValueError: names the tensor.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            raise UserError(f"{folder}: the tensor {name} holds {tensor.dtype}, not floating-point numbers")


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged: {ascii(str(error))[1:-1]:.300}")
