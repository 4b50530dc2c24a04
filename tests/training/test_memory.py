"""A run says what memory it took, and `plan` says so beforehand."""

import itertools
import json
import sys
from pathlib import Path

import pytest
import torch
from cli import corpus, run
from torch.profiler import ProfilerActivity, profile

from atomiclm.config.build import build
from atomiclm.config.compose import compose, resolved
from atomiclm.config.match import cost_of
from atomiclm.model import parameter_roles
from atomiclm.training import Runtime
from atomiclm.training.memory import PeakMemory

linux = pytest.mark.skipif(sys.platform != "linux", reason="a process's peak is read from Linux's /proc")


def peak_and_plan(folder, *overrides):
    """The bytes that a short run of these overrides took, and those that were planned."""
    text = [f"data.path={corpus(folder, 3000)}", "data=text", "tokenizer=bytes"]
    short = ["trainer.max_tokens=null", "trainer.max_steps=3", "evaluation.times=1", "evaluation.anchors=false"]
    overrides = [*overrides, *text, *short, "tracking=off"]
    done = run(folder, "train", *overrides)
    assert done.returncode == 0, done.stderr
    (summary,) = (folder / "outputs").glob("runs/*/summary.json")
    cost = cost_of(resolved(compose(overrides)))
    return json.loads(summary.read_text())["peak_memory_bytes"], cost.memory_bytes


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("model=mini", "model.vocab_size=1024", "trainer.batch_size=64"),
        ("model=small", "model.vocab_size=2048", "trainer.batch_size=32"),
        ("model=small", "trainer.batch_size=64", "trainer.precision=float32"),
        # In chunks unasked.
        ("model=small", "model.vocab_size=32768", "trainer.batch_size=32", "evaluation.batch_size=4"),
    ],
)
def test_the_planned_memory_is_within_a_fifth_of_what_a_run_takes(overrides, tmp_path):
    peak, planned = peak_and_plan(tmp_path, *overrides)
    assert planned == pytest.approx(peak, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "overrides",
    [
        ("model=tiny",),
        ("model=mini",),
        ("model=mini", "trainer.batch_size=32"),
        ("model=small", "trainer.batch_size=2"),
        ("model=small", "model/feedforward=gelu", "model/norm=layernorm"),
        ("model=mini", "trainer.objective.chunk_tokens=128"),
        ("model=mini", "model.vocab_size=32768"),  # in chunks unasked
    ],
)
def test_the_tensors_of_a_step_are_as_many_as_torch_allocates(overrides, precision):
    values = resolved(compose([*overrides, f"trainer.precision={precision}"]))
    cost = cost_of(values)
    model, trainer = build(values["model"]), build(values["trainer"])
    optimizer = build(values["optim"])(model.named_parameters(), parameter_roles(model), model.lr_multipliers)
    tokens = torch.randint(4096, (trainer.batch_size, model.context_length))
    loss = trainer.forward(lambda *batch: trainer.objective(model, *batch), Runtime(device="cpu"))
    model.train()
    for _ in range(2):  # the first makes the optimizer's state
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            (loss(tokens, tokens, None, None).total / tokens.numel()).backward()
            optimizer.step()
            optimizer.zero_grad()
    taken = itertools.accumulate(
        event.nbytes() for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"
    )
    peak = cost.weight_bytes + (cost.optimizer_bytes or 0) + max(taken)
    planned = 2 * cost.weight_bytes + (cost.optimizer_bytes or 0) + cost.activation_bytes
    assert planned == pytest.approx(peak, rel=0.2)


@linux
def test_where_the_system_does_not_say_there_is_no_peak(monkeypatch):
    assert PeakMemory(torch.device("cpu")).bytes() >= 0
    monkeypatch.setattr(Path, "read_text", lambda path, **encoding: "VmSize: 1 kB\nVmRSS: 1 kB\n")  # gVisor's
    assert PeakMemory(torch.device("cpu")).bytes() is None
