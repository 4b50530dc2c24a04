"""Make transformers compute in float64 throughout, whatever its code casts to float32 on the way."""

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

EAGER = {"attn_implementation": "eager", "experts_implementation": "eager"}
"""The plain code of transformers' attention and experts."""


class Float64(TorchFunctionMode):
    """Where a float64 tensor is asked to become float32, it stays.

    Norms, softmaxes, routers and losses in transformers widen half precision to float32 and would narrow float64 to it.
    A matrix of float32 zeros is the weight of a DeepSeek router, made so whatever dtype is asked for: it would round
    what is loaded into it.
    Angles of rotary positions start from integers, so they are float32 there as they are here.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.polar:
            # The sine and cosine within it are rounded otherwise in the last bit of float32 than those of all others.
            length, angle = args
            return torch.complex(length * angle.cos(), length * angle.sin())
        if func is torch.zeros and len(args) == 2 and kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        if args and isinstance(args[0], Tensor) and args[0].dtype == torch.float64:
            if func is Tensor.float:
                return args[0].clone(memory_format=torch.contiguous_format)  # what widening bfloat16 gives too
            args = tuple(torch.float64 if argument is torch.float32 else argument for argument in args)
            if kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


def to_float64(model):
    """The model with float64 parameters and buffers, but for the float32 tables of frequencies."""
    for parameter in model.parameters():
        parameter.data = parameter.data.double()
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.dtype == torch.float32 and "inv_freq" not in name:
                setattr(module, name, buffer.double())
        if hasattr(module, "gelu_impl"):  # Bloom's has sqrt(2 / pi) to eight digits
            module.gelu_impl = torch.nn.GELU(approximate="tanh")
        if hasattr(module, "embed_scale"):  # the square root of the width, rounded to float32 on the way
            module.embed_scale = torch.tensor(math.sqrt(module.embedding_dim), dtype=torch.float64)
    return model


def load_float64(folder: Path):
    """The model that transformers reads from a folder, in float64."""
    from transformers import AutoModelForCausalLM

    with Float64():
        return to_float64(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, **EAGER))
