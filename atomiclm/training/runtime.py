"""How a machine executes a run: device, threads, compilation, and how fast it was seen to be. Nothing here changes what
is computed beyond the order of floating-point sums, and which random numbers dropout draws.

Measured on the CPU: eager training is repeatable across processes. A run resumed under other `Runtime.conditions` may
end as another run, if only by its last bits; that is reported, never assumed.
"""

import contextlib
import ctypes
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, TypeAdapter
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from atomiclm.atomic_io import write_atomic
from atomiclm.cli import UserError
from atomiclm.data.cache import exclusive
from atomiclm.machine import has_native_bfloat16, processor_name
from atomiclm.model.block import Block
from atomiclm.model.components import quick_products

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16"]


class Runtime:
    """Device, compilation, micro-batches, and how often the run is recorded and saved.

    Args:
        device: where tensors live; auto takes cuda, then mps, then cpu.
        compile: run the blocks of training passes through torch.compile, see `training`; pays off in runs of many
            minutes. Evaluations and samples stay uncompiled.
        checkpoint_activations: recompute the inside of a block in the backward pass instead of keeping it.
        micro_batch_size: sequences in one forward pass; a batch is accumulated from several. null = the whole batch. A
            model with a load-balancing loss runs each once more, without gradients (`Decoder.needs_survey`).
        num_threads: CPU threads for one operation; null = torch's choice, or in a sweep the cell's share of the cores.
        data_workers: processes that read and tokenize a corpus of more than 32 MB, to the same shards whatever their
            number; null = the cores that this process may use.
        distributed: how several processes (torchrun) train one run: ddp = each has the whole model, fsdp = it is
            sharded over them; auto = ddp, but fsdp on a GPU that has no memory for the whole. Of no use to one process.
        shard: processes that share one copy of the model under fsdp; null = all.
        reshard: free a block's gathered weights after its forward pass; false = less traffic, more memory.
        gather_precision: in which fsdp sends and computes with weights; bfloat16 halves their traffic.
        peer_timeout_seconds: how long a process waits for the others before it takes one for lost.
        parallel: how many cells of a sweep are trained side by side at most; auto = as many as pay off. Of no use to a
            single run.
        deterministic: warn of operations whose result can differ between two runs on the same machine.
        log_every_steps: steps between two rows of training metrics.
        checkpoint_every_seconds: seconds between two checkpoints (one is always written at the end); null = only then.
        keep_checkpoints: how many of the newest checkpoints stay.
        keep_best: whether the checkpoint with the best validation so far stays too.
        profile: steps, after the first few, of which a table and a trace say where their time goes; null = none.

    Raises:
        ValueError: a setting is out of range, or the machine has no such device.
    """

    torchs_threads: ClassVar[int] = torch.get_num_threads()  # its choice, whatever runs in this process set since

    def __init__(
        self,
        device: Device = "auto",
        compile: bool = False,
        checkpoint_activations: bool = False,
        micro_batch_size: int | None = None,
        num_threads: int | None = None,
        data_workers: int | None = None,
        distributed: Literal["auto", "ddp", "fsdp"] = "auto",
        shard: int | None = None,
        reshard: bool = True,
        gather_precision: Literal["float32", "bfloat16"] = "float32",
        peer_timeout_seconds: float = 600.0,
        parallel: int | Literal["auto"] = "auto",
        deterministic: bool = True,
        log_every_steps: int = 10,
        checkpoint_every_seconds: float | None = 60.0,
        keep_checkpoints: int = 2,
        keep_best: bool = True,
        profile: int | None = None,
    ) -> None:
        self.device = torch.device(available_devices()[0] if device == "auto" else device)
        self.compile = compile
        self.checkpoint_activations = checkpoint_activations
        self.micro_batch_size = micro_batch_size
        self.num_threads = num_threads
        self.distributed = distributed
        self.shard = shard
        self.reshard = reshard
        self.gather_dtype = torch.float32 if gather_precision == "float32" else torch.bfloat16
        self.deterministic = deterministic
        self.log_every_steps = log_every_steps
        self.checkpoint_every_seconds = checkpoint_every_seconds
        self.keep_checkpoints = keep_checkpoints
        self.keep_best = keep_best
        self.profile = profile
        counts = {"num_threads": num_threads, "data_workers": data_workers, "micro_batch_size": micro_batch_size,
                  "parallel": None if parallel == "auto" else parallel, "log_every_steps": log_every_steps,
                  "shard": shard, "keep_checkpoints": keep_checkpoints, "profile": profile}  # fmt: skip
        for argument, count in counts.items():
            if count is not None and count < 1:
                raise ValueError(f"{argument}={count} must be positive; give at least 1")
        cores = os.cpu_count() or 1
        if num_threads is not None and num_threads > cores:
            raise ValueError(f"num_threads={num_threads} must not be more than this machine's {cores} cores")
        if checkpoint_every_seconds is not None and checkpoint_every_seconds < 0:
            rule = "must not be negative; give 0 to save after every step"
            raise ValueError(f"checkpoint_every_seconds={checkpoint_every_seconds} {rule}")
        if not peer_timeout_seconds > 0:
            raise ValueError(f"peer_timeout_seconds={peer_timeout_seconds} must be positive; 600 is ten minutes")
        here = available_devices()
        if device != "auto" and device not in here:
            raise ValueError(f"device={device} is not available on this machine; device=auto takes {here[0]}")

    def prepare(self) -> None:
        """Apply the process-wide settings. Called once a run, since a sweep's cells may share a process.

        Raises:
            UserError: blocks are to be compiled, and there is no compiler.
        """
        if self.deterministic and self.device.type == "cuda":
            # Without it cuBLAS may choose other algorithms for the same product; read when its first handle is made.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_num_threads(self.num_threads or self.torchs_threads)
        if self.compile:
            torch.use_deterministic_algorithms(self.deterministic, warn_only=True)  # imports the compiler, and tells it
        else:
            torch.set_deterministic_debug_mode("warn" if self.deterministic else "default")
        # The mode also overwrites every fresh buffer with NaN, which guards against reads nothing here makes.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        _reuse_freed_memory()
        compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")  # as torch looks for it
        if self.compile and self.device.type == "cpu" and shutil.which(compiler) is None:
            raise UserError(
                f"runtime.compile=true needs a C++ compiler, and there is no {compiler}; install one, name it in "
                "CXX, or leave compile=false"
            )
        # TF32 matrix products where float32 is asked for: the custom on GPUs, and of no effect elsewhere.
        torch.set_float32_matmul_precision("high")

    @contextmanager
    def training(self, model: nn.Module) -> Iterator[None]:
        """While open, `model` is trained. Its blocks change in passes with gradients; all others run as they are.

        With `checkpoint_activations` each block keeps only its input, and recomputes the rest backwards. Memory falls
        from the activations of all blocks to one block's and the inputs of the others, for one more forward pass of the
        blocks; the same random numbers are drawn again (dropout). A component with effects in its forward pass must not
        repeat them when that runs within a backward pass, as `Router` does not.

        With `compile` each is compiled, once for all that are alike: they are a model's time, and the rest of it would
        be compiled again for every depth. What is compiled stays for later runs of the process, and torch keeps it on
        disk. Shapes are constants: a symbol would make a run depend on those before it in the process.

        Source: Chen et al. (2016), arXiv:1604.06174, with blocks as the segments; torch's non-reentrant kind.
        """
        is_changed = self.checkpoint_activations or self.compile
        blocks = [module for module in model.modules() if is_changed and isinstance(module, Block)]
        run = _run_checkpointed if self.checkpoint_activations else _run
        if self.compile:
            run = _compiled(run)
        for block in blocks:  # on the instance, so that parameters keep their names
            block.__dict__["forward"] = partial(_forward, run, block)
        try:
            # A compiler chooses kernels for itself.
            with contextlib.nullcontext() if self.compile else quick_products(model):
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

    def read(self, *scalars: Tensor) -> list[float]:
        """Return the values of scalars in one transfer, for which the device is waited for."""
        values: list[float] = torch.stack([scalar.to(self.device).reshape(()) for scalar in scalars]).tolist()
        return values

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


def _forward(run: Callable[..., Tensor], block: Block, *arguments: Any) -> Tensor:
    has_cache = len(arguments) > 2 and arguments[2] is not None
    if has_cache or not torch.is_grad_enabled():  # no training pass
        run = _run
    return run(block, *arguments)


def _run(block: Block, *arguments: Any) -> Tensor:
    return type(block).forward(block, *arguments)


def _run_checkpointed(block: Block, *arguments: Any) -> Tensor:
    recomputed: Tensor = checkpoint(_run, block, *arguments, use_reentrant=False)
    return recomputed


def _compiled(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    from torch._dynamo import config

    # A sweep's cells share a process. By default the ninth shape of one function is silently left uncompiled.
    config.recompile_limit = config.accumulated_recompile_limit = 1024
    config.fail_on_recompile_limit_hit = True
    config.skip_fwd_side_effects_in_bwd_under_checkpoint = True  # a router counts once
    return torch.compile(run, dynamic=False)


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
