"""What is asked of the machine: how threads wait, where bfloat16 pays, where the cache is. Free of torch when imported,
because OpenMP reads its settings when torch loads it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from atomiclm.cli import UserError

if TYPE_CHECKING:
    import torch

_SPINS = 3000

_BFLOAT16_OF_A_PROCESSOR = ("avx512_bf16", "amx_bf16", "bf16")
"""Its instructions as `torch.cpu.get_capabilities` names them; the last is Arm's."""

_LIMITS_WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Values of ONEDNN_MAX_CPU_ISA, which keeps oneDNN from instructions that the processor has."""


def wait_briefly() -> None:
    """Let a waiting thread spin for a moment, then sleep, unless the environment says how threads should wait.

    libgomp's own default spins far longer, which gains nothing on an idle machine and loses a factor of several as soon
    as another process wants a core: the spinning thread holds the core that the thread it waits for needs. Not to spin
    at all costs a third on an idle one (benchmarks/openmp_waiting.py). Has no effect once torch is imported.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(_SPINS)


def has_native_bfloat16(device: "torch.device") -> bool:
    """Whether matrix products in bfloat16 run on instructions made for them.

    On a processor with AVX512_BF16 and no AMX the products of a small model take half of float32's time; where oneDNN
    has to emulate them, fifteen times as long and more. So its "supported" is not the question.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _LIMITS_WITHOUT_BFLOAT16:
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in _BFLOAT16_OF_A_PROCESSOR)


def default_cache_dir() -> Path:
    """$ATOMICLM_CACHE, else $XDG_CACHE_HOME/atomiclm, else ~/.cache/atomiclm. An empty variable counts as unset.

    Raises:
        ValueError: no variable is set and the user has no home folder, as in some containers.
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
