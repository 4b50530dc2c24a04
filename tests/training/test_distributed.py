"""Several processes train what one trains: losses, gradient norms, weights and the state of every optimizer."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from several_processes import OPTIMIZERS, Case, trained

from atomiclm.training.checkpoint import Snapshot
from atomiclm.training.processes import Processes

MODELS = [
    {"experts": True}, {"experts": True, "micro_batch_size": 1}, {"lookahead": True}, {"average": True},
    {"recompute": True}, {"micro_batch_size": 1},
]  # fmt: skip


def _cases(size: int, double: bool) -> list[Case]:
    strategies = ["ddp", "fsdp", *(["fsdp of 2"] if size == 4 else [])]
    steps = 10 if double else 50
    cases = [Case(strategy, optimizer, steps, double) for strategy in strategies for optimizer in OPTIMIZERS]
    return cases + [Case(strategy, steps=8, double=double, **model) for strategy in strategies for model in MODELS]


def _trained_by(size: int, cases: list[Case], folder: Path) -> None:
    (folder / "cases.json").write_text(json.dumps([asdict(case) for case in cases]))
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}",
         str(here / "several_processes.py"), str(folder / "cases.json"), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{here}:{here.parents[1]}"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.mark.slow
@pytest.mark.parametrize(("size", "double"), [(2, False), (4, True)])
def test_several_processes_train_what_one_does(size, double, tmp_path):
    cases = _cases(size, double)
    _trained_by(size, cases, tmp_path)
    alone: dict[Case, tuple] = {}
    worst = 0.0
    for index, case in enumerate(cases):
        of_one = Case(**{**asdict(case), "strategy": "ddp"})
        if of_one not in alone:
            state, reported = trained(of_one, Processes())
            alone[of_one] = Snapshot.take(state), reported
        snapshot, expected = alone[of_one]
        for rank in range(size):
            reported = torch.load(tmp_path / f"{index}.{rank}.pt")
            for theirs, ours in zip(expected, reported, strict=True):
                # Figures are float32, and what is added to the loss is a difference of two.
                assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6 if double else 1e-5), (case, rank)
                if double:
                    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-6), (case, rank)
                worst = max(worst, abs(ours["loss"] / theirs["loss"] - 1))
        found = torch.load(tmp_path / f"{index}.pt")
        for name, tensor in snapshot.model.items():
            if double:
                difference = float((found["model"][name] - tensor).abs().max())
                assert difference < 1e-5, (case, name)
        whole = {name: tensor for name, tensor in found["optimizer"].items() if not name.startswith("random/")}
        wanted = {name: tensor for name, tensor in snapshot.optimizer.items() if not name.startswith("random/")}
        assert {name: tensor.shape for name, tensor in whole.items()} == {n: t.shape for n, t in wanted.items()}, case
        assert found["scalars"]["optimizer"].keys() == snapshot.scalars["optimizer"].keys()
    print(f"{size} processes, {'float64' if double else 'float32'}: losses within {worst:.1e}")
