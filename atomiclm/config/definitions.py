"""Find the class behind a dotted name in its source, importing nothing.

`find_spec` on a dotted name imports its parents, so only the first part is asked of the import system and the rest is
walked on disk.
"""

import ast
import importlib.machinery
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

type Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Module:
    """A parsed source file, and the dotted name relative imports in it start from."""

    name: str
    package: str
    tree: ast.Module


@lru_cache(maxsize=256)
def find_module(dotted: str) -> Module | None:
    """Return the module of that name, parsed; None where it has no source that can be found."""
    first, *rest = dotted.split(".")
    if not all(part.isidentifier() for part in (first, *rest)):
        return None
    try:
        # The disk first: what stands in for torch while models are counted is in sys.modules, where find_spec looks.
        spec = importlib.machinery.PathFinder.find_spec(first) or importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path, is_package = Path(spec.origin), bool(spec.submodule_search_locations)
    for part in rest:
        if not is_package:
            return None
        folder = path.parent
        if (folder / part / "__init__.py").is_file():
            path, is_package = folder / part / "__init__.py", True
        elif (folder / f"{part}.py").is_file():
            path, is_package = folder / f"{part}.py", False
        else:
            return None
    package = dotted if is_package else dotted.rpartition(".")[0]
    try:
        return Module(dotted, package, ast.parse(path.read_text(encoding="utf-8")))
    except (SyntaxError, ValueError):  # ValueError: not UTF-8
        return None


def find_definition(module: Module, name: str) -> tuple[Module, Definition] | None:
    """Return the class or function called `name` in `module`, following `from x import name` and `import *`."""
    return _find_definition(module, name, ())


def _find_definition(module: Module, name: str, through: tuple[str, ...]) -> tuple[Module, Definition] | None:
    if module.name in through:  # modules that import each other, and none defines it
        return None
    for statement in statements(module.tree):
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            return module, statement
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) in (name, "*"):
                    source = find_module(absolute(module, statement))
                    original = name if alias.name == "*" else alias.name
                    found = _find_definition(source, original, (*through, module.name)) if source else None
                    if found or alias.name != "*":
                        return found
    return None


def statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Top-level statements, with those under `if TYPE_CHECKING:` and in `try:` (guarded imports) among them."""
    pending = list(tree.body)
    while pending:
        statement = pending.pop(0)
        yield statement
        if isinstance(statement, ast.If | ast.Try):
            pending[:0] = [*statement.body, *statement.orelse]


def public_names(tree: ast.Module) -> list[str]:
    """What a module defines, or imports from another, under a name without an underscore before it."""
    names = []
    for statement in statements(tree):
        if isinstance(statement, ast.ClassDef | ast.FunctionDef):
            names.append(statement.name)
        elif isinstance(statement, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in statement.names]
    return sorted(name for name in names if not name.startswith("_"))


def absolute(module: Module, statement: ast.ImportFrom) -> str:
    """The dotted name of the module that an import statement of `module` imports from."""
    if not statement.level:
        return statement.module or ""
    base = module.package.split(".")
    base = base[: len(base) - (statement.level - 1)]
    return ".".join([*base, *([statement.module] if statement.module else [])])
