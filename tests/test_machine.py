"""bfloat16 is native where the hardware multiplies it and oneDNN is not kept from it."""

import pytest
import torch

from atomiclm.machine import has_native_bfloat16
from atomiclm.training import Runtime

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({"neon": True, "bf16": False}, False),
    ],
)
def test_a_processor_is_asked_for_its_instructions(monkeypatch, capabilities, native):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    assert has_native_bfloat16(CPU) is native
    assert Runtime(device="cpu").dtype("auto") == (torch.bfloat16 if native else torch.float32)


@pytest.mark.parametrize(
    ("limit", "native"),
    [("AVX2", False), ("avx512_core", False), ("AVX512_CORE_BF16", True), ("DEFAULT", True), ("", True)],
)
def test_instructions_hidden_from_onednn_do_not_count(monkeypatch, limit, native):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert has_native_bfloat16(CPU) is native


def test_a_processor_without_onednn_and_other_devices_have_none(monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"bf16": True})
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    assert not has_native_bfloat16(CPU)
    assert not has_native_bfloat16(torch.device("mps"))
