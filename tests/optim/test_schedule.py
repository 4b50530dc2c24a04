"""Schedules are pure functions of the step; their corner points are what the docstrings say."""

import math

import pytest

from atomiclm.optim import Constant, Cosine, InverseSquareRoot, Linear, WarmupStableDecay

EVERY = [Constant(5), Cosine(5), Linear(5), InverseSquareRoot(5), WarmupStableDecay(5), WarmupStableDecay(5, 1.0)]


@pytest.mark.parametrize("schedule", EVERY, ids=lambda schedule: type(schedule).__name__)
def test_warmup_moves_from_the_first_step_and_reaches_the_peak(schedule):
    assert [schedule.multiplier(step, 100) for step in range(6)] == pytest.approx([n / 6 for n in range(1, 7)])


@pytest.mark.parametrize("schedule", EVERY, ids=lambda schedule: type(schedule).__name__)
def test_no_step_of_any_run_breaks_the_bounds_or_rises_after_the_warmup(schedule):
    for horizon in (1, 4, 5, 6, 7, 40, 40.5, math.inf):
        values = [schedule.multiplier(step, horizon) for step in range(60)]
        assert all(0.0 <= value <= 1.0 for value in values), horizon
        assert values[5:] == sorted(values[5:], reverse=True), horizon


def test_cosine_equals_the_formula_of_nanogpt():
    """lr(it) as in its train.py: (it + 1) / (warmup + 1) in the warmup, then min + 0.5 (1 + cos(pi r)) (max - min)."""
    warmup, horizon, peak, floor = 100, 2000, 1e-3, 1e-4
    schedule = Cosine(warmup_steps=warmup, final_fraction=floor / peak)
    for step in range(0, horizon, 7):
        if step < warmup:
            expected = peak * (step + 1) / (warmup + 1)
        else:
            ratio = (step - warmup) / (horizon - warmup)
            expected = floor + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (peak - floor)
        assert peak * schedule.multiplier(step, horizon) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "middle"),
    [(Cosine, 0.25 + 0.75 / 2), (Linear, 0.25 + 0.75 / 2), (WarmupStableDecay, 1.0)],
)
def test_the_end_is_the_final_fraction_and_stays_there(kind, middle):
    schedule = kind(warmup_steps=10, final_fraction=0.25)
    assert schedule.multiplier(30, 50) == pytest.approx(middle)
    assert schedule.multiplier(50, 50) == pytest.approx(0.25)
    assert schedule.multiplier(80, 50) == pytest.approx(0.25)


@pytest.mark.parametrize("kind", [Cosine, Linear, WarmupStableDecay])
def test_a_horizon_of_its_own_is_that_of_a_budget_so_long(kind):
    own, budgets = kind(4, horizon_steps=30), kind(4)
    assert [own.multiplier(step, 77) for step in range(60)] == [budgets.multiplier(step, 30) for step in range(60)]
    assert own.multiplier(20, 77) != budgets.multiplier(20, 77) or kind is WarmupStableDecay
    assert own.multiplier(29, 77) != budgets.multiplier(29, 77)


def test_linear_is_torchs_linear_schedule():
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.1, total_iters=25)
    schedule = Linear(warmup_steps=0, final_fraction=0.1)
    for step in range(30):
        assert schedule.multiplier(step, 25) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        reference.step()


def test_inverse_square_root_is_that_of_the_transformer():
    """Vaswani et al., equation 3: min(n^-0.5, n W'^-1.5) with n from 1, divided by its peak at n = W' = W + 1."""
    schedule = InverseSquareRoot(warmup_steps=9)
    for step in range(200):
        n = step + 1
        expected = min(n**-0.5, n * 10**-1.5) / 10**-0.5
        assert schedule.multiplier(step, math.nan) == pytest.approx(expected)


def test_constant_has_no_decay():
    schedule = Constant(warmup_steps=2)
    assert [schedule.multiplier(step, 10) for step in (0, 2, 5, 9)] == pytest.approx([1 / 3, 1, 1, 1])


@pytest.mark.parametrize(
    ("decay", "quarter"),
    [("linear", 0.75), ("one_minus_sqrt", 0.5), ("cosine", 0.5 * (1 + math.cos(math.pi / 4)))],
)
def test_the_shapes_of_a_decay(decay, quarter):
    schedule = WarmupStableDecay(10, decay_fraction=0.4, decay=decay, final_fraction=0.2)
    assert [schedule.multiplier(step, 100) for step in (10, 59, 60)] == [1.0, 1.0, 1.0]
    assert schedule.multiplier(70, 100) == pytest.approx(0.2 + 0.8 * quarter)
    assert schedule.multiplier(100, 100) == pytest.approx(0.2)


def test_a_decay_in_steps_is_the_decay_in_that_fraction_and_equals_constant_before():
    steps, fraction = WarmupStableDecay(8, None, 25), WarmupStableDecay(8, 0.25)
    trunk = Constant(8)
    for step in range(100):
        assert steps.multiplier(step, 100) == fraction.multiplier(step, 100)
        assert (steps.multiplier(step, 100) == trunk.multiplier(step, 100)) == (step <= 75)


def test_a_decay_longer_than_the_run_begins_after_the_warmup():
    schedule = WarmupStableDecay(10, decay_fraction=None, decay_steps=1000, decay="linear")
    assert [schedule.multiplier(step, 30) for step in (10, 20, 30)] == pytest.approx([1.0, 0.5, 0.0])


def test_a_warmup_longer_than_the_run_never_divides_by_zero():
    schedule = Cosine(warmup_steps=10)
    assert schedule.multiplier(3, 5) == pytest.approx(4 / 11)
    assert schedule.multiplier(10, 10) == pytest.approx(0.1)
    assert WarmupStableDecay(10).multiplier(12, 10) == 0.0


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Cosine, {"warmup_steps": -1}, "warmup_steps=-1"),
        (Cosine, {"final_fraction": 1.5}, r"final_fraction=1\.5"),
        (Linear, {"warmup_steps": 9, "horizon_steps": 9}, "horizon_steps=9"),
        (WarmupStableDecay, {"decay_steps": 5}, "give one of them"),
        (WarmupStableDecay, {"decay_fraction": None}, "give one of them"),
        (WarmupStableDecay, {"decay_fraction": 1.1}, r"decay_fraction=1\.1"),
        (WarmupStableDecay, {"decay_fraction": None, "decay_steps": 0}, "decay_steps=0"),
        (WarmupStableDecay, {"decay": "sqrt"}, "decay=sqrt must be one of"),
        (WarmupStableDecay, {"horizon_steps": 0}, "horizon_steps=0"),
    ],
)
def test_bad_settings_name_the_argument(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)
