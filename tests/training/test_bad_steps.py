"""A step that cannot be taken: each policy does what it says, and the run stays a function of its configuration."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from small_run import ORDER, dataset, fresh_mixture, fresh_state, runtime, schedule, weights

from atomiclm.data import Batch
from atomiclm.model import NextToken
from atomiclm.training import (
    RewindBadSteps,
    SkipBadSteps,
    SpikeDetector,
    StopAtBadStep,
    Trainer,
    TrainState,
    checkpoint,
)
from atomiclm.training.bad_steps import Recovery
from atomiclm.training.hooks import Retention, SaveCheckpoints
from atomiclm.training.step import Diverged, StepResult

STEPS, BAD = 12, 7


class Poisoned:
    """The fixed stream of bytes; its bad batches are of one token that the others do not have."""

    def __init__(self, bad: tuple[int, ...] = (BAD,)) -> None:
        self.clean = dataset()
        self.context_length = self.clean.context_length
        self.bad = bad

    def batch(self, step: int, batch_size: int) -> Batch:
        batch = self.clean.batch(step, batch_size)
        inputs = np.where(batch.inputs == 31, 30, batch.inputs)
        if step in self.bad:
            inputs[:] = 31
        return Batch(inputs, batch.targets)


class Without(Poisoned):
    """The same with the bad batches taken out."""

    def batch(self, step: int, batch_size: int) -> Batch:
        left = [index for index in range(step + 1 + len(self.bad)) if index not in self.bad]
        return super().batch(left[step], batch_size)


class NaNGradient(NextToken):
    """The gradient of one element is not a number where the marked token is; the loss is as ever."""

    def __call__(self, model, tokens, targets, mask=None, documents=None):
        weight = model.blocks[0].feedforward.down.weight
        poison = torch.zeros_like(weight)
        poison[0, 0] = torch.nan if bool((tokens == 31).any()) else 0.0
        if hasattr(self, "planted"):
            self.planted.remove()
        self.planted = weight.register_hook(lambda gradient: gradient + poison)
        return super().__call__(model, tokens, targets, mask, documents)


class NaNLoss(NextToken):
    def __call__(self, model, tokens, targets, mask=None, documents=None):
        found = super().__call__(model, tokens, targets, mask, documents)
        return replace(found, nats=found.nats * torch.nan) if bool((tokens == 31).any()) else found


class Steady:
    """A record that is always durable."""

    def __init__(self, rows: list) -> None:
        self._rows = rows

    @property
    def rows(self) -> int:
        return sum(row["event"] != "checkpoint" for row in self._rows)

    def sync(self) -> None:
        pass


def _trained(folder: Path, policy, objective=None, bad=(BAD,), state=None, stop_at=None, **more):
    rows: list[dict] = []
    said: list[str] = []
    points = policy.rewind_every_steps
    saver = SaveCheckpoints(
        rows.append, said.append, folder / "c", Retention(2), None if stop_at is None else 0.0, points, Steady(rows), {}
    )
    recovery = Recovery(folder / "bad_steps", saver, rows.append, said.append, lambda row: str(row[0]))
    trainer = Trainer(
        4, ORDER, max_steps=STEPS, precision="float32", objective=objective or NextToken(), bad_steps=policy, **more
    )
    state = state or fresh_state(dropout=0.1)
    saver.begin(state)
    try:
        trainer.fit(
            state, Poisoned(bad), schedule(), runtime(), [saver], lambda: state.step == stop_at, recovery=recovery
        )
        if stop_at is not None:
            saver.save(state)
    finally:
        saver.wait()
    return state, rows, said


def _clean(bad=(BAD,), state=None) -> TrainState:
    trainer = Trainer(4, ORDER, max_steps=STEPS, precision="float32")
    return trainer.fit(state or fresh_state(dropout=0.1), Without(bad), schedule(), runtime())


def _events(rows: list[dict], event: str) -> list[dict]:
    return [row for row in rows if row["event"] == event]


@pytest.mark.parametrize("objective", [NaNGradient, NaNLoss])
def test_stop_records_the_divergence_and_keeps_the_batch(tmp_path, objective):
    state = fresh_state()
    with pytest.raises(Diverged, match=f"step {BAD}: the (gradient|loss) is not finite"):
        _trained(tmp_path, StopAtBadStep(), objective(), state=state)
    assert state.step == BAD
    kept = tmp_path / "bad_steps" / f"batch_{BAD:08d}"
    batch = safetensors.torch.load_file(kept / "batch.safetensors")
    assert np.array_equal(batch["inputs"].numpy(), Poisoned().batch(BAD, 4).inputs)
    facts = json.loads((kept / "facts.json").read_text())
    assert facts["text"][0] == "31"
    if objective is NaNGradient:
        assert facts["gradients"] == ["blocks.0.feedforward.down.weight"]
        assert facts["gradient_norm"] == "nan"


@pytest.mark.one_in(4)
@pytest.mark.parametrize("objective", [NaNGradient, NaNLoss])
@pytest.mark.parametrize("policy", [SkipBadSteps(), RewindBadSteps(every_steps=5), RewindBadSteps(every_steps=100)])
def test_skipped_or_rewound_the_run_is_the_one_without_the_batch(tmp_path, policy, objective):
    state, rows, _ = _trained(tmp_path, policy, objective())
    wanted = _clean()
    for name, weight in weights(wanted).items():
        assert torch.equal(weight, weights(state)[name]), name
    assert torch.equal(dict(wanted.optimizer_tensors())["random/cpu"], dict(state.optimizer_tensors())["random/cpu"])
    assert (state.step, state.batch, state.bad_steps) == (STEPS, STEPS + 1, 1)
    (row,) = _events(rows, "bad_step")
    assert (row["step"], row["batch"]) == (BAD, BAD)
    assert row["action"] == ("skip" if policy.rewind_every_steps is None else "rewind")
    assert state.tokens == wanted.tokens


def test_the_tokens_of_a_skipped_batch_are_not_counted_into_the_load_of_experts(tmp_path):
    bad = (1, 2, 4, 5, 7, 9)
    state, _, _ = _trained(tmp_path, SkipBadSteps(), NaNLoss(), bad, state=fresh_mixture())
    wanted = _clean(bad, fresh_mixture())
    for name, tensor in wanted.model_tensors():
        assert torch.equal(tensor, dict(state.model_tensors())[name]), name


@pytest.mark.parametrize("policy", [SkipBadSteps(limit=2), RewindBadSteps(every_steps=4, limit=2)])
def test_several_bad_batches_up_to_the_limit(tmp_path, policy):
    state, rows, _ = _trained(tmp_path / "two", policy, NaNLoss(), bad=(3, 4))
    for name, weight in weights(_clean((3, 4))).items():
        assert torch.equal(weight, weights(state)[name]), name
    assert [row["batch"] for row in _events(rows, "bad_step")] == [3, 4]
    with pytest.raises(Diverged, match="after 2 bad steps before"):
        _trained(tmp_path / "three", policy, NaNLoss(), bad=(3, 4, 9))


@pytest.mark.parametrize("stopped_at", [1, 4, 6])
def test_a_run_stopped_before_the_bad_step_and_resumed_rewinds_to_the_same(tmp_path, stopped_at):
    """Wherever it goes on from, the point to rewind to is the same: it does not come by the clock."""
    policy = RewindBadSteps(every_steps=3)
    whole, _, _ = _trained(tmp_path / "whole", policy, NaNGradient())
    _trained(tmp_path / "cut", policy, NaNGradient(), stop_at=stopped_at)
    resumed = fresh_state(seed=9, dropout=0.1)
    assert checkpoint.resume(resumed, tmp_path / "cut" / "c", print)
    assert resumed.step == stopped_at
    state, _, _ = _trained(tmp_path / "cut", policy, NaNGradient(), state=resumed)
    for name, weight in weights(whole).items():
        assert torch.equal(weight, weights(state)[name]), name
    assert (state.skipped, state.batch) == (whole.skipped, whole.batch)


def test_a_damaged_rewind_point_is_said_and_the_one_before_serves(tmp_path):
    class Damage:
        def after_step(self, state: TrainState, result: StepResult, progress: float) -> None:
            if state.step == BAD:
                saver.wait()
                (tmp_path / "c" / "step_00000006" / "state.json").write_bytes(b"{")

    rows: list[dict] = []
    said: list[str] = []
    saver = SaveCheckpoints(rows.append, said.append, tmp_path / "c", Retention(2), None, 3, Steady(rows), {})
    recovery = Recovery(tmp_path / "bad_steps", saver, rows.append, said.append, str)
    policy = RewindBadSteps(every_steps=3)
    trainer = Trainer(4, ORDER, max_steps=STEPS, precision="float32", objective=NaNLoss(), bad_steps=policy)
    state = fresh_state(dropout=0.1)
    saver.begin(state)
    trainer.fit(state, Poisoned(), schedule(), runtime(), [saver, Damage()], recovery=recovery)
    assert any("step_00000006 is damaged" in line for line in said)
    for name, weight in weights(_clean()).items():
        assert torch.equal(weight, weights(state)[name]), name


def test_a_spike_is_above_the_mean_of_the_window_and_judged_once_it_is_full():
    detector = SpikeDetector(deviations=2.0, window=4)
    recent: list[float] = []
    for loss in (9.0, 1.0, 2.0, 3.0):
        assert detector.limit(recent) == float("inf")
        detector.remember(recent, loss)
    detector.remember(recent, 4.0)
    assert recent == [1.0, 2.0, 3.0, 4.0]
    assert detector.limit(recent) == pytest.approx(2.5 + 2.0 * np.std([1.0, 2.0, 3.0, 4.0], ddof=1))


class Spiking(NextToken):
    """Twice the loss where the marked token is."""

    def __call__(self, model, tokens, targets, mask=None, documents=None):
        found = super().__call__(model, tokens, targets, mask, documents)
        factor = 2.0 if bool((tokens == 31).any()) else 1.0
        return replace(found, total=found.total * factor, nats=found.nats * factor)


def test_a_spike_is_noted_or_avoided(tmp_path):
    noting, avoiding = (SpikeDetector(4.0, 5, is_bad) for is_bad in (False, True))
    noted, rows, _ = _trained(tmp_path / "noted", SkipBadSteps(), Spiking(), spikes=noting)
    assert not _events(rows, "bad_step")
    plain, _, _ = _trained(tmp_path / "plain", SkipBadSteps(), Spiking())
    avoided, rows, said = _trained(tmp_path / "avoided", SkipBadSteps(), Spiking(), spikes=avoiding)
    assert [row["reason"][:19] for row in _events(rows, "bad_step")] == ["the loss is a spike"]
    assert any("is skipped" in line for line in said)
    for name, weight in weights(_clean()).items():
        assert torch.equal(weight, weights(avoided)[name]), name
        assert torch.equal(weights(plain)[name], weights(noted)[name]), name
    assert not torch.equal(weights(noted)["embedding.weight"], weights(avoided)["embedding.weight"])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SkipBadSteps(limit=0), "limit=0"),
        (lambda: RewindBadSteps(every_steps=0), "every_steps=0"),
        (lambda: SpikeDetector(deviations=0.0), "deviations=0"),
        (lambda: SpikeDetector(window=1), "window=1"),
    ],
)
def test_settings_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
