"""What exact resuming depends on. A run resumed under other conditions ends as another run, if only by its last bits;
that is reported, never assumed.

Measured on the CPU: eager training is repeatable across processes; another number of threads, another version of torch
or another processor may change the order of floating-point sums, and with it everything that follows.
"""

import os
from collections.abc import Mapping
from typing import Any

import torch

from atomiclm.bfloat16 import has_native_bfloat16
from atomiclm.tracking.environment import processor_name
from atomiclm.training.runtime import Runtime

_HASH_CHARACTERS = 12


def conditions(runtime: Runtime, dtype: torch.dtype, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return the conditions of this process.

    Args:
        runtime: applied (`Runtime.prepare`).
        dtype: of matrix products.
        hashes: of what is not this machine's: text, tokenizer, code.
    """
    on_cuda = runtime.device.type == "cuda"
    found = {
        "torch": str(torch.__version__),
        "device": runtime.device_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
        "native_bfloat16": has_native_bfloat16(runtime.device),  # in which dtype Muon makes matrices orthogonal
        "compile": runtime.compile,
        "deterministic": runtime.deterministic,
        "micro_batch_size": runtime.micro_batch_size,
        "checkpoint_activations": runtime.checkpoint_activations,
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
        **hashes,
    }
    # The processor decides also beside an accelerator: batches are made and generators seeded there.
    return {**found, "processor": processor_name(), "cuda": torch.version.cuda} if on_cuda else found


def reasons_inexact(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """Return why a run that goes on under conditions `now` is not the run it was begun as; nothing when it is."""
    if before is None:
        return ["the checkpoint does not say under what conditions it was made"]
    return [
        f"{key} was {_short(before.get(key))} and is {_short(now.get(key))}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text[:_HASH_CHARACTERS] if len(text) == 64 else text
