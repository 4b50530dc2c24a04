"""What each of several processes does in test_distributed.py: train small models and save what came of it.

torchrun ... several_processes.py CASES.json FOLDER
"""

import copy
import json
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist
from small_run import CONTEXT_LENGTH, dataset, runtime, schedule

from atomiclm.model import (
    Decoder,
    MixtureOfExperts,
    MultiHeadAttention,
    NextToken,
    NormalInit,
    SequentialPrediction,
    SigmoidTopK,
    parameter_roles,
)  # fmt: skip
from atomiclm.optim import SOAP, Adafactor, AdamW, Lion, Muon, ScheduleFreeAdamW
from atomiclm.training import ExponentialAverage, Trainer, TrainState
from atomiclm.training.checkpoint import Snapshot
from atomiclm.training.processes import Processes

OPTIMIZERS = {
    "adamw": partial(AdamW, lr=1e-2),
    "lion": partial(Lion, lr=1e-3),
    "muon": partial(Muon, lr=3e-3),
    # Of a side that is longer than the other the gradient says nothing in some directions, where the eigenvectors are a
    # matter of rounding; so such a side has none here.
    "soap": partial(SOAP, lr=1e-2, refresh_every_steps=3, largest_side=16),
    "adafactor": partial(Adafactor, lr=1e-2),
    "schedule_free": partial(ScheduleFreeAdamW, lr=1e-2),
}
VOCAB_SIZE = 33  # neither 2 nor 4 divides it


@dataclass(frozen=True)
class Case:
    strategy: str = "ddp"  # "fsdp", "fsdp of 2": hybrid
    optimizer: str = "adamw"
    steps: int = 50
    double: bool = False
    experts: bool = False
    lookahead: bool = False
    average: bool = False
    recompute: bool = False
    micro_batch_size: int | None = None


def trained(case: Case, processes: Processes) -> tuple[TrainState, list[dict[str, float]]]:
    """Train one case; returns its state and what each step reported."""
    routed = partial(
        MixtureOfExperts, num_experts=4, hidden_dim=16, router=partial(SigmoidTopK, bias_rate=0.1), balance_weight=0.1
    )
    parts = {"feedforward": routed} if case.experts else {}
    if case.lookahead:
        parts["lookahead"] = SequentialPrediction
    model = Decoder(
        vocab_size=VOCAB_SIZE, dim=16, num_layers=2, context_length=CONTEXT_LENGTH, tie_embeddings=not case.lookahead,
        attention=partial(MultiHeadAttention, num_heads=2), init=NormalInit(seed=1, std=0.2), **parts,
    )  # fmt: skip
    if case.double:
        model.double()
    kind, _, size = case.strategy.partition(" of ")
    if kind == "fsdp" and processes.size > 1:
        processes.shard(model, int(size) if size else None, torch.float32, reshard=True)
    make = OPTIMIZERS[case.optimizer]
    here = processes.optimized(model, make.func.elementwise)
    state = TrainState(model, make(here.items(), parameter_roles(model)), processes=processes)
    reported = []

    class Collect:
        def after_step(self, state, result, progress):
            reported.append({"loss": result.loss, "norm": result.gradient_norm, **result.terms})

    trainer = Trainer(
        batch_size=8, order=dataset().order, max_steps=case.steps, precision="float32",
        objective=NextToken(z_loss=1e-4), weight_average=ExponentialAverage(0.9) if case.average else None,
    )  # fmt: skip
    machine = runtime(case.micro_batch_size)
    machine.checkpoint_activations = case.recompute
    # Where bfloat16 is native Muon's iteration rounds to it, which carries a last bit into the fifth digit.
    with patch("atomiclm.optim.muon.has_native_bfloat16", return_value=False):
        trainer.fit(state, dataset(), schedule(), machine, [Collect()])
    return state, reported


def main() -> None:
    from atomiclm.training.distributed import joined

    cases, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    with joined("cpu", 60.0) as first:
        for index, settings in enumerate(cases):
            # A copy that has sharded nothing, with the same groups: each case would open its own connections.
            state, reported = trained(Case(**settings), copy.copy(first))
            snapshot = Snapshot.take(state)
            torch.save(reported, folder / f"{index}.{first.rank}.pt")
            if first.is_first:
                found = {"model": snapshot.model, "optimizer": snapshot.optimizer, "scalars": snapshot.scalars}
                torch.save(found, folder / f"{index}.pt")
        patient, *others = sorted((waits_for(group) for group in all_groups()), reverse=True)
        assert patient > 3600, "the one that waits while a text is prepared"
        assert set(others) == {60}
    os._exit(0)  # as the command ends; see app.py


def all_groups() -> list[dist.ProcessGroup]:
    return list(dist.distributed_c10d._world.pg_map)


def waits_for(group: dist.ProcessGroup) -> float:
    """The seconds after which it gives up a process that is not heard of."""
    return group._get_backend(torch.device("cpu")).options._timeout.total_seconds()


if __name__ == "__main__":
    main()
