"""The machine and this process on it: how threads wait, where bfloat16 pays, where the cache is, what a run ran on.

Free of torch when imported, because OpenMP reads its settings when torch loads it.
"""

import hashlib
import importlib.metadata
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomiclm.cli import UserError

if TYPE_CHECKING:
    import torch


def wait_briefly() -> None:
    """Let a waiting thread spin for a moment, then sleep, unless the environment says how threads should wait.

    libgomp's own default spins far longer, which gains nothing on an idle machine and loses a factor of several as soon
    as another process wants a core: the spinning thread holds the core that the thread it waits for needs. Not to spin
    at all costs a third on an idle one (benchmarks/openmp_waiting.py). Has no effect once torch is imported.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "3000"


def has_native_bfloat16(device: "torch.device") -> bool:
    """Whether matrix products in bfloat16 run on instructions made for them.

    On a processor with AVX512_BF16 and no AMX the products of a small model take half of float32's time; where oneDNN
    has to emulate them, fifteen times as long and more. So its "supported" is not the question.
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()  # keeps oneDNN from instructions the processor has
    if limit in ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is Arm's


def default_cache_dir() -> Path:
    """$ATOMICLM_CACHE, else $XDG_CACHE_HOME/atomiclm, else ~/.cache/atomiclm. An empty variable counts as unset.

    Raises:
        UserError: no variable is set and the user has no home folder, as in some containers.
    """
    if own := os.environ.get("ATOMICLM_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "atomiclm"
    try:
        return Path.home() / ".cache" / "atomiclm"
    except RuntimeError as error:
        raise UserError(
            "no folder for the cache: HOME is not set, and this user has no home folder; "
            "set ATOMICLM_CACHE to a folder you may write to"
        ) from error


def processor_name() -> str:
    """Return the name of the CPU: from Linux's own table where there is one."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may use: those it is bound to, and of them no more than its control groups grant."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota, period in _control_groups("cpu.max"):
        if quota != "max":
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


def free_memory() -> int:
    """Bytes that processes can still have: those that Linux calls available, within the limits of the control groups
    that this one is in; of another system half of its memory."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    limits, used, stats = (list(_control_groups(f"memory.{name}")) for name in ("max", "current", "stat"))
    for (limit,), (current,), stat in zip(limits, used, stats, strict=False):
        if limit != "max":
            cached = int(dict(zip(stat[::2], stat[1::2], strict=True))["inactive_file"])  # given back when it is wanted
            free = min(free, int(limit) - int(current) + cached)
    return max(0, free)


def _control_groups(name: str) -> Iterator[list[str]]:
    """The words of the file `name` in each control group that this process is in (cgroup v2), from the innermost."""
    with suppress(OSError):
        entries = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        own = next((entry[3:] for entry in entries if entry.startswith("0::")), "/")
        innermost = Path("/sys/fs/cgroup", own.strip("/"))
        for group in (innermost, *innermost.parents):
            if (group / name).is_file():
                yield (group / name).read_text(encoding="ascii").split()


# ---------------------------------------------------------------------------------------------------------------------
# What a run ran on, for its environment.json.

_PACKAGES = (
    "atomiclm", "torch", "numpy", "hydra-core", "omegaconf", "regex", "safetensors", "filelock", "zstandard", "pyarrow",
    "rich", "wandb",
)  # fmt: skip

_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "PYTHONHASHSEED",
    "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_CUDA_ALLOC_CONF", "TORCHINDUCTOR_CACHE_DIR",
)  # fmt: skip

_GIT_TIMEOUT_SECONDS = 10


def environment() -> dict[str, Any]:
    """Facts about this process and machine, JSON-able; a fact that cannot be had is None, and nothing ever raises.

    Of the host's name only 12 digits of its sha256: enough to see that two runs shared a machine, without naming it.
    """
    return {
        "python": platform.python_version(),
        "platform": _fact(platform.platform),
        "host_sha256": _fact(lambda: hashlib.sha256(platform.node().encode()).hexdigest()[:12]),
        "cpu": _fact(processor_name),
        "cores": os.cpu_count(),
        "usable_cores": _fact(usable_cores),
        "memory_bytes": _fact(lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "versions": {name: _fact(partial(importlib.metadata.version, name)) for name in _PACKAGES},
        "source": _fact(lambda: _source(Path(__file__).resolve().parents[1])),
        "command": list(sys.argv),
        "variables": {name: os.environ.get(name) for name in _VARIABLES},
        "torch": _fact(_torch) if "torch" in sys.modules else None,
    }


def _fact(ask: Callable[[], Any]) -> Any:
    """The answer, or None: a run must not die because a machine does not say what processor it has."""
    try:
        return ask()
    except Exception:
        return None


@lru_cache(maxsize=1)
def code_of() -> str:
    """Hash of the package's own source files as they are installed; a component of the user's own is not in it."""
    root = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)} ".encode() + content)
    return digest.hexdigest()


def _source(root: Path) -> dict[str, Any] | None:
    """Commit of the source tree, and a hash of what differs from it and of untracked files that can change a run.

    None when `root` is no checkout itself: a wheel installed inside some other repository must not report its commit.
    """
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> bytes:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, check=True, timeout=_GIT_TIMEOUT_SECONDS).stdout

    commit = git("rev-parse", "HEAD").decode().strip()
    diff = git("diff", "HEAD", "--binary", "--no-ext-diff")
    folders = ("atomiclm", "conf", "experiments")
    untracked = git("ls-files", "--others", "--exclude-standard", "-z", "--", *folders).split(b"\0")[:-1]
    if not diff and not untracked:
        return {"commit": commit, "dirty": False, "diff_sha256": None}
    digest = hashlib.sha256(diff)
    for name in untracked:
        content = (root / os.fsdecode(name)).read_bytes()
        digest.update(b"\0" + name + b"\0" + hashlib.sha256(content).digest())
    return {"commit": commit, "dirty": True, "diff_sha256": digest.hexdigest()}


def _torch() -> dict[str, Any]:
    """Threads and accelerators as torch sees them."""
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"threads": torch.get_num_threads(), "cuda": torch.version.cuda, "devices": devices}
