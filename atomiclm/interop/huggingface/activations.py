"""Activation functions under transformers' names."""

from atomiclm.interop.huggingface.settings import Settings
from atomiclm.model.activation import Activation
from atomiclm.user_error import UserError

# Of several names for one function the first is written.
_OURS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "linear": "identity",
    "relu": "relu",
    "relu2": "relu_squared",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "swish": "silu",
}
_THEIRS: dict[str, str] = {str(ours): theirs for theirs, ours in reversed(_OURS.items())} | {
    "gelu_tanh": "gelu_pytorch_tanh"
}


def read_activation(settings: Settings, key: str, default: str) -> Activation:
    """Our name of the activation under that key.

    Raises:
        ValueError: we have it not.
    """
    name = settings.get(key, default)
    if name not in _OURS:
        raise UserError(f"{settings.where}: {key}={name!r} cannot be read; known are {', '.join(_OURS)}")
    return _OURS[name]


def write_activation(name: str) -> str:
    """Their name of an activation."""
    return _THEIRS[name]
