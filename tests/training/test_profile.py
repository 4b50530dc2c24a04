"""A profiled run is the same run, and each moment of its steps counts to one part."""

import json
import re
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from small_run import ORDER, dataset, fresh_state

from atomiclm.optim import Cosine
from atomiclm.training import Runtime, Trainer
from atomiclm.training.hooks import Validate
from atomiclm.training.profile import WARMUP_STEPS, Profile


def trained(path=None, steps=9, take=None, **settings):
    """The state after nine steps with a validation in each third; and what the profile said, where one is asked for.

    `take` is called with the seconds that parts of a step are to take by a clock of the test's own.
    """
    state, batches, said = fresh_state(dropout=0.1), dataset(), []
    runtime = Runtime(device="cpu", **settings)
    if take is not None:
        step = state.optimizer.step
        state.optimizer.step = lambda: take(5) or step()
        for block in state.model.blocks:
            block.attention.register_forward_hook(lambda *_: take(1))
            block.feedforward.register_forward_hook(lambda *_: take(2))

    def validate():
        with torch.no_grad():
            return {"validation/bits_per_byte": float(state.model(torch.zeros(1, 4, dtype=torch.long)).mean())}

    hooks = [Validate(lambda row: None, validate, 3)]
    if path is not None:
        hooks.append(Profile(4, path, said.append, batches, runtime, list(hooks)))
    Trainer(batch_size=4, order=ORDER, max_steps=steps).fit(state, batches, Cosine(), runtime, hooks)
    return state, said


def test_a_profiled_run_is_bit_equal_and_nothing_of_the_profile_stays(tmp_path):
    backward = torch.Tensor.backward
    plain, _ = trained()
    state, _ = trained(tmp_path / "profile.json")
    for name, parameter in plain.model.named_parameters():
        assert torch.equal(parameter, state.model.get_parameter(name)), name
    assert state.scalars()["best"] == plain.scalars()["best"]
    assert torch.Tensor.backward is backward
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in state.model.modules())
    assert "predictions" not in vars(state.model)


def test_the_shares_add_up_and_the_trace_has_the_parts(tmp_path):
    _, said = trained(tmp_path / "profile.json", micro_batch_size=2, checkpoint_activations=True)
    assert said[0].startswith("profile of 4 steps")
    milliseconds = float(re.search(r"([\d.]+) ms each", said[0])[1])
    table = {line[2:28].strip(): re.findall(r"([\d.]+) ms +([\d.]+)%", line)[0] for line in said[1:-1]}
    parts = {"data", "embedding", "attention", "feed-forward", "norms", "head and loss", "backward", "optimizer"}
    assert parts <= table.keys()
    assert abs(sum(float(share) for _, share in table.values()) - 100) < 0.1 * len(table)
    assert abs(sum(float(part) for part, _ in table.values()) - milliseconds) < 0.1 + 0.01 * len(table)
    events = json.loads((tmp_path / "profile.json").read_text())["traceEvents"]
    assert parts - {"head and loss"} <= {event.get("name") for event in events}


def test_each_moment_counts_to_its_part(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("atomiclm.training.profile.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    state, said = trained(tmp_path / "profile.json", take=lambda seconds: clock.append(clock.pop() + seconds))
    table = {line[2:28].strip(): float(line[28:].split()[0]) / 1000 for line in said[1:-1]}
    blocks = len(state.model.blocks)
    expected = {"attention": blocks, "feed-forward": 2 * blocks, "optimizer": 5}
    expected["validation"] = 3 * blocks / 4  # one in four steps, with all that the model does in it
    assert {part: seconds for part, seconds in table.items() if seconds} == expected


def test_compiled_blocks_are_a_part_and_are_compiled_once(tmp_path, monkeypatch):
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True))
    _, said = trained(tmp_path / "profile.json", compile=True)
    assert counters["stats"]["unique_graphs"] == 1
    parts = {line[2:28].strip() for line in said[1:-1]}
    assert {"embedding", "blocks", "norms", "head and loss", "backward"} <= parts
    assert not {"attention", "feed-forward"} & parts


@pytest.mark.parametrize("steps", [1, WARMUP_STEPS, WARMUP_STEPS + 1])
def test_a_run_too_short_says_so(steps, tmp_path):
    _, said = trained(tmp_path / "profile.json", steps)
    assert said[0].startswith("profile of 1 steps" if steps > WARMUP_STEPS else "runtime.profile=4: the first 3 steps")
