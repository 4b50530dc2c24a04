"""Curves from rows: what is measured is drawn, what is between is on a straight line, what is not there is not."""

import json
import math

import numpy as np
import pytest

from atomiclm.comparison.curves import Track, curve, read_rows, thinned_positions
from atomiclm.tracking import RunFolder

BITS = "validation/bits_per_byte"


def track(steps, values, budget=None, pace=1.0):
    steps = np.asarray(steps, dtype=float)
    axes = {"step": steps, "tokens": 2048 * steps, "seconds": pace * steps, "flops": 1e9 * steps}
    return Track(steps / (budget or steps[-1]), axes, np.asarray(values, dtype=float))


def write(path, rows):
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RunFolder(path)


def row(event, step, **figures):
    return {"event": event, "step": step, "tokens": 2048 * step, "seconds": 0.5 * step, "flops": 1e9 * step, **figures}


def test_points_that_all_seeds_have_are_the_measured_ones_and_no_others():
    drawn = curve([track([10, 20, 30], [3.0, 2.5, 2.25]), track([10, 20, 30], [3.2, 2.4, 2.0])])
    assert drawn.values.tolist() == [[3.0, 2.5, 2.25], [3.2, 2.4, 2.0]]
    assert drawn.mean() == pytest.approx([3.1, 2.45, 2.125])
    assert np.transpose(drawn.band()).tolist() == [[3.0, 3.2], [2.4, 2.5], [2.0, 2.25]]
    assert drawn.axes["tokens"].tolist() == [20480, 40960, 61440]


def test_seeds_logged_elsewhere_are_interpolated_as_numpy_does():
    one, other = (
        track(range(10, 101, 10), np.geomspace(8, 2, 10)),
        track(range(7, 71, 7), np.geomspace(9, 1, 10), pace=3),
    )
    shifted = track([3, 20, 41, 66], [5.0, 4.0, 3.0, 1.0])
    drawn = curve([one, other, shifted])
    grid = np.asarray(one.fractions)
    assert drawn.values[1] == pytest.approx(np.interp(grid, other.fractions, other.values))
    inside = grid >= shifted.fractions[0]
    expected = np.interp(grid, shifted.fractions, shifted.values)
    assert np.asarray(drawn.values[2])[inside] == pytest.approx(expected[inside])
    means = [np.interp(grid, seed.fractions, seed.axes["seconds"]) for seed in (one, other, shifted)]
    assert drawn.axes["seconds"][-1] == pytest.approx(np.mean(means, axis=0)[-1])


def test_every_curve_ends_at_the_tables_figure_whatever_the_seeds_seconds():
    seeds = [track([50, 100], [2.0, 1.9], pace=1), track([60, 120], [2.1, 1.8], pace=7)]
    assert curve(seeds).mean()[-1] == pytest.approx(1.85)


def test_a_mean_is_not_drawn_where_a_seed_has_nothing():
    drawn = curve([track([1, 2, 3, 4], [4, 3, 2, 1]), track([3, 4], [2, 1])])
    assert [math.isnan(value) for value in drawn.mean()] == [True, True, False, False]
    assert math.isnan(drawn.band()[0][0])


def test_a_diverged_seed_has_a_line_but_no_part_in_mean_band_or_axes():
    ended = [track([10, 20, 30], [3, 2, 1]), track([10, 20, 30], [5, 4, 3])]
    drawn = curve(ended, [track([10, 20], [9, 90], budget=30, pace=100)])
    assert drawn.ended == 2
    assert drawn.mean().tolist() == [4, 3, 2]
    assert [edge[1] for edge in drawn.band()] == [2, 4]
    assert drawn.axes["seconds"].tolist() == [10, 20, 30]
    assert drawn.values[2][:2].tolist() == [9, 90]
    assert math.isnan(drawn.values[2][2])


def test_an_arm_of_diverged_seeds_only_has_lines_and_no_mean():
    drawn = curve([], [track([10, 20], [3, 9], budget=40)])
    assert drawn.values.tolist() == [[3, 9]]
    assert all(map(math.isnan, drawn.mean()))
    assert curve([]) is None


