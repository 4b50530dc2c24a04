"""How a machine executes a run: device, threads, compilation, and how fast it was seen to be. Nothing here changes what
is computed beyond the order of floating-point sums, and which random numbers dropout draws.

Measured on the CPU: eager training is repeatable across processes. A run resumed under other `Runtime.conditions` may
end as another run, if only by its last bits; that is reported, never assumed.
"""

import contextlib
import ctypes
import errno
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, TypeAdapter
from torch import nn
from torch.utils.checkpoint import checkpoint

from atomiclm.atomic_io import write_atomic
from atomiclm.data.cache import exclusive
from atomiclm.machine import has_native_bfloat16, processor_name
from atomiclm.model.block import Block

_TORCHS_THREADS = torch.get_num_threads()

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
        keep_checkpoints: how many of the newest checkpoints stay.
        keep_best: whether the checkpoint with the best validation so far stays too.

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
        self.device = torch.device(available_devices()[0] if device == "auto" else device)
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
        here = available_devices()
        if device != "auto" and device not in here:
            raise ValueError(f"device={device} is not available on this machine; device=auto takes {here[0]}")

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

    @contextmanager
    def training(self, model: nn.Module) -> Iterator[None]:
        """While open, `model` is trained; with `checkpoint_activations` each block keeps only its input in a training
        pass, and recomputes the rest backwards.

        Memory falls from the activations of all blocks to one block's and the inputs of the others, for one more
        forward pass of the blocks; the same random numbers are drawn again (dropout). A component with effects in its
        forward pass must not repeat them when that runs within a backward pass, as `Router` does not.

        Source: Chen et al. (2016), arXiv:1604.06174, with blocks as the segments; torch's non-reentrant kind.
        """
        modules = model.modules() if self.checkpoint_activations else ()
        blocks = [module for module in modules if isinstance(module, Block)]
        for block in blocks:  # on the instance, so that parameters keep their names
            block.__dict__["forward"] = partial(_forward, block.forward)
        try:
            yield
        finally:
            for block in blocks:
                del block.__dict__["forward"]

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

    def matmul_rate(self, dtype: torch.dtype) -> "MatmulRate":
        """Measure the rate of square matrix products in `dtype`, the best of a few in about 0.2 seconds.

        On a CPU the clock is the CPU time of our threads, which stands still while other processes have the cores.
        """
        on_cpu = self.device.type == "cpu"
        threads = torch.get_num_threads() if on_cpu else 0
        clock = time.process_time if on_cpu else time.perf_counter
        size = 4096 if self.device.type == "cuda" else 512
        left = torch.ones(size, size, device=self.device, dtype=dtype)
        best, started = float("inf"), time.perf_counter()
        while time.perf_counter() - started < 0.2:
            before = clock()
            for _ in range(4):
                left @ left
            self.synchronize()
            best = min(best, (clock() - before) / 4 / max(1, threads))
        name = str(dtype).removeprefix("torch.")
        return MatmulRate(self.device.type, self.device_name(), name, threads, 2.0 * size**3 / best)

    def device_name(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return processor_name() if self.device.type == "cpu" else self.device.type

    def conditions(self, dtype: torch.dtype) -> dict[str, Any]:
        """Return what exact resuming depends on, once `prepare` has applied it; `dtype` is that of matrix products."""
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


def _forward(forward: Callable[..., torch.Tensor], *arguments: Any) -> torch.Tensor:
    has_cache = len(arguments) > 2 and arguments[2] is not None
    if has_cache or not torch.is_grad_enabled():  # no training pass
        return forward(*arguments)
    recomputed: torch.Tensor = checkpoint(forward, *arguments, use_reentrant=False)
    return recomputed


def _reuse_freed_memory() -> None:
    """Tell glibc to reuse large blocks instead of giving them back to the kernel, which zeroes each of their pages when
    the next step makes them again: a fifth of the CPU time of a small model's step (benchmarks/allocation.py)."""
    try:
        glibc = ctypes.CDLL("libc.so.6")
    except OSError:  # other C libraries have no such call
        return
    for parameter in (-3, -1):  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of mallopt(3)
        glibc.mallopt(parameter, 2**31 - 1)


def available_devices() -> list[str]:
    """Return the devices of this machine; `device=auto` takes the first."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [device for device, is_here in found.items() if is_here]


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


# ---------------------------------------------------------------------------------------------------------------------
# What this machine was seen to do. A run measures the rate of matrix products when it starts and leaves the best that
# was ever seen beside the caches, so that `plan` can say how long a configuration takes without measuring anything.

_FILE = "machine.json"
_RUNS = 64

_SHORTEST_TIMED_SECONDS = 10.0
"""Runs with fewer seconds of steps save no speed for `plan`, which takes the slowest run: first steps are slow."""

type _Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class MatmulRate:
    """The best rate seen of a large square product on a device, a multiply and an add counting as two."""

    kind: str  # cpu, cuda, mps
    device: str  # its name
    dtype: str
    threads: int  # of the CPU; 0 on an accelerator
    flops_per_second: _Positive

    def key(self) -> tuple[str, str, str, int]:
        return self.kind, self.device, self.dtype, self.threads


@dataclass(frozen=True)
class Reached(MatmulRate):
    """What the steps of a run reached there."""

    flops_per_token: _Positive


@dataclass(frozen=True)
class Machine:
    """All that is saved: rates, the last one used at the end, and the newest runs, the newest at the end."""

    rates: tuple[MatmulRate, ...] = ()
    runs: tuple[Reached, ...] = ()

    def rate(self, kind: str | None = None, dtype: str | None = None, threads: int | None = None) -> MatmulRate | None:
        """Return the rate last used that has these values, None standing for any; of a CPU only if it is this one."""
        for rate in reversed(self.rates):
            wanted = zip((kind, dtype, threads), (rate.kind, rate.dtype, rate.threads), strict=True)
            is_here = rate.kind != "cpu" or rate.device == processor_name()
            if is_here and all(value in (None, found) for value, found in wanted):
                return rate
        return None

    def reached(self, rate: MatmulRate, flops_per_token: float) -> float | None:
        """Return the lowest FLOP/s of runs under `rate` with half to twice as many FLOPs a token; None without any."""
        like = (run for run in self.runs if run.key() == rate.key())
        near = (run.flops_per_second for run in like if 0.5 <= run.flops_per_token / flops_per_token <= 2.0)
        return min(near, default=None)


class Peak:
    """Utilisation is a share of it: the best rate known here, raised by a run that is faster. Saved for `plan`."""

    def __init__(self, cache_dir: Path, rate: MatmulRate, say: Callable[[str], None]) -> None:
        self._cache_dir = cache_dir
        self._say = say
        self.rate = self._save(rate)

    def utilization(self, flops_per_second: float) -> float:
        """Return the share of the peak that so many FLOP/s are, at most 1."""
        if flops_per_second > self.rate.flops_per_second:
            self.rate = self._save(replace(self.rate, flops_per_second=flops_per_second))
        return flops_per_second / self.rate.flops_per_second

    def save_run(self, flops_per_token: float, tokens: int, seconds: float) -> None:
        """Save what the steps of a run reached, if there were enough of them."""
        if seconds >= _SHORTEST_TIMED_SECONDS:
            self._save(Reached(*self.rate.key(), flops_per_token * tokens / seconds, flops_per_token))

    def _save(self, seen: MatmulRate) -> MatmulRate:
        try:
            return save_seen(self._cache_dir, seen)
        except (OSError, ValueError) as error:
            self._say(f"the measured speed of this machine was not saved for plan: {error}")
            return seen


def read_machine(cache_dir: Path) -> Machine:
    """Return what was seen; nothing where no run has been, or where the file is not readable."""
    try:
        return TypeAdapter(Machine).validate_json((cache_dir / _FILE).read_bytes())
    except (OSError, ValueError):
        return Machine()


def save_seen(cache_dir: Path, seen: MatmulRate) -> MatmulRate:
    """Save what a run reached, or a rate if it is the best of its device, dtype and threads; return run or best."""
    with exclusive(cache_dir / _FILE):
        known = read_machine(cache_dir)
        if isinstance(seen, Reached):
            known = replace(known, runs=(*known.runs, seen)[-_RUNS:])
        else:
            same = [other for other in known.rates if other.key() == seen.key()]
            seen = max([*same, seen], key=lambda one: one.flops_per_second)
            known = replace(known, rates=(*(other for other in known.rates if other not in same), seen))
        write_atomic(cache_dir / _FILE, (json.dumps(asdict(known), indent=1) + "\n").encode())
    return seen
