"""What an optimizer demands of its settings. Torch-free, so that a config is judged before torch is imported."""

import math
from collections.abc import Iterator, Mapping
from typing import Any


def check_optimizer(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (argument, message) for each setting out of range. Unknown settings are left to the signature check."""
    lr = settings.get("lr")
    if lr is not None and not (math.isfinite(lr) and lr > 0):
        yield "lr", f"{lr} is not a positive number; the usual range for Adam is 1e-4 to 1e-2"
    betas = settings.get("betas")
    if betas is not None and not all(0.0 <= beta < 1.0 for beta in betas):
        yield "betas", f"{list(betas)} must lie in [0, 1); usual values are [0.9, 0.95]"
    eps = settings.get("eps")
    if eps is not None and not eps > 0:
        yield "eps", f"{eps} is not positive; the usual value is 1e-8"
    decay = settings.get("weight_decay")
    if decay is not None and not (math.isfinite(decay) and decay >= 0):
        yield "weight_decay", f"{decay} is negative or not finite; give 0 for none"
    for role, scale in (settings.get("lr_scales") or {}).items():
        if role not in ROLES:
            yield f"lr_scales.{role}", f"no such role of a parameter; roles: {', '.join(ROLES)}"
        elif not (isinstance(scale, int | float) and scale >= 0):
            yield f"lr_scales.{role}", f"{scale!r} is not a number of at least 0"
    for role in settings.get("decayed_roles") or ():
        if role not in ROLES:
            yield "decayed_roles", f"'{role}' is no role of a parameter; roles: {', '.join(ROLES)}"


ROLES = ("embedding", "head", "matrix", "residual", "gain", "bias")
"""What a parameter is for: token and position tables, an untied output head, the matrices inside blocks, those that
write to the residual stream, the gains of norms, and biases."""
