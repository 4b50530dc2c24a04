"""How a machine executes a run: device, threads, compilation. Nothing here changes what is computed beyond the order of
floating-point sums, and which random numbers dropout draws.

Measured on the CPU: eager training is repeatable across processes; another number of threads, another version of torch
or another processor may change the order of floating-point sums, and with it everything that follows. A run resumed
under other `Runtime.conditions` ends as another run, if only by its last bits; that is reported, never assumed.
"""

import contextlib
import ctypes
import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from atomiclm.machine import has_native_bfloat16
from atomiclm.model.block import Block
from atomiclm.tracking.environment import processor_name
from atomiclm.training.speed import MatmulRate

_TORCHS_THREADS = torch.get_num_threads()

# Parameters of glibc's mallopt(3), from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK_BYTES = 2**31 - 1

Precision = Literal["auto", "float32", "bfloat16"]


class Runtime:
    """Device, compilation, micro-batches, and how often the run is recorded and saved.

    Args:
        device: where tensors live; auto takes cuda, then mps, then cpu.
        compile: run forward passes and the loss through torch.compile; pays off only for runs of many minutes.
        checkpoint_activations: recompute the inside of a block in the backward pass instead of keeping it.
        micro_batch_size: sequences in one forward pass; a batch is accumulated from several. null = the whole batch. A
            model with a load-balancing loss runs each once more, without gradients (`Decoder.needs_survey`).
        num_threads: CPU threads for one operation; null = torch's choice.
        deterministic: warn of operations whose result can differ between two runs on the same machine.
        log_every_steps: steps between two rows of training metrics.
        checkpoint_every_seconds: seconds between two checkpoints (one is always written at the end); null = only then.
        keep_checkpoints: how many of the newest checkpoints are kept.
        keep_best: also the checkpoint whose validation was the best so far.

    Raises:
        ValueError: a setting is out of range, or the machine has no such device.
    """

    def __init__(
        self,
        device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
        compile: bool = False,
        checkpoint_activations: bool = False,
        micro_batch_size: int | None = None,
        num_threads: int | None = None,
        deterministic: bool = True,
        log_every_steps: int = 10,
        checkpoint_every_seconds: float | None = 60.0,
        keep_checkpoints: int = 2,
        keep_best: bool = True,
    ) -> None:
        self.device = torch.device(best_device() if device == "auto" else device)
        self.compile = compile
        self.checkpoint_activations = checkpoint_activations
        self.micro_batch_size = micro_batch_size
        self.num_threads = num_threads
        self.deterministic = deterministic
        self.log_every_steps = log_every_steps
        self.checkpoint_every_seconds = checkpoint_every_seconds
        self.keep_checkpoints = keep_checkpoints
        self.keep_best = keep_best
        counts = {"num_threads": num_threads, "micro_batch_size": micro_batch_size,
                  "log_every_steps": log_every_steps, "keep_checkpoints": keep_checkpoints}  # fmt: skip
        for argument, count in counts.items():
            if count is not None and count < 1:
                raise ValueError(f"{argument}={count} must be positive; give at least 1")
        cores = os.cpu_count() or 1
        if num_threads is not None and num_threads > cores:
            raise ValueError(f"num_threads={num_threads} must not be more than this machine's {cores} cores")
        if checkpoint_every_seconds is not None and checkpoint_every_seconds < 0:
            rule = "must not be negative; give 0 to save after every step"
            raise ValueError(f"checkpoint_every_seconds={checkpoint_every_seconds} {rule}")
        if device != "auto" and device not in _available():
            raise ValueError(f"device={device} is not available on this machine; device=auto takes {best_device()}")

    def prepare(self) -> None:
        """Apply the process-wide settings. Called once a run, since a sweep's cells may share a process."""
        if self.deterministic and self.device.type == "cuda":
            # Without it cuBLAS may choose other algorithms for the same product; read when its first handle is made.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_num_threads(self.num_threads or _TORCHS_THREADS)
        torch.use_deterministic_algorithms(self.deterministic, warn_only=True)
        # The mode also overwrites every fresh buffer with NaN, which guards against reads nothing here makes.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        _reuse_freed_memory()
        if self.compile:
            # A sweep's cells share a process, and after eight shapes of one function the compiler silently gives up.
            torch.compiler.reset()
        # TF32 matrix products where float32 is asked for: the custom on GPUs, and of no effect elsewhere.
        torch.set_float32_matmul_precision("high")

    def compiled[**P, R](self, function: Callable[P, R]) -> Callable[P, R]:
        """Return what a training or validation pass calls: the function, compiled if that was asked for."""
        return torch.compile(function) if self.compile else function

    def training(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Return the context in which training passes of `model` run."""
        return checkpointed_blocks(model) if self.checkpoint_activations else contextlib.nullcontext()

    def dtype(self, precision: Precision) -> torch.dtype:
        """Return the dtype of matrix products: for auto, bfloat16 where the hardware multiplies it natively."""
        if precision == "auto":
            return torch.bfloat16 if has_native_bfloat16(self.device) else torch.float32
        return torch.float32 if precision == "float32" else torch.bfloat16

    def autocast(self, dtype: torch.dtype) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which forward passes run; weights and optimizer state stay in float32."""
        if dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=dtype)

    def synchronize(self) -> None:
        """Wait until the device has done what it was given, so that a clock reading means something."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def matmul_rate(self, dtype: torch.dtype) -> MatmulRate:
        """Measure the rate of square matrix products in `dtype`, the best of a few in about 0.2 seconds.

        Utilisation is a share of it: of what this machine reaches, not of what its data sheet says. On a CPU the clock
        is the CPU time of our threads, which stands still while other processes have the cores.
        """
        on_cpu = self.device.type == "cpu"
        threads = torch.get_num_threads() if on_cpu else 0

        def now() -> float:
            return time.process_time() / threads if on_cpu else time.perf_counter()

        size = 4096 if self.device.type == "cuda" else 512
        left = torch.ones(size, size, device=self.device, dtype=dtype)
        best = float("inf")
        started = time.perf_counter()
        while time.perf_counter() - started < 0.2:
            before = now()
            for _ in range(4):
                left @ left
            self.synchronize()
            best = min(best, (now() - before) / 4)
        return MatmulRate(
            self.device.type, self.device_name(), str(dtype).removeprefix("torch."), threads, 2.0 * size**3 / best
        )

    def device_name(self) -> str:
        """Return the name of the processor or accelerator."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return processor_name() if self.device.type == "cpu" else self.device.type

    def conditions(self, dtype: torch.dtype) -> dict[str, Any]:
        """Return what of this process and machine exact resuming depends on, once `prepare` has applied it.

        Args:
            dtype: of matrix products.
        """
        found = {
            "torch": str(torch.__version__),
            "device": self.device_name(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "dtype": str(dtype).removeprefix("torch."),
            "native_bfloat16": has_native_bfloat16(self.device),  # in which dtype Muon makes matrices orthogonal
            "compile": self.compile,
            "deterministic": self.deterministic,
            "micro_batch_size": self.micro_batch_size,
            "checkpoint_activations": self.checkpoint_activations,
            "world_size": int(os.environ.get("WORLD_SIZE", "1")),
        }
        if self.device.type == "cuda":
            # The processor decides also beside an accelerator: batches are made and generators seeded there.
            found |= {"processor": processor_name(), "cuda": torch.version.cuda}
        return found


def reasons_inexact(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """Return why a run that goes on under conditions `now` is not the run it was begun as; nothing when it is."""
    if before is None:
        return ["the checkpoint does not say under what conditions it was made"]

    def short(value: Any) -> str:
        text = str(value)
        return text[:12] if len(text) == 64 else text  # a hash

    return [
        f"{key} was {short(before.get(key))} and is {short(now.get(key))}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]


@contextmanager
def checkpointed_blocks(model: nn.Module) -> Iterator[None]:
    """While open, each block of `model` keeps only its input in a training pass, and recomputes the rest backwards.

    Memory falls from the activations of all blocks to one block's and the inputs of the others, for one more forward
    pass of the blocks. The same random numbers are drawn again (dropout), so nothing changes but the order in which
    things are computed, and on a CPU not a bit of the result.

    The hook is the block's `forward`, replaced on the instance: parameters keep their names and blocks know nothing of
    it. A component with effects in its forward pass must not repeat them when that runs within a backward pass, as
    `Router` does not. Passes without gradients, and those with a cache, are left as they are.

    Source: Chen et al. (2016), arXiv:1604.06174, with blocks as the segments; torch's non-reentrant kind.
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    for block in blocks:
        block.__dict__["forward"] = partial(_forward, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.__dict__["forward"]


def _forward(forward: Callable[..., torch.Tensor], *arguments: Any) -> torch.Tensor:
    has_cache = len(arguments) > 2 and arguments[2] is not None
    if has_cache or not torch.is_grad_enabled():
        return forward(*arguments)
    recomputed: torch.Tensor = checkpoint(forward, *arguments, use_reentrant=False)
    return recomputed


def _reuse_freed_memory() -> None:
    """Tell glibc to reuse large blocks instead of giving them back to the kernel.

    A step's large tensors are freed and made again every step; as fresh mappings, the kernel zeroes each of their pages
    every time: a fifth of the CPU time of a small model's step (benchmarks/allocation.py). Other C libraries have no
    such call, and are left as they are.
    """
    try:
        glibc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        glibc.mallopt(parameter, _LARGEST_BLOCK_BYTES)


def _available() -> list[str]:
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [device for device, is_here in found.items() if is_here]


def best_device() -> str:
    """Return what `device=auto` takes on this machine."""
    return _available()[0]


_MEMORY_SIGNS = (
    "DefaultCPUAllocator",  # of torch's allocator for the CPU, which raises a plain RuntimeError
    "out of memory",  # of CUDA's libraries and of MPS, some of which raise one too
    "ALLOC_FAILED",  # of cuBLAS and cuDNN, whose workspaces come from the same memory
    "could not create a memory",  # of oneDNN
)
"""In the messages of RuntimeErrors that are about memory and have no class of their own."""


def memory_advice(error: BaseException, config: Mapping[str, Any]) -> str | None:
    """Return what to change after `error`, in place of an allocator's traceback; None where memory did not run out.

    Args:
        error: what ended the run.
        config: its configuration, with `trainer` and `runtime`.
    """
    is_about_memory = (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in _MEMORY_SIGNS))
    )
    if not is_about_memory:
        return None
    trainer, runtime = config["trainer"], config["runtime"]
    device = best_device() if runtime["device"] == "auto" else runtime["device"]
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
