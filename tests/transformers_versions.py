"""What the supported versions of transformers call by different names."""

import inspect
from typing import Any

from torch import nn


def cache_argument(module: nn.Module, cache: Any) -> dict[str, Any]:
    """The keyword argument that gives a module its cache: `past_key_values` up to transformers 5.23."""
    is_new = "cache" in inspect.signature(module.forward).parameters
    return {"cache" if is_new else "past_key_values": cache}
