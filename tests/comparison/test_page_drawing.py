"""What drawings rest on: scales, ticks, room for labels, the frontier."""

import itertools
import math
import random
import re
from dataclasses import replace

import pytest
from comparison.fake_runs import gqa_arms, write_study

from atomiclm.comparison.comparing import compare_runs
from atomiclm.comparison.page.forest import cell, forest
from atomiclm.comparison.page.labels import Box, place, shortened, spread_out, text_width
from atomiclm.comparison.page.lines import path_of
from atomiclm.comparison.page.markup import element, join, script_json
from atomiclm.comparison.page.pareto import frontier, pareto
from atomiclm.comparison.page.scale import MINUS, Scale, domain, linear_ticks, log_ticks, number, tick_labels
from atomiclm.comparison.runs import read_runs
from atomiclm.sweep.ledger import read_ledger

DRAWS = [random.Random(seed) for seed in range(200)]


@pytest.mark.parametrize("log", [False, True])
def test_a_scale_takes_its_ends_to_its_ends_and_the_middle_between(log):
    scale = Scale(1.0, 100.0, 50, 650, log)
    assert (scale(1.0), scale(100.0)) == (50, 650)
    assert scale(10.0 if log else 50.5) == pytest.approx(350)
    assert Scale(1.0, 100.0, 380, 20)(100.0) == 20, "y runs downwards"


@pytest.mark.parametrize(("low", "high", "log"), [(1, 1, False), (2, 1, False), (math.nan, 1, False), (0, 1, True)])
def test_an_empty_scale_is_refused(low, high, log):
    with pytest.raises(ValueError, match="scale"):
        Scale(low, high, 0, 1, log)


def test_a_domain_holds_every_finite_value_and_is_never_empty():
    for values in ([], [math.nan], [0.0], [5.0], [-1e9], [1.0, 1.0 + 1e-15], [math.inf, 2.0], [-3.0, 7.0]):
        low, high = domain(values)
        assert low < high
        assert all(low <= value <= high for value in values if math.isfinite(value))
    low, high = domain([0.0, 10.0, 1000.0], log=True)
    assert 0 < low < 10 < 1000 < high
    assert domain([], log=True)[0] > 0


def test_ticks_are_round_evenly_apart_inside_and_about_as_many_as_asked_for():
    for draw in DRAWS:
        low = draw.uniform(-1, 1) * 10 ** draw.randint(-4, 6)
        high = low + 10 ** draw.uniform(-4, 6)
        ticks = linear_ticks(low, high, 5)
        assert 2 <= len(ticks) <= 9
        steps = [later - earlier for earlier, later in itertools.pairwise(ticks)]
        assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-4)
        assert f"{steps[0]:.0e}"[0] in "125"
        assert all(low - 1e-9 * (high - low) <= tick <= high + 1e-9 * (high - low) for tick in ticks)
        assert len(set(tick_labels(ticks))) == len(ticks), "neighbours can be told apart"


def test_logarithmic_ticks_are_inside_and_at_least_two():
    for draw in DRAWS:
        low = 10 ** draw.uniform(-6, 12)
        high = low * 10 ** draw.uniform(0.1, 6)
        ticks = log_ticks(low, high, 5)
        assert 2 <= len(ticks) <= 9, (low, high)
        assert ticks == sorted(ticks)
        assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)


def test_numbers_for_people():
    assert number(-0.0123, 3) == f"{MINUS}0.012"
    assert number(0.0123, 3, signed=True) == "+0.012"
    assert number(-0.0001, 3, signed=True) == "+0.000", "no minus before what is shown as zero"
    assert number(1234567.0, 0) == "1,234,567"
    assert number(math.nan, 2) == "-"
    assert number(-math.inf, 2) == f"{MINUS}∞"
    assert tick_labels([0.0, 250_000.0, 1_000_000.0]) == ["0", "250k", "1M"]
    assert tick_labels([0.0, 0.0005, 0.001]) == ["0.0000", "0.0005", "0.0010"]
    assert tick_labels([0.0, 2e-5]) == ["0", "2e−5".replace("−", MINUS)]  # noqa: RUF001


def test_labels_are_never_over_each_other_over_a_point_or_outside():
    area = Box(50, 20, 330, 250)
    for draw in DRAWS[:60]:
        points = [(draw.uniform(60, 320), draw.uniform(30, 240)) for _ in range(draw.randint(1, 24))]
        names = [f"arm-{index}" for index in range(len(points))]
        placed = place(names, points, area)
        assert placed, "there is room for at least one"
        for label in placed:
            assert label.box.within(area)
            assert not any(
                label.box.left < x < label.box.right and label.box.top < y < label.box.bottom for x, y in points
            )
        for one, other in itertools.combinations(placed, 2):
            assert not one.box.overlaps(other.box)
        if len(points) <= 5:
            assert len(placed) == len(points)


