"""The memory of a run: the most that it took, and what takes less where it ran out."""

import contextlib
import ctypes
import errno
import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from atomiclm.training.runtime import available_devices


class PeakMemory:
    """The most memory that a run takes beyond what the process had when this was made, from here on.

    On a GPU it is what torch's allocator handed out. On a CPU, of Linux alone, it is the process's anonymous memory,
    which leaves out code and mapped shards, that other processes share. Runs of one process each have their own: what
    the one before left free is given back to the kernel, whose mark of the most is set back (proc(5), clear_refs).
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: int | None = None
        gc.collect()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = self._now()[0]
            return
        # Another C library; no such file, or none to write to; none of these fields, as in a gVisor sandbox.
        with contextlib.suppress(OSError, AttributeError, KeyError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            self._before = self._now()[0]

    def bytes(self) -> int | None:
        """Return the most since then, or None where this machine does not say."""
        return None if self._before is None else max(0, self._now()[1] - self._before)

    def _now(self) -> tuple[int, int]:
        """What is taken now, and the most that was."""
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated(self._device), torch.cuda.max_memory_allocated(self._device)
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        anonymous, mapped, most = (1024 * int(fields[name][0]) for name in ("RssAnon", "RssFile", "VmHWM"))
        return anonymous, most - mapped


_MEMORY_SIGNS = (
    "DefaultCPUAllocator",  # of torch's allocator for the CPU, which raises a plain RuntimeError
    "out of memory",  # of CUDA's libraries and of MPS, some of which raise one too
    "ALLOC_FAILED",  # of cuBLAS and cuDNN, whose workspaces come from the same memory
    "could not create a memory",  # of oneDNN
)
"""In the messages of RuntimeErrors that have no class of their own."""


def memory_advice(error: BaseException, config: Mapping[str, Any]) -> str | None:
    """Return what to change in `config` after `error`, in place of an allocator's traceback; None where memory did not
    run out."""
    is_about_memory = (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in _MEMORY_SIGNS))
    )
    if not is_about_memory:
        return None
    trainer, runtime = config["trainer"], config["runtime"]
    device = available_devices()[0] if runtime["device"] == "auto" else runtime["device"]
    batch_size = trainer["batch_size"]
    size = runtime["micro_batch_size"] or batch_size
    pieces = "at once" if size == batch_size else f"in pieces of {size}"
    reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])  # allocators go on for a page
    lines = [f"out of memory on {device}, where batches of {batch_size} sequences are computed {pieces}: {reason}"]
    if smaller := [str(divisor) for divisor in range(size // 2, 0, -1) if batch_size % divisor == 0][:4]:
        others = f", or {', '.join(smaller[1:])}" if smaller[1:] else ""
        lines.append(f"  runtime.micro_batch_size={smaller[0]}{others}: the same batch in smaller pieces")
    if not runtime["checkpoint_activations"]:
        lines.append("  runtime.checkpoint_activations=true: blocks are computed once more in the backward pass")
    lines.append("  evaluation.batch_size: smaller, if it was an evaluation that ran out")
    lines.append(
        "The same command with any of these is the same run, up to the order of sums and the random numbers of "
        "dropout, and goes on from its newest checkpoint. A smaller trainer.batch_size, model.context_length or model "
        "makes it another run."
    )
    return "\n".join(lines)
