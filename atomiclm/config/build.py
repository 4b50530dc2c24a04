"""From a validated configuration to objects.

Hydra's `instantiate` is not used. It looks the name up anew, along a path of its own, among whatever is importable, so
the object that it calls need not be the one that was checked; it resolves interpolations in what it is given, and with
them the environment of whoever loads a stranger's run; and it hands out `_partial_` nodes in a wrapper that takes 90
microseconds a call. Nothing else of it is needed.
"""

import functools
from typing import Any

from atomiclm.cli import from_user
from atomiclm.config.allowed import component

TARGET, PARTIAL = "_target_", "_partial_"


def build(node: Any) -> Any:
    """Return the object that `node` describes, with its child nodes built first.

    A mapping with a `_target_` becomes a call of that class with the other entries as keyword arguments, or, with
    `_partial_: true`, a `functools.partial` of it. Other mappings and lists keep their shape. Text stays as it is:
    interpolations were resolved when the configuration was composed, and those of a file read from disk never are.

    Raises:
        UserError: what the constructor refused, or a `_target_` that is not allowed (see `allowed.py`).
    """
    if isinstance(node, list):
        return [build(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    arguments = {key: build(value) for key, value in node.items() if key not in (TARGET, PARTIAL)}
    if TARGET not in node:
        return arguments
    made = component(str(node[TARGET]))
    if node.get(PARTIAL, False):
        return functools.partial(made, **arguments)
    with from_user():
        return made(**arguments)