def test_names_at_line_ends_keep_apart_in_order_and_near_where_they_belong():
    for draw in DRAWS:
        wanted = [draw.uniform(0, 300) for _ in range(draw.randint(1, 12))]
        found = spread_out(wanted, 13, 0, 300)
        ordered = [at for _, at in sorted(zip(wanted, found, strict=True))]
        assert all(later - earlier >= 13 - 1e-9 for earlier, later in itertools.pairwise(ordered))
        assert min(found) >= -1e-9
        assert max(found) <= 300 + 1e-9
    assert spread_out([10, 100, 200], 13, 0, 300) == [10, 100, 200], "what has room stays"
    assert spread_out([50, 50], 10, 0, 300) == [45, 55]
    assert spread_out([], 13, 0, 300) == []
    assert len(set(spread_out([1] * 50, 13, 0, 300))) == 50


def test_shortened_names_fit_and_keep_both_ends():
    assert shortened("short", 12, 200) == "short"
    cut = shortened("model.attention.num_kv_heads=8-and-more-of-it-seed=3", 12, 150)
    assert text_width(cut, 12) <= 150
    assert cut.startswith("model")
    assert cut.endswith("=3")
    assert "…" in cut


def test_the_frontier_is_what_none_beats_in_both():
    for draw in DRAWS[:50]:
        costs = [draw.randint(1, 6) for _ in range(12)]
        qualities = [draw.randint(1, 6) for _ in range(12)]
        for less_cost, less_is_better in itertools.product([True, False], repeat=2):
            found = frontier(costs, qualities, less_cost, less_is_better)
            for index in range(12):
                beaten = False
                for other in range(12):
                    dearer = (costs[index] - costs[other]) * (1 if less_cost else -1)
                    worse = (
                        qualities[index] - qualities[other] if less_is_better else qualities[other] - qualities[index]
                    )
                    beaten |= dearer >= 0 and worse >= 0 and dearer + worse > 0
                assert (index in found) == (not beaten)


def test_more_tokens_per_second_are_better_and_more_of_any_other_cost_is_worse(tmp_path):
    paces = [{"tokens_per_second": 1000.0 * (1 + at), "parameters": 1000 * (1 + at)} for at in range(4)]
    arms = [replace(arm, summary=pace) for arm, pace in zip(gqa_arms((0.0, 0.1, 0.2, 0.3)), paces, strict=True)]
    write_study(tmp_path / "gqa", arms, (1, 2), noise=0.001)
    comparison = compare_runs(read_runs([tmp_path / "gqa"]), read_ledger(tmp_path / "gqa"))
    on_frontier = {}
    for cost in ("tokens_per_second", "parameters"):
        (path,) = re.findall(r'd="([^"]*)" class="frontier"', pareto(comparison, cost))
        on_frontier[cost] = path.count("L") + 1
    assert on_frontier == {"tokens_per_second": 4, "parameters": 1}


def test_a_line_is_broken_where_a_point_is_missing():
    assert path_of([(0, 0), (1, 1), None, (3, 3)]) == "M0.0 0.0L1.0 1.0M3.0 3.0"
    assert path_of([None]) == ""


def test_text_becomes_markup_in_one_place_only():
    assert element("b", "<i>", class_="x\"'") == '<b class="x&quot;&#x27;">&lt;i&gt;</b>'
    assert element("b", element("i", "&")) == "<b><i>&amp;</i></b>"
    assert join("a<", None, element("br")) == "a&lt;<br>"
    assert (
        element("input", checked=True, disabled=False, name=None, aria_label="a") == '<input checked="" aria-label="a">'
    )
    assert script_json({"</script>": "<!--\u2028\ud800&"}) == r'{"\u003c/script\u003e":"\u003c!--\u2028\ud800\u0026"}'
    with pytest.raises(ValueError, match="JSON"):
        script_json(math.nan)


def test_the_forest_puts_differences_on_a_straight_scale_and_marks_what_is_cut(tmp_path):
    write_study(tmp_path / "gqa", gqa_arms(), (1, 2, 3, 4), noise=0.004, correlation=0.8)
    comparison = compare_runs(read_runs([tmp_path / "gqa"]), read_ledger(tmp_path / "gqa"))
    drawn = forest(comparison)
    squares = [float(x) + 4.5 for x in re.findall(r'<rect x="([\d.]+)"[^>]*class="mean"', drawn)]
    means = [arm.contrast.mean for arm in comparison.arms if arm.contrast]
    (zero,) = map(float, re.findall(r'd="M([\d.]+) [\d.]+V[\d.]+" class="zero"', drawn))
    scale = (squares[-1] - zero) / means[-1]
    assert squares == pytest.approx([zero + scale * mean for mean in means], abs=0.11)
    left, width = map(float, re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"[^>]*class="margin"', drawn)[0])
    assert left == pytest.approx(zero - scale * comparison.margin, abs=0.2)
    assert width == pytest.approx(2 * scale * comparison.margin, abs=0.2)
    assert cell(comparison, comparison.arms[0]) is None
    wild = replace(comparison.arms[1], contrast=replace(comparison.arms[1].contrast, low=-50.0, high=50.0))
    wide = replace(comparison, arms=[comparison.arms[0], wild, *comparison.arms[2:]])
    squares = [float(x) for x in re.findall(r'<rect x="([\d.]+)"[^>]*class="mean"', forest(wide))]
    assert max(squares) - min(squares) > 30, "one wild interval does not flatten the others"
