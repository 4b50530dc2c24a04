"""A budget in steps, tokens or seconds; the first limit reached ends the run."""

import math

import pytest

from atomiclm.training import Budget


def test_tokens_become_steps_rounded_up():
    assert Budget(max_tokens=1000).steps(tokens_per_step=300) == 4
    assert Budget(max_tokens=900, max_steps=7).steps(tokens_per_step=300) == 3
    assert Budget(max_seconds=5.0).steps(tokens_per_step=300) is None


def test_progress_is_that_of_the_limit_closest_to_its_end():
    budget = Budget(max_steps=10, max_seconds=100.0)
    assert budget.progress(step=5, seconds=20.0, tokens_per_step=1) == pytest.approx(0.5)
    assert budget.progress(step=5, seconds=80.0, tokens_per_step=1) == pytest.approx(0.8)


def test_the_horizon_is_exact_in_steps_and_estimated_in_seconds():
    assert Budget(max_steps=10).horizon_steps(3, 99.0, 1) == 10
    assert Budget(max_seconds=100.0).horizon_steps(0, 0.0, 1) == math.inf
    assert Budget(max_seconds=100.0).horizon_steps(step=20, seconds=40.0, tokens_per_step=1) == pytest.approx(50)
    assert Budget(max_steps=30, max_seconds=100.0).horizon_steps(20, 40.0, 1) == 30


@pytest.mark.parametrize("limits", [{"max_steps": 0}, {"max_tokens": -5}, {"max_seconds": -0.1}])
def test_a_limit_that_is_not_positive_is_refused_by_name(limits):
    with pytest.raises(ValueError, match=next(iter(limits))):
        Budget(**limits)


def test_no_limit_at_all_is_refused():
    with pytest.raises(ValueError, match="no limit"):
        Budget()
