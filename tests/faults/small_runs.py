"""Runs in this process, small enough for hundreds: what a session puts together, from its folder's state to its record.

A crash is imitated by leaving the objects behind: what is not in the folder is lost.
"""

import hashlib
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from small_run import CONTEXT_LENGTH, VOCAB_SIZE, dataset, runtime, stream

from atomiclm.data import Dataset, MixedDataset, PackedDataset, RandomWindows, ShuffledWindows, TextDataset
from atomiclm.model import (
    Decoder,
    MixtureOfExperts,
    MultiHeadAttention,
    NormalInit,
    SequentialPrediction,
    SigmoidTopK,
    parameter_roles,
)  # fmt: skip
from atomiclm.optim import (
    SOAP,
    Adafactor,
    AdamW,
    Constant,
    Cosine,
    InverseSquareRoot,
    Linear,
    Lion,
    Muon,
    ScheduleFreeAdamW,
    WarmupStableDecay,
)  # fmt: skip
from atomiclm.tracking import Record, read_metrics
from atomiclm.training import ExponentialAverage, Trainer, TrainState, checkpoint
from atomiclm.training.hooks import LogMetrics, Retention, SaveCheckpoints, Validate

STEPS, SAVED_EVERY = 14, 4  # a step is 4 windows, and the text has 37: the second epoch begins within step 10
_CLOCK = ("seconds", "train/tokens_per_second", "train/flops_utilization", "save_seconds")

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": partial(AdamW, lr=1e-2),
    "lion": partial(Lion, lr=1e-3),
    "muon": partial(Muon, lr=1e-2),
    "soap": partial(SOAP, lr=1e-2, refresh_every_steps=3),
    "adafactor": partial(Adafactor, lr=1e-2),
    "schedule_free": partial(ScheduleFreeAdamW, lr=1e-2),
}
SCHEDULES: dict[str, Any] = {
    "constant": Constant(warmup_steps=3),
    "cosine": Cosine(warmup_steps=3),
    "linear": Linear(warmup_steps=3),
    "inverse_square_root": InverseSquareRoot(warmup_steps=3),
    "wsd": WarmupStableDecay(warmup_steps=3),
}
_ORDER = ShuffledWindows(seed=0)


def _mixed() -> Dataset:
    parts = [TextDataset(stream(400, seed), CONTEXT_LENGTH, ShuffledWindows(seed=seed)) for seed in (1, 2)]
    return MixedDataset(parts, [3.0, 1.0], seed=0)


def _packed() -> Dataset:
    tokens = stream(700)
    tokens[0] = 0
    tokens[np.flatnonzero(tokens == 0)[1::2]] = 1
    return PackedDataset(tokens, CONTEXT_LENGTH, seed=0, separator=0, separate_documents=True)


DATA: dict[str, Callable[[], Dataset]] = {
    "windows": dataset,
    "drawn": lambda: TextDataset(stream(), CONTEXT_LENGTH, RandomWindows(seed=0)),
    "mixed": _mixed,
    "packed": _packed,
}


@dataclass(frozen=True)
class Setting:
    """What a small run is made of, by name."""

    optimizer: str = "adamw"
    schedule: str = "cosine"
    data: str = "windows"
    precision: str = "float32"
    micro_batch_size: int | None = None
    average: bool = False
    experts: bool = False
    lookahead: bool = False
    recompute: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        words = [self.optimizer, self.schedule, self.data, self.precision, f"micro{self.micro_batch_size}"]
        flags = [name for name in ("average", "experts", "lookahead", "recompute", "compiled") if getattr(self, name)]
        return "-".join([*(word for word in words if word not in ("windows", "float32", "microNone")), *flags])

    def state(self) -> TrainState:
        """Return a run at its beginning."""
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        routed = partial(MixtureOfExperts, num_experts=4, hidden_dim=16, router=partial(SigmoidTopK, bias_rate=0.1))
        parts: dict[str, Any] = {"feedforward": routed} if self.experts else {}
        if self.lookahead:
            parts["lookahead"] = SequentialPrediction
        model = Decoder(
            vocab_size=VOCAB_SIZE, dim=16, num_layers=2, context_length=CONTEXT_LENGTH, dropout=0.2,
            attention=partial(MultiHeadAttention, num_heads=2, num_kv_heads=1), init=NormalInit(seed=1), **parts,
        )  # fmt: skip
        make = OPTIMIZERS[self.optimizer]
        return TrainState(model, make(model.named_parameters(), parameter_roles(model)))


class Draws:
    """A hook that draws from every random generator, as a user's own part may."""

    def __init__(self, log: Callable[[dict[str, Any]], None]) -> None:
        self.log = log

    def after_step(self, state: TrainState, result: object, progress: float) -> None:
        drawn = [random.random(), float(np.random.rand()), float(torch.rand(()))]
        self.log({"event": "draws", **state.position(), "drawn": drawn})


def go_on(
    setting: Setting, folder: Path, until: int = STEPS, say: Callable[[str], None] = print, keep_best: bool = True
) -> TrainState:
    """Start, or go on from what the folder holds; leave everything behind after step `until`."""
    state = setting.state()
    with Record(folder / "metrics.jsonl") as record:
        content = checkpoint.resume(state, folder / "checkpoints", say)
        record.truncate(content.scalars["record_rows"] if content else 0)
        saver = SaveCheckpoints(
            record.append, say, folder / "checkpoints", Retention(2, keep_best), every_seconds=None,
            rewind_every_steps=SAVED_EVERY, record=record, conditions={},
        )  # fmt: skip
        # Any figure that depends on the weights and falls will do for a score.
        judged = {"validation/bits_per_byte": 0.0}

        def evaluate() -> dict[str, float]:
            judged["validation/bits_per_byte"] = float(sum(p.detach().square().sum() for p in state.model.parameters()))
            return judged

        hooks = [
            LogMetrics(record.append, 3, 1.0, 1.0, lambda rate: rate / 1e9), Draws(record.append),
            Validate(record.append, evaluate, 5), saver,
        ]  # fmt: skip
        trainer = Trainer(
            batch_size=4, order=_ORDER, max_steps=STEPS, precision=setting.precision,
            weight_average=ExponentialAverage(0.8) if setting.average else None,
        )  # fmt: skip
        machine = runtime(setting.micro_batch_size)
        machine.checkpoint_activations, machine.compile = setting.recompute, setting.compiled
        torch.compiler.reset()  # as in a new process
        trainer.fit(
            state, DATA[setting.data](), SCHEDULES[setting.schedule], machine, hooks, lambda: state.step >= until
        )
        with suppress(OSError):
            saver.wait()
    return state


def outcome(folder: Path) -> dict[str, str]:
    """What must be equal, as hashes: the last checkpoint's tensors, and each row without the clock's fields.

    Not the content itself: where `CI` is set, pytest explains a difference in full, which takes hours for megabytes.
    """
    newest = checkpoint.checkpoints_in(folder / "checkpoints")[0]
    content = {name: (newest / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")}
    rows = [row for row in read_metrics(folder / "metrics.jsonl") if row["event"] != "checkpoint"]
    for place, row in enumerate(rows):
        timeless = {name: value for name, value in row.items() if name not in _CLOCK}
        content[f"row {place}: {row['event']}"] = repr(timeless).encode()
    return {"newest": newest.name, **{name: hashlib.sha256(data).hexdigest() for name, data in content.items()}}
