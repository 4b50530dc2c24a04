"""What a run ran on: versions, source, machine and threads, as plain data for `environment.json`."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

PACKAGES = (
    "atomiclm", "torch", "numpy", "hydra-core", "omegaconf", "regex", "safetensors", "filelock", "zstandard", "pyarrow",
    "rich", "wandb",
)  # fmt: skip

VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "PYTHONHASHSEED",
    "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_CUDA_ALLOC_CONF", "TORCHINDUCTOR_CACHE_DIR",
)  # fmt: skip

SOURCE_FOLDERS = ("atomiclm", "conf", "experiments")
"""Where an untracked file can change a run; elsewhere in a checkout it is somebody's data or notes."""

GIT_TIMEOUT_SECONDS = 10


def environment() -> dict[str, Any]:
    """Facts about this process and machine, JSON-able; a fact that cannot be had is None, and nothing ever raises.

    The host's name is stored only as the first 12 hexadecimal digits of its sha256: enough to see that two runs shared
    a machine, without publishing its name.
    """
    return {
        "python": platform.python_version(),
        "platform": _fact(platform.platform),
        "host_sha256": _fact(lambda: hashlib.sha256(platform.node().encode()).hexdigest()[:12]),
        "cpu": _fact(processor_name),
        "cores": os.cpu_count(),
        "usable_cores": _fact(lambda: len(os.sched_getaffinity(0))),
        "memory_bytes": _fact(lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "versions": {name: _fact(partial(importlib.metadata.version, name)) for name in PACKAGES},
        "source": _fact(lambda: _source(Path(__file__).resolve().parents[2])),
        "code_sha256": _fact(code_of),
        "command": list(sys.argv),
        "variables": {name: os.environ.get(name) for name in VARIABLES},
        "torch": _fact(_torch) if "torch" in sys.modules else None,
    }


@lru_cache(maxsize=1)
def code_of() -> str:
    """Hash of the package's own source files as they are installed; a component of the user's own is not in it."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)} ".encode() + content)
    return digest.hexdigest()


def _fact(ask: Callable[[], Any]) -> Any:
    """The answer, or None: a run must not die because a machine does not say what processor it has."""
    try:
        return ask()
    except Exception:
        return None


def processor_name() -> str:
    """Return the name of the CPU: from Linux's own table where there is one."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _source(root: Path) -> dict[str, Any] | None:
    """Commit of the source tree, and a hash of what differs from it and of the untracked files in SOURCE_FOLDERS.

    None when `root` is no checkout itself: a wheel installed inside some other repository must not report its commit.
    """
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> bytes:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, check=True, timeout=GIT_TIMEOUT_SECONDS).stdout

    commit = git("rev-parse", "HEAD").decode().strip()
    diff = git("diff", "HEAD", "--binary", "--no-ext-diff")
    listing = git("ls-files", "--others", "--exclude-standard", "-z", "--", *SOURCE_FOLDERS)
    untracked = [name for name in listing.split(b"\0") if name]
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
