"""The same algorithms as in the plain files beside this folder, compiled by numba, and when that is worth it.

`kernel` has the words that kernels are written in. `split` and `pretoken_end` cut text, `pretoken_keys` and `count`
count pretokens, `scan`, `merge_loop` and `train` learn merges, `merge_pretoken`, `encode_kernels` and `encoder` apply
them.

Importing this module imports no numba; importing the others does, which costs a process half a second.
"""

import functools
import importlib
import importlib.util
import logging
import os
import sys
from typing import Literal

from atomiclm.tokenizer.constants import COMPILED_FROM_BYTES, COMPILING_FROM_BYTES

type Task = Literal["train", "encode"]


@functools.cache
def why_unavailable() -> str | None:
    """Why no kernel can be run here; None when they can."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "NUMBA_DISABLE_JIT is set"
    if sys.byteorder != "little" or sys.maxsize < 2**62:
        return "kernels are written for 64-bit little-endian machines"
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed"
    try:
        importlib.import_module("numba")
    except ImportError as error:  # installed, and of a version that does not go with another package's
        return f"numba cannot be imported ({error})"
    return None


@functools.cache
def available() -> bool:
    """Whether kernels can be run here; why not is said once."""
    if reason := why_unavailable():
        log = logging.getLogger("atomiclm.tokenizer")
        log.warning("%s, so tokenizing runs in plain Python: same ids, about thirty times slower", reason)
        return False
    return True


def worth_from(task: Task) -> int:
    """From how many bytes of text on kernels are worth it: few where they are compiled already, else many."""
    if not available():
        return COMPILED_FROM_BYTES
    from atomiclm.tokenizer.fast import encoder, train

    kernels = train.KERNELS if task == "train" else encoder.KERNELS
    return COMPILED_FROM_BYTES if all(kernel.is_cached() for kernel in kernels) else COMPILING_FROM_BYTES
