"""Metrics, validation and samples at the right steps, also after a resume."""

import math
from dataclasses import replace

import pytest
import torch

from atomiclm.training.hooks import LogMetrics, Validate, crossed
from atomiclm.training.state import TrainState
from atomiclm.training.step import StepResult


def _state() -> TrainState:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    return TrainState(model=torch.nn.Identity(), optimizer=optimizer)


def _step(state: TrainState, loss: float, tokens: int = 10, before: float = 0.0) -> StepResult:
    """Every second token is a target that counts."""
    state.step += 1
    return StepResult(loss, 0.5, 2 * tokens, tokens, 2.0, before, {"z_loss": loss / 10})


def _before(progress: float) -> StepResult:
    return StepResult(1.0, 0.5, 20, 10, 2.0, progress)


@pytest.mark.parametrize("total", [7, 40, 200, 333])
def test_marks_are_crossed_exactly_so_many_times_and_the_last_with_the_end(total):
    steps = [step for step in range(1, total + 1) if crossed(5, _before((step - 1) / total), step / total)]
    assert len(steps) == 5
    assert steps[-1] == total
    assert steps == [math.ceil(mark * total / 5 - 1e-9) for mark in range(1, 6)]


def test_zero_times_never():
    assert not any(crossed(0, _before((step - 1) / 9), step / 9) for step in range(1, 10))


def test_a_spike_is_a_row_of_its_own():
    rows: list[dict] = []
    hook = LogMetrics(rows.append, every_steps=100, bytes_per_token=1.0, flops_per_token=1.0, utilization=float)
    state = _state()
    hook.after_step(state, replace(_step(state, 9.0), spike_limit=5.0), progress=0.1)
    hook.after_step(state, _step(state, 1.0), progress=0.2)
    assert [(row["event"], row["step"], row["loss"], row["limit"]) for row in rows] == [("spike", 1, 9.0, 5.0)]


def test_a_row_of_metrics_is_the_mean_over_targets_since_the_last():
    rows: list[dict] = []
    hook = LogMetrics(
        rows.append, every_steps=2, bytes_per_token=4.0, flops_per_token=6.0, utilization=lambda rate: rate / 60.0
    )
    state = _state()
    for loss, tokens in ((1.0, 10), (4.0, 30), (2.0, 10)):
        result = _step(state, loss, tokens)
        hook.after_step(state, result, progress=state.step / 3)
    assert [row["step"] for row in rows] == [2, 3]
    assert rows[0]["train/loss"] == pytest.approx((10 + 120) / 40)
    assert rows[0]["train/z_loss"] == pytest.approx((1.0 + 12.0) / 40)
    assert rows[0]["train/tokens_per_second"] == pytest.approx(80 / 4.0)
    assert rows[0]["train/flops_utilization"] == pytest.approx(20 * 6.0 / 60.0)
    assert rows[1]["train/loss"] == pytest.approx(2.0)
    assert rows[1]["train/bits_per_byte"] == pytest.approx(2.0 / math.log(2) / 4.0)


def test_validation_is_logged_and_kept_as_the_latest():
    rows: list[dict] = []
    values = iter([{"validation/loss": 3.0}, {"validation/loss": 2.0}])
    hook = Validate(rows.append, lambda: next(values), times=2)
    state = _state()
    for step in range(1, 5):
        hook.after_step(state, _step(state, 1.0, before=(step - 1) / 4), progress=step / 4)
    assert [(row["step"], row["validation/loss"]) for row in rows] == [(2, 3.0), (4, 2.0)]
    assert state.latest == {"validation/loss": 2.0}
