"""From a function in Python to machine code, and the cache that serves later processes: numba, with a folder of ours.

A kernel is compiled at its first call on a machine (seconds) and loaded from the cache folder afterwards
(milliseconds). numba notices that a kernel's own file has changed, but not a file that it imports. So the name of our
folder holds a hash of everything that decides the machine code: all sources here, the compiler, Python and the
processor. A change anywhere makes a new folder, and machines that share a home directory do not share machine code.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import llvmlite
import numba
import numpy as np
from llvmlite import binding
from numba import types

from atomiclm.machine import default_cache_dir

_log = logging.getLogger("atomiclm.tokenizer")
_lock = threading.Lock()
_config: Any = numba.config


def inline[F: Callable[..., Any]](function: F) -> F:
    """A helper of kernels; LLVM decides whether it becomes part of its callers."""
    # The numpy model of errors: integer division by zero gives zero instead of code that raises.
    return cast(F, numba.njit(error_model="numpy")(function))


class Kernel:
    """An entry point, compiled or loaded when first called.

    All parameters are annotated with the types of `language.py`; the result is an int64. Arguments are ints, bytes or
    contiguous arrays, of which the kernel gets the address. The caller keeps arrays alive during the call. Other
    threads run meanwhile: the call gives up the GIL.
    """

    def __init__(self, function: Callable[..., int]) -> None:
        assert function.__annotations__["return"] is types.int64, f"{function.__name__}: a kernel returns int64"
        self.function = function
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"  # as numba names its files
        self._call: Callable[..., int] | None = None

    def __call__(self, *arguments: Any) -> int:
        if self._call is None:
            self._call = self._load()
        return self._call(*[given.ctypes.data if isinstance(given, np.ndarray) else given for given in arguments])

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
        # Integers and addresses travel in the same registers, and ctypes takes an int, bytes or None for c_void_p.
        kinds = [ctypes.c_void_p] * self.function.__code__.co_argcount
        return ctypes.CFUNCTYPE(ctypes.c_int64, *kinds)(self._code.address)

    def _compile(self, folder: Path | None) -> Any:
        *kinds, result = self.function.__annotations__.values()
        if folder is None:
            return numba.cfunc(result(*kinds), error_model="numpy")(self.function)
        before = _config.CACHE_DIR
        _config.CACHE_DIR = str(folder)
        try:
            return numba.cfunc(result(*kinds), error_model="numpy", cache=True)(self.function)
        except Exception as error:  # a damaged file can raise anything, a full disk an OSError
            _log.warning("%s: the kernel %s is compiled anew, since its cache failed (%s)", folder, self.name, error)
            with contextlib.suppress(OSError):
                for path in folder.glob(f"*/{self.name}-*"):
                    path.unlink(missing_ok=True)
        finally:
            _config.CACHE_DIR = before
        return self._compile(None)


@functools.cache
def cache_folder() -> Path | None:
    """Where machine code is saved; None, which is reported, where nothing can be saved or others could write.

    Machine code is trusted as a program is trusted, so the folder must be this user's.
    """
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
            "compiled kernels cannot be saved (%s), so every process compiles them anew; "
            "set ATOMICLM_CACHE to a folder you may write to",
            error,
        )
        return None
    return folder
