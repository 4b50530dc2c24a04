"""The solver behind `match`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomiclm.config.match import Cost, Match, Unmatched, residuals, solve


@given(
    slope=st.integers(1, 10_000),
    start=st.integers(0, 10**7),
    solution=st.integers(1, 5000),
    multiple=st.sampled_from([1, 2, 8, 64]),
    offset=st.integers(-(10**6), 10**6),
)
def test_finds_the_nearest_of_a_linear_quantity(slope, start, solution, multiple, offset):
    target = start + slope * (solution * multiple) + offset % slope
    calls = []

    def measure(value):
        calls.append(value)
        return start + slope * value

    found = solve(measure, target, multiple)
    assert found % multiple == 0
    best = min(range(multiple, (solution + 3) * multiple, multiple), key=lambda value: abs(measure(value) - target))
    assert abs(start + slope * found - target) == abs(start + slope * best - target)
    assert len(set(calls[: calls.index(found) + 1])) <= 12


@given(power=st.floats(0.3, 3.0), solution=st.integers(1, 3000))
def test_finds_the_solution_of_any_increasing_quantity(power, solution):
    assert solve(lambda value: value**power, solution**power) == solution


def test_steps_are_met_too():
    """Rounded sizes make plateaus: any value on the right one will do."""
    assert solve(lambda value: -(-value // 8) * 8 * 100, 4000) in range(33, 41)


@pytest.mark.parametrize(
    ("measure", "target", "words"),
    [
        (lambda value: 100 + value, 50, "even 1 gives 101"),
        (lambda value: 7.0, 9, "does not depend"),
        (lambda value: 7.0, 5, "does not depend"),
    ],
)
def test_says_when_there_is_none(measure, target, words):
    with pytest.raises(Unmatched, match=words):
        solve(measure, target)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quantity": "flops"}, "baseline is empty"),
        ({"quantity": "flops", "baseline": ["model.dim=8"]}, "free is not given"),
        ({"quantity": None, "multiple_of": 0}, "multiple_of=0"),
        ({"quantity": None, "tolerance": 1.5}, "tolerance=1.5"),
    ],
)
def test_a_demand_that_makes_no_sense_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Match(**settings)


def test_residuals_are_fractions_of_the_baseline():
    roles = {"embedding": 100, "head": 0, "matrix": 300}
    base = Cost(16, roles, 400, 10, 30, 29.0, 64, 1000, 0, 0, 800, 5, 80)
    other = Cost(16, roles | {"matrix": 312}, 412, 11, 33, 30.0, 32, 1000, 0, 0, 800, 5, 80)
    assert residuals(other, base) == pytest.approx(
        {"parameters": 0.03, "non_embedding_parameters": 0.04, "flops": 0.1, "cache_bytes": -0.5}
    )
