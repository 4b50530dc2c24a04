"""Native bfloat16 where the hardware has it and oneDNN may use it; no more cores and memory than are granted."""

import pytest
import torch

from atomiclm import machine
from atomiclm.machine import free_memory, has_native_bfloat16, usable_cores
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


def test_control_groups_limit_cores_and_memory(monkeypatch):
    files = {"cpu.max": [["max", "100000"], ["150000", "100000"]]}
    monkeypatch.setattr(machine, "_control_groups", lambda name: files.get(name, []))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cores() == 2
    files.clear()
    assert usable_cores() == 8
    before = free_memory()
    assert before > 2**24
    files |= {"memory.max": [["max"], [str(2**24)]], "memory.current": [["7"], [str(2**23)]]}
    files |= {"memory.stat": [["inactive_file", "5"], ["anon", "1", "inactive_file", "1000"], ["inactive_file", "9"]]}
    assert free_memory() == 2**24 - 2**23 + 1000