@pytest.mark.parametrize("count", [1, 2, 89, 90, 91, 400, 100_000])
def test_thinning_keeps_the_ends_and_the_early_steps(count):
    positions = thinned_positions(count, 90).tolist()
    assert len(positions) <= 90
    assert positions == sorted(set(positions))
    assert positions[0] == 0
    assert positions[-1] == count - 1
    # Half of the positions are evenly apart, so no gap is wider than that; the other half are early.
    assert max(np.diff(positions), default=0) <= count / 44 + 1
    if count == 400:
        assert set(range(8)) <= set(positions)


def test_an_averaged_curve_keeps_the_area_and_does_not_lag():
    steps = np.arange(1, 1001)
    line = curve([track(steps, 5 - 0.003 * steps)], average=True)
    assert line.mean() == pytest.approx(5 - 0.003 * line.axes["step"])
    noisy = np.random.default_rng(1).normal(size=1000)
    thin = curve([track(steps, noisy)], average=True).mean()
    assert np.var(thin[-20:]) < 0.25 * np.var(noisy)
    assert curve([track(steps, noisy)]).values[0][-1] == noisy[-1]


def test_rows_are_sorted_into_figures_by_event_and_the_budget_is_the_runs_own(tmp_path):
    rows = [row("train", step, progress=step / 100, **{"train/loss": 9 - step / 100}) for step in (10, 20, 30)]
    rows += [row("validation", 25, **{BITS: 2.5, "validation/loss": 4.0}), row("checkpoint", 30, path="step_00000030")]
    found = read_rows(write(tmp_path, rows), ["train/loss", BITS, "validation/accuracy"])
    assert set(found.tracks) == {"train/loss", BITS}
    assert found.tracks["train/loss"].fractions == pytest.approx([0.1, 0.2, 0.3])
    assert found.tracks[BITS].fractions == pytest.approx([0.25])
    assert found.tracks[BITS].axes["seconds"].tolist() == [12.5]
    assert found.fault == ""


def test_the_last_samples_are_read(tmp_path):
    rows = [
        row("sample", 1, samples=[{"prompt": "a", "text": "old"}]),
        row("sample", 2, samples=[{"text": "new"}, "x"]),
    ]
    assert read_rows(write(tmp_path, rows), []).samples == [("", "new")]


@pytest.mark.parametrize(
    "bad",
    [
        {"train/loss": "low"}, {"train/loss": None}, {"train/loss": True}, {"train/loss": [1]}, {"step": "1"},
        {"seconds": None}, {"tokens": {"non_finite": "inf"}}, {"progress": "all"}, {"progress": -1},
    ],
)  # fmt: skip
def test_rows_no_run_writes_are_passed_over(tmp_path, bad):
    rows = [row("train", 10, **{"train/loss": 3.0}), {**row("train", 20, **{"train/loss": 2.0}), **bad}]
    found = read_rows(write(tmp_path, rows), ["train/loss"])
    assert found.tracks["train/loss"].values.tolist() in ([3.0], [3.0, 2.0])
    assert found.tracks["train/loss"].values.tolist() == ([3.0, 2.0] if "progress" in bad else [3.0])


def test_a_record_that_is_not_there_or_damaged_is_said_not_raised(tmp_path):
    assert "metrics.jsonl is missing" in read_rows(RunFolder(tmp_path), []).fault
    (tmp_path / "metrics.jsonl").write_text('{"event": "train"\n{}\n')
    assert "line 1" in read_rows(RunFolder(tmp_path), ["train/loss"]).fault
    (tmp_path / "metrics.jsonl").write_text("")
    assert read_rows(RunFolder(tmp_path), ["train/loss"]).tracks == {}


def test_a_loss_that_is_no_number_breaks_the_line(tmp_path):
    rows = [row("train", step, **{"train/loss": loss}) for step, loss in ((1, 3.0), (2, {"non_finite": "nan"}))]
    values = read_rows(write(tmp_path, rows), ["train/loss"]).tracks["train/loss"].values
    assert values[0] == 3.0
    assert math.isnan(values[1])
