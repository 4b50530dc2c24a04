"""What a sweep looks like while it runs: every state that a run folder can be in has its sign."""

import math
import os
import shutil

import pytest
from comparison.fake_runs import METRIC, FakeArm
from comparison.fake_runs import write_study as write_figures
from filelock import FileLock

from atomiclm.sweep.board import MOST_ROWS, SIGNS, Board, failed_since_start
from atomiclm.sweep.ledger import LEDGER_FILE
from atomiclm.tracking import read_summary, write_summary

STATES = {1: "done", 2: "diverged", 3: "failed", 4: "torn", 5: "interrupted", 6: "missing"}


def write_study(folder, arms, **settings):
    """The runs of a study with all files that training writes, empty where no figure is read from them."""
    ledger = write_figures(folder, arms, **settings)
    for summary in folder.glob("*/summary.json"):
        (summary.parent / "tokenizer.json").touch()
        (summary.parent / "checkpoints" / "step_00000001").mkdir(parents=True)
        (summary.parent / "checkpoints" / "step_00000001" / "manifest.json").touch()
    return ledger


@pytest.fixture
def sweep(tmp_path):
    """A folder of which two arms are in every state, but for the one that takes a process."""
    states = {seed: state for seed, state in STATES.items() if state != "done"}
    arms = [FakeArm("base"), FakeArm("other", effect=0.1, states=states)]
    return tmp_path / "mine", write_study(tmp_path / "mine", arms, seeds=list(STATES))


def test_every_state_is_told(sweep):
    folder, ledger = sweep
    board = Board.read(folder, ledger.cells, METRIC)
    other = [state for cell, state in zip(board.cells, board.states, strict=True) if cell.arm == "other"]
    assert other == list(STATES.values())
    assert set(other) | {"running"} == set(SIGNS)
    assert board.headline().startswith("7 of 12 done, 1 diverged, 1 failed, 1 torn, 1 interrupted")
    base, row = board.rows()
    assert base.startswith("base   ✓ ✓ ✓ ✓ ✓ ✓   ")
    assert row.startswith("other  ✓ ∞ ✗ ✗ ◐ ·   ")


def test_a_run_whose_checkpoints_are_gone_is_not_done(sweep):
    folder, ledger = sweep
    shutil.rmtree(folder / ledger.cells[0].run_id / "checkpoints")
    assert Board.read(folder, ledger.cells[:2], METRIC).headline().startswith("1 of 2 done, 1 torn")


def test_the_mean_and_the_seconds_are_those_of_what_is_done(sweep):
    folder, ledger = sweep
    board = Board.read(folder, ledger.cells, METRIC)
    figures = [
        read_summary(folder / cell.run_id / "summary.json")[METRIC] for cell in ledger.cells if cell.arm == "base"
    ]
    assert board.rows()[0].endswith(f"   {sum(figures) / 6:.4f}")
    for state, seconds, metric in zip(board.states, board.seconds, board.metric, strict=True):
        assert math.isnan(seconds) == math.isnan(metric) == (state != "done")


def test_a_run_is_running_while_a_process_holds_its_lock_and_interrupted_after(sweep):
    folder, ledger = sweep
    cell = ledger.cells[0]
    summary = folder / cell.run_id / "summary.json"
    write_summary(summary, {**read_summary(summary), "state": "running"})
    lock = FileLock(folder / cell.run_id / ".lock")
    with lock:
        held = Board.read(folder, [cell], METRIC)
        assert held.states == ["running"]
        assert held.rows() == ["base  ●"]
        assert held.headline() == "0 of 1 done, 1 running"
    assert Board.read(folder, [cell], METRIC).states == ["interrupted"]


def test_a_run_is_found_by_its_digest_under_another_name(sweep):
    folder, ledger = sweep
    cell = ledger.cells[0]
    os.rename(folder / cell.run_id, folder / f"by-hand-{cell.digest}")
    assert Board.read(folder, [cell], METRIC).states == ["done"]


def test_what_is_left_is_told_at_the_median_pace_of_what_has_ended(tmp_path):
    states = {2: "missing", 3: "failed"}
    ledger = write_study(tmp_path, [FakeArm("base"), FakeArm("other", states=states)])
    for cell, seconds in zip(ledger.cells, (60, 120, 300, 120), strict=False):
        file = tmp_path / cell.run_id / "summary.json"
        write_summary(file, {**read_summary(file), "seconds": seconds})
    board = Board.read(tmp_path, ledger.cells, METRIC)
    assert "4 of 6 done, 1 failed, about 4:00 of training left" in board.headline()
    assert board.headline(one_by_one=False) == "4 of 6 done, 1 failed"
    ended = Board.read(tmp_path, ledger.cells[:3], METRIC)
    assert ended.headline() == "3 of 3 done", "nothing is left"


def test_a_diverged_run_has_ended_and_needs_no_more_time(tmp_path):
    ledger = write_study(tmp_path, [FakeArm("base", states={2: "diverged"})], seeds=(1, 2))
    assert Board.read(tmp_path, ledger.cells, METRIC).headline() == "1 of 2 done, 1 diverged"


def test_a_sweep_that_has_not_begun(tmp_path):
    ledger = write_study(tmp_path, [FakeArm("base", states={1: "missing", 2: "missing"})], seeds=(1, 2))
    board = Board.read(tmp_path / "nowhere", ledger.cells, METRIC)
    assert board.headline() == "0 of 2 done"
    assert board.rows() == ["base  · ·"]


def test_of_many_arms_only_the_counts_are_told(tmp_path):
    arms = [FakeArm(f"arm{number}", states={1: "missing"}) for number in range(MOST_ROWS + 1)]
    ledger = write_study(tmp_path, arms, seeds=(1,))
    assert Board.read(tmp_path, ledger.cells, METRIC).rows() == []
    assert len(Board.read(tmp_path, ledger.cells[:-1], METRIC).rows()) == MOST_ROWS


def test_a_failure_counts_for_fail_fast_only_if_it_came_after_the_sweep_began(sweep):
    folder, ledger = sweep
    failed = next(cell for cell in ledger.cells if (cell.arm, cell.seed) == ("other", 3))
    assert failed_since_start(folder.parent) == "", "no sweep there"
    for summary in folder.glob("*/summary.json"):
        os.utime(summary, (1000, 1000))
    os.utime(folder / LEDGER_FILE, (2000, 2000))
    assert failed_since_start(folder) == "", "that was an earlier one, which is retried"
    for summary in folder.glob("*/summary.json"):
        os.utime(summary, (3000, 3000))
    assert failed_since_start(folder) == failed.run_id
