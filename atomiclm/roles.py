"""What a parameter of a model is for: initialisation, learning rates, weight decay and counts are decided by it."""

from typing import Literal, get_args

Role = Literal["embedding", "head", "matrix", "residual", "gain", "bias"]
"""Token and position tables, an untied output head, the matrices inside blocks, those that write to the residual
stream, the gains of norms, and biases."""

ROLES: tuple[Role, ...] = get_args(Role)
