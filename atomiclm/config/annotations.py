"""Does a configured value fit the annotation of the argument it is for?"""

import ast
from typing import Any

_SCALARS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "str": (str,), "Path": (str,)}
_MAPPINGS = ("dict", "Mapping", "Dict")
_SEQUENCES = ("list", "List", "Sequence", "tuple", "Tuple", "frozenset", "set")


def mismatch(annotation: ast.expr | None, value: Any) -> str | None:
    """Return why `value` does not fit, as the end of a sentence ("'abc' is not a number"), or None when it fits.

    Understood: int (takes 1e6), float (takes an int), bool, str, Path (takes a string), None, `X | Y`, Literal[...],
    list, Sequence, tuple, dict, Mapping (and the values in them). Any other name is a component, for which the config
    holds a node with a `_target_`.
    """
    if annotation is None or _name(annotation) in ("Any", "object"):
        return None
    alternatives = _alternatives(annotation)
    reasons = [_mismatch_one(alternative, value) for alternative in alternatives]
    if None in reasons:
        return None
    for alternative, reason in zip(alternatives, reasons, strict=True):
        if len(reasons) == 1 or _is_of_the_kind(alternative, value):
            return reason
    return f"{value!r} is not one of: {', '.join(_describe(a) for a in alternatives)}"


def _is_of_the_kind(annotation: ast.expr, value: Any) -> bool:
    """Whether both are lists, or both mappings, so that the fault is in what they hold."""
    name = _name(annotation.value if isinstance(annotation, ast.Subscript) else annotation)
    if isinstance(value, dict):
        return name in _MAPPINGS
    return isinstance(value, list | tuple) and name in _SEQUENCES


def _alternatives(annotation: ast.expr) -> list[ast.expr]:
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return [*_alternatives(annotation.left), *_alternatives(annotation.right)]
    if isinstance(annotation, ast.Subscript) and _name(annotation.value) == "Optional":
        return [*_alternatives(annotation.slice), ast.Constant(None)]
    return [annotation]


def _mismatch_one(annotation: ast.expr, value: Any) -> str | None:
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return None if value is None else f"{value!r} is not null"
    name = _name(annotation.value if isinstance(annotation, ast.Subscript) else annotation)
    if name == "bool":
        return None if isinstance(value, bool) else f"{value!r} is not true or false"
    if name == "int" and isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return None  # 1e6 is how people write a million
    if name in _SCALARS:
        fits = isinstance(value, _SCALARS[name]) and not isinstance(value, bool)
        return None if fits else f"{value!r} is not {_describe(annotation)}"
    if name == "Literal" and isinstance(annotation, ast.Subscript):
        options = _literals(annotation)
        return None if value in options else f"{value!r} is not one of: {', '.join(map(str, options))}"
    if name in _SEQUENCES:
        return _mismatch_sequence(annotation, value)
    if name in _MAPPINGS:
        return _mismatch_mapping(annotation, value)
    if isinstance(value, dict) and "_target_" in value:
        return None
    return f"{value!r} is not a component: choose an option of the group (model/attention=mqa), or give a _target_ node"


def _mismatch_sequence(annotation: ast.expr, value: Any) -> str | None:
    if not isinstance(value, list | tuple):
        return f"{value!r} is not a list"
    if not isinstance(annotation, ast.Subscript):
        return None
    items = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    fixed_length = _name(annotation.value) in ("tuple", "Tuple") and not (
        len(items) == 2 and isinstance(items[1], ast.Constant) and items[1].value is Ellipsis
    )
    if fixed_length and len(items) != len(value):
        return f"{value!r} has {len(value)} values, {len(items)} are needed"
    for index, entry in enumerate(value):
        reason = mismatch(items[index] if fixed_length else items[0], entry)
        if reason:
            return f"entry {index + 1}: {reason}"
    return None


def _mismatch_mapping(annotation: ast.expr, value: Any) -> str | None:
    if not isinstance(value, dict):
        return f"{value!r} is not a mapping"
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple):
        for key, entry in value.items():
            reason = mismatch(annotation.slice.elts[1], entry)
            if reason:
                return f"entry {key!r}: {reason}"
    return None


def _literals(annotation: ast.Subscript) -> list[Any]:
    items = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    return [ast.literal_eval(item) for item in items]


def _describe(annotation: ast.expr) -> str:
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return "null"
    name = _name(annotation.value if isinstance(annotation, ast.Subscript) else annotation)
    if name == "Literal" and isinstance(annotation, ast.Subscript):
        return ", ".join(map(str, _literals(annotation)))
    if name in _SEQUENCES:
        return "a list"
    plain = {"int": "a whole number", "float": "a number", "str": "text", "Path": "a path", "bool": "true or false"}
    return plain.get(name, "a mapping" if name in _MAPPINGS else "a node with a _target_")


def _name(annotation: ast.expr) -> str:
    if isinstance(annotation, ast.Name):
        return annotation.id
    if isinstance(annotation, ast.Attribute):
        return annotation.attr
    return ""
