"""Check a resolved configuration, whole, before any tensor or file exists.

Hydra refuses an unknown key on the command line, but merges the same typo in silence when it comes from an experiment
file or behind a `+`. Here every node that names a `_target_` is held against that constructor's arguments and their
annotations, wherever the key came from; then the rules that tie several values together (`rules.py`). All faults are
reported at once.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from atomiclm.config.allowed import Untrusted, check_target
from atomiclm.config.annotations import mismatch
from atomiclm.config.errors import ConfigError, Fault, nearest
from atomiclm.config.rules import broken_rules
from atomiclm.config.signature import Signature, UnknownTarget, read_signature

_DIRECTIVES = ("_target_", "_partial_")
_SUPPLIED_BY_DECODER = ("dim", "layer", "num_layers", "context_length", "vocab_size")
_SUPPLIED_BY_ATTENTION = ("num_heads", "head_dim")
_MISSING = "???"
_MOST_BYTES = 255
MAX_NAME_BYTES = 200
"""Of a name: a sweep appends words of its own to it, and file systems take 255 bytes."""


def validate(config: dict[str, Any], root_keys: Iterable[str]) -> dict[str, Any]:
    """Return `config` with each whole number a float where the argument is one, and the reverse, so 1 and 1.0 are one.

    Args:
        config: the composed configuration as plain containers, interpolations resolved, without the `hydra` node.
        root_keys: the top-level keys of the primary config; any other is a typo, and none may be missing.

    Raises:
        ConfigError: every fault found, each with its path, the rule and the nearest valid name.
    """
    faults = list(_walk_root(config, set(root_keys)))
    faulty = [fault.path for fault in faults]
    faults.extend(broken_rules(config, faulty))
    if faults:
        raise ConfigError(faults)
    return with_numbers_as_annotated(config)


def _walk_root(config: dict[str, Any], root_keys: set[str]) -> Iterator[Fault]:
    for key in sorted(root_keys - config.keys()):
        yield Fault(key, "is missing; it must not be deleted from the configuration")
    for key, value in config.items():
        if key not in root_keys:
            yield Fault(str(key), f"no such setting{nearest(str(key), root_keys)}")
        elif value == _MISSING:
            yield Fault(str(key), f"a value is required; give {key}=...")
        elif key in _ROOT_RULES:
            reason = _ROOT_RULES[key](value)
            if reason:
                yield Fault(key, reason)
        elif isinstance(value, dict):
            yield from _walk_node(key, value)
        else:
            yield Fault(key, f"{value!r} is not an option of this group; --help lists them")


def _name_rule(value: Any) -> str | None:
    if value is None:
        return "null is no name of a folder; give one, or leave it out"
    if not isinstance(value, str):  # from a file: those of a command are quoted for it
        return f"{value!r} is not text; put it in quotes"
    if not re.fullmatch(r"[\w+=-][\w.+=-]*", value):
        return f"{value!r} is not the name of one folder: letters, digits and _ . + = - only"
    return _length_fault(value, MAX_NAME_BYTES)


def _length_fault(part: str, limit: int) -> str | None:
    """What is wrong with a part of a path that file systems, which take 255 bytes, would refuse."""
    length = len(part.encode("utf-8", "surrogatepass"))
    return f"{part[:40]!r}... has {length} bytes, more than {limit}; give a shorter one" if length > limit else None


def _seed_rule(value: Any) -> str | None:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return None if is_whole and 0 <= value < 2**63 else f"{value!r} is not a whole number from 0 to 2**63 - 1"


def _label_rule(value: Any) -> str | None:
    return None if value is None or isinstance(value, str | int) else f"{value!r} is not a name"


def _held_out_rule(value: Any) -> str | None:
    return None if value in ("validation", "dev") else f"{value!r} is not one of: validation, dev"


def _folder_rule(value: Any) -> str | None:
    if not isinstance(value, str) or not value or "\0" in value:
        return f"{value!r} is not the path of a folder"
    return next(filter(None, (_length_fault(part, _MOST_BYTES) for part in Path(value).parts)), None)


def takes_text(config: dict[str, Any], key: str) -> bool:
    """Whether the setting `key`, a dotted path, takes any text and no number.

    Args:
        config: what it is a setting of, composed and not validated.
    """
    *parents, name = key.split(".")
    if not parents:
        return name in ("name", "output_dir", "cache_dir")
    node: Any = config
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    target = node.get("_target_") if isinstance(node, dict) else None
    try:
        parameter = read_signature(target).parameters.get(name) if isinstance(target, str) else None
    except UnknownTarget:
        return False
    annotation = parameter.annotation if parameter else None
    return annotation is not None and mismatch(annotation, "any text") is None and mismatch(annotation, 1) is not None


_ROOT_RULES: dict[str, Callable[[Any], str | None]] = {
    "name": _name_rule,
    "seed": _seed_rule,
    "arm": _label_rule,
    "profile": _label_rule,
    "held_out": _held_out_rule,
    "output_dir": _folder_rule,
    "cache_dir": lambda value: None if value is None else _folder_rule(value),
}
"""Settings of the primary config that are no component."""


def node_faults(path: str, node: dict[str, Any]) -> list[Fault]:
    """Return the faults of one group: its node against the constructor it names."""
    return list(_walk_node(path, node))


def _walk_node(path: str, node: dict[str, Any]) -> Iterator[Fault]:
    target = node.get("_target_")
    if target is None:
        given = ", ".join(map(str, node)) or "nothing"
        yield Fault(path, f"names no component: no option of this group was chosen (it only has {given})")
        return
    if not isinstance(target, str):
        yield Fault(f"{path}._target_", f"{target!r} is not the dotted name of a class")
        return
    try:
        signature = read_signature(target)
        check_target(target)
    except UnknownTarget as error:
        suggestion = nearest(target.rpartition(".")[2], error.known) if error.known else ""
        yield Fault(f"{path}._target_", f"{error}{suggestion}")
        return
    except Untrusted as error:
        yield Fault(f"{path}._target_", str(error))
        return
    yield from _check_arguments(path, node, signature)


def _check_arguments(path: str, node: dict[str, Any], signature: Signature) -> Iterator[Fault]:
    partial = node.get("_partial_", False)
    if not isinstance(partial, bool):
        yield Fault(f"{path}._partial_", f"{partial!r} is not true or false")
    elif partial and path != "optim" and not path.startswith("model."):
        yield Fault(f"{path}._partial_", "only optim and the parts of a model get more arguments later; take it away")
    for key, value in node.items():
        if key in _DIRECTIVES:
            continue
        key_path = f"{path}.{key}"
        parameter = signature.parameters.get(key)
        if key.startswith("_"):
            yield Fault(key_path, "is not read: a node has _target_, _partial_ and the arguments of its class")
            continue
        if parameter is None:
            if not signature.open_ended:
                suggestion = nearest(key, signature.parameters)
                if "did you mean" not in suggestion:
                    # Typically set by a preset or an experiment, for another option of this group than the one chosen.
                    suggestion += f"; ~{key_path} takes it away"
                yield Fault(key_path, f"{signature.name} takes no such argument{suggestion}")
            continue
        if value == _MISSING:
            yield Fault(key_path, f"a value is required; give {key_path}=...")
            continue
        if partial and path.startswith("model.") and key in _SUPPLIED_BY_DECODER:
            yield Fault(key_path, f"the decoder supplies {key}; remove it here and set model.{key}")
            continue
        if path == "model.position" and key in _SUPPLIED_BY_ATTENTION:
            yield Fault(key_path, f"the attention supplies {key}; remove it here and set model.attention.{key}")
            continue
        reason = mismatch(parameter.annotation, value)
        if reason:
            yield Fault(key_path, reason)
        else:
            yield from _walk_children(key_path, value)
    if not partial:
        for parameter in signature.parameters.values():
            if parameter.required and parameter.name not in node:
                yield Fault(f"{path}.{parameter.name}", f"{signature.name} needs this argument")


def _walk_children(path: str, value: Any) -> Iterator[Fault]:
    if isinstance(value, dict) and "_target_" in value:
        yield from _walk_node(path, value)
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _walk_children(f"{path}.{key}", entry)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _walk_children(f"{path}[{index}]", entry)
    elif isinstance(value, float) and not math.isfinite(value):
        yield Fault(path, f"{value} is not a finite number")


def with_numbers_as_annotated(node: Any) -> Any:
    """Return a valid node with its numbers as `validate` returns them, without validating it again."""
    if isinstance(node, list):
        return [with_numbers_as_annotated(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    parameters = read_signature(node["_target_"]).parameters if "_target_" in node else {}
    converted = {}
    for key, value in node.items():
        annotation = parameters[key].annotation if key in parameters else None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and annotation is not None:
            takes_fractions = mismatch(annotation, 0.5) is None
            value = float(value) if takes_fractions else int(value)
        converted[key] = with_numbers_as_annotated(value)
    return converted
