"""Read the constructor behind a `_target_` from its source, without importing it.

A configuration is checked against the constructors it names before any of them runs. Importing them would cost the
three seconds that `import torch` takes (a typo should be told in less than one), and would execute code named by a
config file before it was looked at. So the signature is read from the syntax tree; what cannot be read that way
(compiled code, names made at run time) is imported and inspected instead, in the packages that the user trusts.
"""

import ast
import importlib
import inspect
from dataclasses import dataclass
from functools import lru_cache

from atomiclm.config.allowed import Untrusted, check_target, is_trusted
from atomiclm.config.definitions import Module, absolute, find_definition, find_module, public_names, statements


@dataclass(frozen=True)
class Parameter:
    """One constructor argument. `annotation` is its expression, with aliases of the defining module resolved."""

    name: str
    annotation: ast.expr | None
    required: bool


@dataclass(frozen=True)
class Signature:
    """The arguments of the class or function a `_target_` names."""

    target: str
    name: str
    parameters: dict[str, Parameter]
    open_ended: bool
    """True when the callable takes `**kwargs`, so unknown names cannot be told from known ones."""


class UnknownTarget(ValueError):
    """A `_target_` that names nothing: `known` holds the public names beside it, for a suggestion."""

    def __init__(self, message: str, known: list[str]) -> None:
        super().__init__(message)
        self.known = known


@lru_cache(maxsize=256)
def read_signature(target: str) -> Signature:
    """Return the signature behind the dotted name `target`.

    Raises:
        UnknownTarget: no such module, no such public name in it, or its source does not say and it is not trusted.
    """
    module_name, _, name = target.rpartition(".")
    if not module_name:
        raise UnknownTarget(f"'{target}' is not a dotted name such as atomiclm.model.Decoder", [])
    module = find_module(module_name)
    if module is not None:
        found = find_definition(module, name)
        if found is not None:
            return _signature_of(target, *found)
        if module.name.split(".")[0] == "atomiclm":
            raise UnknownTarget(f"module {module_name} has no '{name}'", public_names(module.tree))
    if not is_trusted(target):
        try:
            check_target(target)
        except Untrusted as error:
            raise UnknownTarget(str(error), []) from error
        raise UnknownTarget(f"the source of '{target}' cannot be read", [])
    return _import_signature(target, module_name, name)


# ---------------------------------------------------------------------------------------------------------------------
# From a definition to its arguments.


def _signature_of(target: str, module: Module, node: ast.ClassDef | ast.FunctionDef) -> Signature:
    if isinstance(node, ast.FunctionDef):
        parameters, open_ended = _arguments(module, node, skip_first=False)
        return Signature(target, node.name, parameters, open_ended)
    constructor = _constructor(module, node)
    if constructor is not None:
        parameters, open_ended = _arguments(*constructor, skip_first=True)
    elif _is_dataclass(node):
        parameters, open_ended = _fields(module, node), False
    else:
        parameters, open_ended = {}, False
    return Signature(target, node.name, parameters, open_ended)


def _constructor(module: Module, node: ast.ClassDef) -> tuple[Module, ast.FunctionDef] | None:
    """Return the `__init__` of a class or of the nearest base whose source can be found."""
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return module, statement
    if _is_dataclass(node):
        return None
    for base in node.bases:
        if isinstance(base, ast.Name):
            found = find_definition(module, base.id)
            if found is not None and isinstance(found[1], ast.ClassDef):
                inherited = _constructor(found[0], found[1])
                if inherited is not None:
                    return inherited
    return None


def _arguments(module: Module, node: ast.FunctionDef, *, skip_first: bool) -> tuple[dict[str, Parameter], bool]:
    positional = [*node.args.posonlyargs, *node.args.args][1 if skip_first else 0 :]
    first_default = len(positional) - len(node.args.defaults)
    parameters = {
        argument.arg: Parameter(argument.arg, _resolved(module, argument.annotation), index < first_default)
        for index, argument in enumerate(positional)
    }
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        parameters[argument.arg] = Parameter(argument.arg, _resolved(module, argument.annotation), default is None)
    return parameters, node.args.kwarg is not None


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _fields(module: Module, node: ast.ClassDef) -> dict[str, Parameter]:
    return {
        s.target.id: Parameter(s.target.id, _resolved(module, s.annotation), s.value is None)
        for s in node.body
        if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)
    }


def _resolved(module: Module, annotation: ast.expr | None) -> ast.expr | None:
    """Replace a name that the module (or one it imports from) defines as a type alias by what it stands for."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if annotation is None:
        return None
    if isinstance(annotation, ast.BinOp):
        left, right = _resolved(module, annotation.left), _resolved(module, annotation.right)
        assert left is not None and right is not None
        return ast.BinOp(left, annotation.op, right)
    if isinstance(annotation, ast.Name):
        return _alias(module, annotation.id) or annotation
    return annotation


def _alias(module: Module, name: str) -> ast.expr | None:
    for statement in statements(module.tree):
        if isinstance(statement, ast.TypeAlias) and statement.name.id == name:
            return _resolved(module, statement.value)
        if isinstance(statement, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in statement.targets
        ):
            return _resolved(module, statement.value)
        if isinstance(statement, ast.ImportFrom) and any((a.asname or a.name) == name for a in statement.names):
            source = find_module(absolute(module, statement))
            original = next(a.name for a in statement.names if (a.asname or a.name) == name)
            return _alias(source, original) if source and source.name.startswith("atomiclm") else None
    return None


def _import_signature(target: str, module_name: str, name: str) -> Signature:
    """Import `target` and inspect it: for compiled code and for names that only exist at run time."""
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UnknownTarget(f"cannot import '{module_name}': {error}", []) from error
    if not hasattr(module, name):
        raise UnknownTarget(f"module {module_name} has no '{name}'", [n for n in dir(module) if not n.startswith("_")])
    try:
        inspected = inspect.signature(getattr(module, name))
    except (TypeError, ValueError):
        return Signature(target, name, {}, open_ended=True)
    kinds = inspect.Parameter
    parameters = {
        p.name: Parameter(p.name, None, p.default is kinds.empty)
        for p in inspected.parameters.values()
        if p.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
    }
    open_ended = any(p.kind is kinds.VAR_KEYWORD for p in inspected.parameters.values())
    return Signature(target, name, parameters, open_ended)
