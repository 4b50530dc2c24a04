# ruff: noqa: ANN001, ANN201, ANN202
"""The language that kernels are written in, and their way to machine code that later processes load.

A kernel is a function on bare addresses and 64-bit integers, as one would write it in C:

- `UInt8s`, `UInt32s`, `Int32s`, `UInt64s`, `Int64s` are addresses of arrays: `p[i]` reads and writes, without length,
  slice, bounds check or negative index.
- `uint8`, `int32`, `uint32`, `int64` and `uint64` are types and conversions. int64 and uint64 must never meet in one
  operation without a conversion: numba would make a float of it.
- Arguments that belong together are a `NamedTuple` of these, whose fields become arguments.
- Nothing is allocated, nothing is raised. A kernel that needs more room returns, and its driver calls it again.

A kernel is compiled at its first call on a machine (seconds) and loaded from the cache folder afterwards
(milliseconds). The folder's name holds a hash of all that decides the machine code: all sources here (numba itself
notices no change in a file that a kernel's file imports), the compiler, Python and the processor.
"""

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import llvmlite
import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from atomiclm.machine import default_cache_dir

WINDOW = 64
"""Bytes that `bytes_between` looks at: as many as a uint64 has bits."""

_log = logging.getLogger("atomiclm.tokenizer")
_lock = threading.Lock()
_config: Any = numba.config

if TYPE_CHECKING:  # what a reader, and a type checker, may think of the words below
    # NumPy arrays for a driver, addresses for a kernel. One by one: mypy takes a chain of assignments for variables.
    UInt8s = Any
    UInt32s = Any
    UInt64s = Any
    Int32s = Any
    Int64s = Any
    uint8 = int
    int32 = int
    uint32 = int
    int64 = int
    uint64 = int

    def load64(data: UInt8s, index: int64) -> uint64:
        """The eight bytes from `index` on as one uint64, the first byte lowest; any alignment."""

    def trailing_zeros(value: uint64) -> int64:
        """How many low bits are zero; 64 for zero."""

    def leading_zeros(value: uint64) -> int64:
        """How many high bits are zero; 64 for zero."""

    def bytes_between(data: UInt8s, position: int64, low: int64, high: int64) -> uint64:
        """The set of all i < 64 where `low <= data[position + i] <= high`."""

else:
    uint8, int32, uint32, int64, uint64 = types.uint8, types.int32, types.uint32, types.int64, types.uint64
    UInt8s, UInt32s, UInt64s, Int32s, Int64s = map(types.CPointer, (uint8, uint32, uint64, int32, int64))

    def _load(context, builder, data_type, base, index, kind):
        """Load a value of an LLVM type from any address."""
        if isinstance(data_type, types.Array):  # in tests that have the bounds of arrays checked
            base = context.make_array(data_type)(context, builder, base).data
        loaded = builder.load(builder.bitcast(builder.gep(base, [index]), kind.as_pointer()))
        loaded.align = 1
        return loaded

    @intrinsic
    def load64(typing_context, data, index):
        def generate(context, builder, signature, arguments):
            return _load(context, builder, signature.args[0], *arguments, ir.IntType(64))

        return types.uint64(data, types.int64), generate

    def _zeros(instruction):
        @intrinsic
        def zeros(typing_context, value):
            def generate(context, builder, signature, arguments):
                return getattr(builder, instruction)(arguments[0], ir.Constant(ir.IntType(1), 0))

            return types.int64(types.uint64), generate

        return zeros

    trailing_zeros, leading_zeros = _zeros("cttz"), _zeros("ctlz")

    @intrinsic
    def bytes_between(typing_context, data, position, low, high):
        def generate(context, builder, signature, arguments):
            base, position, low, high = arguments
            window = ir.VectorType(ir.IntType(8), WINDOW)
            loaded = _load(context, builder, signature.args[0], base, position, window)

            def everywhere(value):
                nothing = ir.Constant(window, ir.Undefined)
                byte = builder.trunc(value, ir.IntType(8))
                first = builder.insert_element(nothing, byte, ir.Constant(ir.IntType(32), 0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), WINDOW), [0] * WINDOW)
                return builder.shuffle_vector(first, nothing, zeros)

            # One comparison: below `low` the difference wraps around and is large.
            span = everywhere(builder.sub(high, low))
            inside = builder.icmp_unsigned("<=", builder.sub(loaded, everywhere(low)), span)
            return builder.bitcast(inside, ir.IntType(64))

        return types.uint64(data, types.int64, types.int64, types.int64), generate


