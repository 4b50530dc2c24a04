"""The code of components that a user has written: part of what a run is, though no configuration holds it."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_KNOWN = ("atomiclm", "torch")


def user_code_hash(values: Any) -> dict[str, str]:
    """Return the sha256 of the source file of each module that a built configuration names and we have not written."""
    hashes = {}
    for module in sorted(set(_modules(values))):
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is not None and module.split(".")[0] not in _KNOWN:
            hashes[module] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return hashes


def _modules(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(target := node.get("_target_"), str):
            yield target.rpartition(".")[0]
        for value in node.values():
            yield from _modules(value)
    elif isinstance(node, list):
        for value in node:
            yield from _modules(value)
