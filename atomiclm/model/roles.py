"""What each parameter is for: initialisation, weight decay and the parameter count by role are decided from this."""

from collections.abc import Mapping
from typing import Literal, get_args

from torch import nn

Role = Literal["embedding", "head", "matrix", "residual", "gain", "bias"]
ROLES: tuple[Role, ...] = get_args(Role)


def parameter_roles(model: nn.Module) -> dict[str, Role]:
    """Role of every parameter, by its name in ``model.named_parameters()``.

    embedding   weights of ``nn.Embedding``: tokens, and learned positions (a tied head is this same parameter)
    head        the output matrix of an untied head
    residual    projections that write to the residual stream (``ResidualLinear``)
    matrix      every other parameter of two or more dimensions
    bias        what is called "bias"
    gain        every other vector

    A module may state roles of its own parameters in a class attribute ``roles: dict[str, Role]``; it wins.
    """
    roles: dict[str, Role] = {}
    for prefix, module in model.named_modules():
        stated: Mapping[str, Role] = getattr(module, "roles", {})
        for name, parameter in module.named_parameters(prefix="", recurse=False):
            role = stated.get(name) or _role(module, name, parameter)
            roles[f"{prefix}.{name}" if prefix else name] = role
    # A parameter reached by two names is listed under its first, as in named_parameters().
    return {name: roles[name] for name, _ in model.named_parameters()}


def _role(module: nn.Module, name: str, parameter: nn.Parameter) -> Role:
    if isinstance(module, nn.Embedding):
        return "embedding"
    if name == "bias":
        return "bias"
    return "matrix" if parameter.ndim >= 2 else "gain"
