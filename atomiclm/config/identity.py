"""A run is named by what it is: a readable slug of what differs, and a hash of the configuration that defines it.

The same command again therefore finds the same folder (and resumes, or skips what is done), a cell of a sweep run
alone is that cell, and runs are never told apart by the clock.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

IDENTITY = ("tokenizer", "data", "model", "optim", "schedule", "trainer", "seed")
"""The groups that define a run: change one of their values and it is another run."""

NOT_IDENTITY = (
    "name",
    "evaluation",
    "tracking",
    "runtime",
    "match",
    "study",
    "arm",
    "profile",
    "held_out",
    "output_dir",
    "cache_dir",
    "experiments",
    "debug",
)
"""The rest: where a run is saved, how it is watched, how this machine executes it, what it was matched to and which
study it belongs to (what an arm, a profile, a match or a dev split come to stands in the configuration as if it had
been given). None of it changes what is learned beyond the order of floating-point sums (device, micro-batch,
compilation). `trainer.precision=auto` is hashed as it stands, and what it came to on a machine is in
`environment.json`; name the precision to have it in the hash."""

_HASH_CHARACTERS = 12
_SLUG_CHARACTERS = 80

_BUDGETS = ("trainer.max_steps", "trainer.max_tokens", "trainer.max_seconds")
"""Of what a name tells the least: runs that are compared have one budget."""


def digest(config: dict[str, Any]) -> str:
    """Return the first characters of the sha256 of what defines the run."""
    return hashlib.sha256(defining(config).encode()).hexdigest()[:_HASH_CHARACTERS]


def defining(config: dict[str, Any]) -> str:
    """Return what defines the run in one text: the identity groups, keys sorted, 2.0 and 2 the same number."""
    identity = {key: _canonical(config.get(key)) for key in IDENTITY}
    return json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_canonical(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def slug(options: dict[str, str], unresolved: dict[str, Any], base: dict[str, Any], swept: Sequence[str] = ()) -> str:
    """Return a readable name of at most 80 characters: the arm, what differs, the seed.

    What tells runs apart comes first, and what has no room is left out, since the hash tells apart what the name does
    not: what is swept over, chosen options, other values, budgets.

    Args:
        options: the option of each group whose choice differs from the experiment's own.
        unresolved: the configuration with interpolations kept, so that a value that only follows another is not named
            twice.
        base: the unresolved configuration of the same experiment, arm and options with nothing else overridden.
        swept: the keys that the sweep, of which the run is a cell, lists several values of.
    """
    values: dict[str, Any] = {}
    for group in IDENTITY:
        if group != "seed":
            values.update(_differences(group, unresolved.get(group), base.get(group)))
    lasts = [key.rpartition(".")[2] for key in values]
    named = {
        # The last part of a key names it, with the one before where two keys end alike.
        key: f"{last if lasts.count(last) == 1 else '.'.join(key.split('.')[-2:])}={value}"
        for (key, value), last in zip(values.items(), lasts, strict=True)
    }
    groups = [group for group in options if group.split("/")[0] in IDENTITY]
    chosen = {group: f"{group.rpartition('/')[2]}={options[group]}" for group in groups}

    def rank(key: str) -> int:
        # An axis may be a mapping, which is named by its values, or inside a node, which is named by its class.
        related = (f"{key}.".startswith(f"{axis}.") or axis.startswith(f"{key}.") for axis in swept if key in named)
        if key in swept or any(related):
            return 0
        return 1 if key in chosen else 3 if key in _BUDGETS else 2

    texts = {**chosen, **named}
    arm = [unresolved["arm"]] if unresolved.get("arm") else []
    *wanted, seed = (
        re.sub(r"[^\w.+=]+", "_", text)
        for text in (*(texts[key] for key in sorted(texts, key=rank)), f"seed={unresolved.get('seed')}")
    )
    parts: list[str] = []
    for part in (*arm, *wanted):
        if len("-".join([*parts, part, seed])) <= _SLUG_CHARACTERS:
            parts.append(part)
    return "-".join([*parts, seed])


def _differences(path: str, value: Any, base: Any) -> dict[str, Any]:
    """Return the leaves that differ, by their full path; a node of another class as a whole."""
    if isinstance(value, dict) and isinstance(base, dict):
        target, base_target = value.get("_target_"), base.get("_target_")
        if target != base_target and isinstance(target, str):
            return {path: target.rpartition(".")[2]}
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
    return {path: str([_short(entry) for entry in value] if isinstance(value, list) else _short(value))}


def _short(value: Any) -> Any:
    """A file is known by its name; the hash tells two of the same name apart."""
    return value.rstrip("/").rpartition("/")[2] if isinstance(value, str) else value


# ---------------------------------------------------------------------------------------------------------------------
# The code of components that a user has written: part of what a run is, though no configuration holds it.


def user_code_hash(values: Any) -> dict[str, str]:
    """Return the sha256 of the source file of each module that a built configuration names and we have not written."""
    hashes = {}
    for module in sorted(set(_modules(values))):
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is not None and module.split(".")[0] not in ("atomiclm", "torch"):
            hashes[module] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return hashes


def _modules(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(target := node.get("_target_"), str):
            yield target.rpartition(".")[0]
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _modules(value)
