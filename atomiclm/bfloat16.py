"""Where bfloat16 pays: only where the hardware multiplies it, elsewhere it is slower than float32."""

import os

import torch

_BFLOAT16_OF_A_PROCESSOR = ("avx512_bf16", "amx_bf16", "bf16")
"""Its instructions as `torch.cpu.get_capabilities` names them; the last is Arm's."""

_LIMITS_WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Values of ONEDNN_MAX_CPU_ISA, which keeps oneDNN from instructions that the processor has."""


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 run on instructions made for them.

    On a processor with AVX512_BF16 and no AMX the products of a small model take half of float32's time; where oneDNN
    has to emulate them, fifteen times as long and more. So its "supported" is not the question.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _LIMITS_WITHOUT_BFLOAT16:
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in _BFLOAT16_OF_A_PROCESSOR)
