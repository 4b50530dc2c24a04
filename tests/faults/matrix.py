"""The configurations that are disturbed: small runs that between them use every part that has a state to lose."""

import random
from dataclasses import dataclass

from cli import TINY

OPTIMIZERS = ("adamw", "lion", "muon", "soap", "adafactor", "schedule_free")
SCHEDULES = ("constant", "cosine", "inverse_square_root", "linear", "wsd")
STEPS = 24
EVALUATIONS, SAMPLES = 3, 2

_BASE = (
    *TINY, "evaluation.batch_size=1", f"evaluation.times={EVALUATIONS}", f"evaluation.sample_times={SAMPLES}",
    f"trainer.max_steps={STEPS}", "schedule.warmup_steps=3", "runtime.checkpoint_every_seconds=0",
    "runtime.log_every_steps=1", "runtime.num_threads=1",
)  # fmt: skip
_SEVERAL_EPOCHS = ("data=text", "data.path=short.txt")
_DOCUMENTS = ("data=text", "data.path=documents.jsonl")
_MIXTURE = (
    "data=mixture", "data@data.sources.python=text", "data.sources.python.path=short.txt",
    "data.sources.passkey.num_documents=200", "data.sources.passkey.filler_sentences=0", "model.context_length=64",
)  # fmt: skip
_DATA = {
    "several epochs": _SEVERAL_EPOCHS,
    "drawn windows": (*_SEVERAL_EPOCHS, "trainer/order=random"),
    "repeated windows": (*_SEVERAL_EPOCHS, "trainer/order=repeated"),
    "packed documents": (*_DOCUMENTS, "trainer/order=best_fit", "trainer.separate_documents=true"),
    "separate documents": (*_DOCUMENTS, "trainer.separate_documents=true"),
    "mixture": _MIXTURE,
}
_PARTS = {
    "plain": (),
    "experts": ("model/feedforward=moe",),
    "experts balanced by a bias": ("model/feedforward=moe_shared", "model.feedforward.num_experts=4"),
    "two tokens ahead": ("model/lookahead=sequential",),
    "a second head": ("model/lookahead=parallel",),
    "latent attention": ("model/attention=mla",),
}


@dataclass(frozen=True)
class Configuration:
    """What a run is started with, in words and in overrides."""

    name: str
    overrides: tuple[str, ...]


def configuration(
    optimizer: str = "adamw",
    schedule: str = "cosine",
    precision: str = "float32",
    data: str = "several epochs",
    parts: str = "plain",
    micro_batch_size: int | None = None,
    average: bool = False,
    recompute: bool = False,
    dropout: float = 0.1,
    compiled: bool = False,
) -> Configuration:
    """One of the matrix. Averaging optimizers take no second average, so `average` is left out with them."""
    average = average and optimizer != "schedule_free"
    chosen = {
        f"micro batches of {micro_batch_size}": (f"runtime.micro_batch_size={micro_batch_size}",),
        "averaged": ("trainer/weight_average=ema", "trainer.weight_average.decay=0.9"),
        "recomputed": ("runtime.checkpoint_activations=true",),
        "compiled": ("runtime.compile=true",),
    }
    asked = (micro_batch_size is not None, average, recompute, compiled)
    extras = [item for item, wanted in zip(chosen.items(), asked, strict=True) if wanted]
    words = [optimizer, schedule, precision, data, parts, f"dropout {dropout}", *(word for word, _ in extras)]
    more = [override for _, overrides in extras for override in overrides]
    return Configuration(
        ", ".join(words),
        (
            *_BASE, f"optim={optimizer}", f"schedule={schedule}", f"trainer.precision={precision}",
            f"model.dropout={dropout}", *_DATA[data], *_PARTS[parts], *more,
        ),
    )  # fmt: skip


def drawn(chance: random.Random, index: int, compiled: bool = False) -> Configuration:
    """A random configuration; optimizers, schedules, data and parts come in turn, so that few trials cover them all."""
    return configuration(
        optimizer=OPTIMIZERS[index % len(OPTIMIZERS)],
        schedule=SCHEDULES[index % len(SCHEDULES)],
        precision=("float32", "bfloat16")[index // 3 % 2],
        data=list(_DATA)[index * 5 % len(_DATA)],
        parts="plain" if compiled else list(_PARTS)[(index // 2) % len(_PARTS)],
        micro_batch_size=chance.choice([None, 1, 2]),
        average=chance.random() < 0.4,
        recompute=not compiled and chance.random() < 0.3,
        dropout=chance.choice([0.0, 0.1]),
        compiled=compiled,
    )


IN_CI = (
    configuration("adamw", "cosine", data="several epochs", micro_batch_size=2, average=True),
    configuration("muon", "wsd", "bfloat16", "packed documents", recompute=True),
    configuration("soap", "linear", data="mixture", parts="experts balanced by a bias"),
    configuration("schedule_free", "constant", "bfloat16", "several epochs", "two tokens ahead", micro_batch_size=1),
)
"""What the test suite disturbs; the soak draws from all of the matrix."""
