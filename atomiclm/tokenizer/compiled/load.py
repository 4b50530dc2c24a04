"""From machine code to a function that Python can call, and the files that keep machine code between processes.

A file is one line of JSON (symbol, number of arguments, SHA-256 of both and of the rest) and an object file. Its name
holds a hash of everything it was made from: the source of the kernel and of all it imports, the compiler's version, the
processor and what it can do. So a change anywhere makes a new file, and machines that share a home directory do not
share machine code.

Machine code is trusted as a program is trusted. A file is loaded only if it belongs to this user (or to root) and
nobody else may write to it; any other, and a damaged one, is as good as none.
"""

import ast
import ctypes
import functools
import hashlib
import importlib.util
import json
import logging
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomiclm.atomic_io import write_atomic
from atomiclm.cache_folder import default_cache_dir

if TYPE_CHECKING:
    from atomiclm.tokenizer.compiled.build import MachineCode

_log = logging.getLogger("atomiclm.tokenizer")
_engines: list[Any] = []  # they own the code that loaded functions run, so they live as long as the process


@functools.cache
def why_unavailable() -> str | None:
    """Why no kernel can be run here; None when they can."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "NUMBA_DISABLE_JIT is set"
    if sys.byteorder != "little" or sys.maxsize < 2**62:
        return "kernels are written for 64-bit little-endian machines"
    if importlib.util.find_spec("llvmlite") is None or importlib.util.find_spec("numba") is None:
        return "numba is not installed"
    return None


@functools.cache
def load_kernel(name: str) -> Callable[..., int]:
    """The kernel as a function; see the package's docstring for `name`.

    Arguments are ints, addresses as ints (`array.ctypes.data`), or bytes; the caller keeps arrays alive during the
    call. Other threads run meanwhile: the call gives up the GIL.

    Raises:
        RuntimeError: kernels cannot be run here; see `why_unavailable`.
    """
    if reason := why_unavailable():
        raise RuntimeError(f"compiled kernels: {reason}; use algorithm='heap'")
    path = _path(name)
    code = _read(path)
    if code is None:
        from atomiclm.tokenizer.compiled.build import build

        _log.warning("compiling the tokenizer's kernel %s, which is done once", name)
        code = build(*_module_and_function(name))
        _write(path, code)
        are_compiled.cache_clear()
    return _link(code)


@functools.cache
def are_compiled(names: tuple[str, ...]) -> bool:
    """Whether `load_kernel` finds the machine code of all these kernels, and has nothing to compile."""
    return why_unavailable() is None and all(_read(_path(name)) is not None for name in names)


def _path(name: str) -> Path:
    module, function = _module_and_function(name)
    return default_cache_dir() / "kernels" / f"{module}.{function}-{_fingerprint(module)}.kernel"


def _module_and_function(name: str) -> tuple[str, str]:
    module, _, function = name.partition(".")
    return module, function or module


@functools.cache
def _fingerprint(module: str) -> str:
    import llvmlite
    from llvmlite import binding

    features = binding.get_host_cpu_features().flatten()
    digest = hashlib.sha256(f"{llvmlite.__version__} {binding.get_host_cpu_name()} {features}".encode())
    for name, source in sorted(_sources(module).items()):
        digest.update(name.encode() + b"\0" + source + b"\0")
    return digest.hexdigest()[:24]


def _sources(module: str) -> dict[str, bytes]:
    """The source of a module of this folder and of all that it imports from this folder, and how both are built."""
    found: dict[str, bytes] = {}
    waiting = [module, "build"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = (Path(__file__).parent / f"{name}.py").read_bytes()
            for node in ast.walk(ast.parse(found[name])):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{__package__}."):
                    waiting.append(node.module.removeprefix(f"{__package__}."))
    return found


def _link(code: "MachineCode") -> Callable[..., int]:
    from llvmlite import binding

    from atomiclm.tokenizer.compiled.build import target_machine

    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), target_machine())
    engine.add_object_file(binding.ObjectFileRef.from_data(code.code))
    engine.finalize_object()
    _engines.append(engine)
    # Integers and addresses travel in the same registers, and ctypes takes an int, bytes or None for c_void_p.
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * code.num_arguments)
    return prototype(engine.get_function_address(code.symbol))


def _read(path: Path) -> "MachineCode | None":
    from atomiclm.tokenizer.compiled.build import MachineCode

    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            others_write = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if os.name == "posix" and (about.st_uid not in (os.getuid(), 0) or others_write):
                return None
            header = json.loads(file.readline())
            code = file.read()
        found = MachineCode(header["symbol"], header["num_arguments"], code)
        return found if _sha256(found) == header["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sha256(code: "MachineCode") -> str:
    return hashlib.sha256(f"{code.symbol} {code.num_arguments} ".encode() + code.code).hexdigest()


def _write(path: Path, code: "MachineCode") -> None:
    header = {
        "symbol": code.symbol,
        "num_arguments": code.num_arguments,
        "sha256": _sha256(code),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(header).encode() + b"\n" + code.code, mode=0o644)  # `_read` trusts no other
    except OSError as error:
        _log.warning(
            "machine code could not be kept (%s), so every process compiles it anew; "
            "set ATOMICLM_CACHE to a folder you may write to",
            error,
        )
