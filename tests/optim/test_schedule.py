"""Schedules are pure functions of the step; their corner points are what the docstrings say."""

import math

import pytest

from atomiclm.optim import Constant, Cosine


def test_warmup_moves_from_the_first_step_and_reaches_the_peak():
    schedule = Cosine(warmup_steps=4, final_fraction=0.1)
    assert [schedule.multiplier(step, 100) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


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


def test_cosine_ends_at_the_final_fraction_and_stays_there():
    schedule = Cosine(warmup_steps=0, final_fraction=0.25)
    assert schedule.multiplier(50, 50) == pytest.approx(0.25)
    assert schedule.multiplier(80, 50) == pytest.approx(0.25)


def test_constant_has_no_decay():
    schedule = Constant(warmup_steps=2)
    assert [schedule.multiplier(step, 10) for step in (0, 2, 5, 9)] == pytest.approx([1 / 3, 1, 1, 1])


def test_a_warmup_longer_than_the_run_never_divides_by_zero():
    schedule = Cosine(warmup_steps=10)
    assert schedule.multiplier(3, 5) == pytest.approx(4 / 11)
    assert schedule.multiplier(10, 10) == pytest.approx(0.1)


def test_bad_settings_name_the_argument():
    with pytest.raises(ValueError, match="warmup_steps=-1"):
        Cosine(warmup_steps=-1)
    with pytest.raises(ValueError, match=r"final_fraction=1\.5"):
        Cosine(final_fraction=1.5)
