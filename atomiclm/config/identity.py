"""A run is named by what it is: a readable slug of what differs, and a hash of the configuration that defines it.

The same command again therefore finds the same folder (and resumes, or skips what is done), a cell of a sweep run
alone is that cell, and runs are never told apart by the clock.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

IDENTITY = ("tokenizer", "data", "model", "optim", "schedule", "trainer", "seed")
"""The groups that define a run: change one of their values and it is another run."""

NOT_IDENTITY = ("name", "evaluation", "tracking", "runtime", "output_dir", "cache_dir", "experiments", "debug")
"""The rest: where a run is kept, how it is watched, and how this machine executes it. None of it changes what is
learned beyond the order of floating-point sums (device, micro-batch, compilation), which `environment.json` records."""

_HASH_CHARACTERS = 8
_SLUG_CHARACTERS = 80


def run_id(
    config: dict[str, Any], unresolved: dict[str, Any], base: dict[str, Any], swept_keys: Sequence[str] = ()
) -> str:
    """Return the folder name of a run, such as `num_kv_heads=4-seed=2-1f0c9a7e`.

    Args:
        config: the validated configuration.
        unresolved: the same with interpolations kept, so that a value that only follows another is not named twice.
        base: the unresolved configuration of the same experiment with nothing overridden.
        swept_keys: what the experiment is about, named also where a run has the base's value.
    """
    return f"{slug(unresolved, base, swept_keys)}-{digest(config)}"


def digest(config: dict[str, Any]) -> str:
    """Return the first characters of the sha256 of the identity groups, keys sorted."""
    identity = {key: config.get(key) for key in IDENTITY}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARACTERS]


def slug(unresolved: dict[str, Any], base: dict[str, Any], swept_keys: Sequence[str] = ()) -> str:
    """Return `swept_keys` and what differs from `base`, by the last parts of the keys, then the seed; 80 characters."""
    names: dict[str, Any] = {}
    for key in swept_keys:
        node: Any = unresolved
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if key != "seed" and node is not None and not isinstance(node, dict):
            names[key.rpartition(".")[2]] = node
    for group in IDENTITY:
        if group != "seed":
            names.update(_differences(group, unresolved.get(group), base.get(group)))
    parts = [f"{key}={value}" for key, value in names.items()]
    text = "-".join(re.sub(r"[^\w.+=]+", "_", part) for part in parts)
    seed = f"seed={unresolved.get('seed')}"
    room = _SLUG_CHARACTERS - len(seed) - 1
    return f"{text[:room].rstrip('-_.')}-{seed}" if text else seed


def _differences(path: str, value: Any, base: Any) -> dict[str, Any]:
    if isinstance(value, dict) and isinstance(base, dict):
        target, base_target = value.get("_target_"), base.get("_target_")
        if target != base_target and isinstance(target, str):
            return {path.rpartition(".")[2]: target.rpartition(".")[2]}
        keys = [*value, *(key for key in base if key not in value)]
        return {
            name: difference
            for key in keys
            for name, difference in _differences(f"{path}.{key}", value.get(key), base.get(key)).items()
        }
    if value == base:
        return {}
    if isinstance(value, dict):
        value = str(value.get("_target_", "")).rpartition(".")[2]
    text = str(value)
    # A path is known by its last part; the hash tells two of the same name apart.
    return {path.rpartition(".")[2]: text.rstrip("/").rpartition("/")[2] if "/" in text else text}