def inline[F: Callable[..., Any]](function: F) -> F:
    """A helper of kernels, which becomes part of its callers."""
    # The numpy model of errors: integer division by zero gives zero instead of code that raises.
    return cast(F, numba.njit(error_model="numpy", forceinline=True)(function))


def _numba_type(annotation: Any) -> Any:
    if isinstance(annotation, types.Type):
        return annotation
    return types.BaseTuple.from_types([_numba_type(kind) for kind in annotation.__annotations__.values()], annotation)


def flat(arguments: Iterable[Any]) -> list[Any]:
    """Ints, bytes and addresses: those of arrays, and the fields of tuples."""
    values: list[Any] = []
    for given in arguments:
        if type(given) is int:  # first, for most are
            values.append(given)
        elif isinstance(given, tuple):
            values += flat(given)
        else:
            values.append(given.ctypes.data if isinstance(given, np.ndarray) else given)
    return values


class Kernel:
    """An entry point, compiled or loaded when first called, that returns an int64 and gives up the GIL.

    Arguments are ints, bytes or contiguous arrays, of which the kernel gets the address; the caller keeps them alive.
    """

    def __init__(self, function: Callable[..., int]) -> None:
        *kinds, result = map(_numba_type, function.__annotations__.values())
        self.function = function
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"  # as numba names its files
        self._signature = result(*kinds)
        self._call: Callable[..., int] | None = None

    def __call__(self, *arguments: Any) -> int:
        if self._call is None:
            self._call = self._load()
        return self._call(*flat(arguments))

    def is_cached(self) -> bool:
        """Whether machine code is at hand, so that a call compiles nothing."""
        if self._call is not None or (folder := cache_folder()) is None:
            return self._call is not None
        return {path.suffix for path in folder.glob(f"*/{self.name}-*.nb?")} == {".nbi", ".nbc"}  # its index, its code

    def _load(self) -> Callable[..., int]:
        with _lock:
            if not self.is_cached():
                _log.warning("compiling the tokenizer's kernel %s, which is done once", self.name)
            self._code = self._compile(cache_folder())  # it owns the machine code
        # Integers, addresses and the fields of tuples travel in the same registers; c_void_p takes an int or bytes.
        count = sum(len(kind) if isinstance(kind, types.BaseTuple) else 1 for kind in self._signature.args)
        return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * count)(self._code.address)

    def _compile(self, folder: Path | None) -> Any:
        if folder is None:
            return numba.cfunc(self._signature, error_model="numpy")(self.function)
        before = _config.CACHE_DIR
        _config.CACHE_DIR = str(folder)
        try:
            return numba.cfunc(self._signature, error_model="numpy", cache=True)(self.function)
        except Exception as error:  # a damaged file can raise anything, a full disk an OSError
            _log.warning("%s: the kernel %s is compiled again, since its cache failed (%s)", folder, self.name, error)
            with contextlib.suppress(OSError):
                for path in folder.glob(f"*/{self.name}-*"):
                    path.unlink(missing_ok=True)
        finally:
            _config.CACHE_DIR = before
        return self._compile(None)


@functools.cache
def cache_folder() -> Path | None:
    """Where machine code is saved; None, which is reported, where nothing can be saved or another user could write."""
    digest = hashlib.sha256()
    processor = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten(), platform.machine()
    user = os.getuid() if os.name == "posix" else ""
    versions = numba.__version__, llvmlite.__version__, platform.python_version(), user
    digest.update(repr((processor, versions)).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    folder = default_cache_dir() / "kernels" / digest.hexdigest()[:24]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        about = folder.stat()
        if os.name == "posix" and (about.st_uid != user or about.st_mode & 0o022):
            raise PermissionError(f"{folder} belongs to another user, or others may write to it")
    except OSError as error:
        _log.warning(
            "compiled kernels cannot be saved (%s), so every process compiles them again; "
            "set ATOMICLM_CACHE to a folder you may write to",
            error,
        )
        return None
    return folder
