"""What a sweep prints while it trains: a line a cell that ends, and between them what the running ones are doing."""

import io
import os
import re

import pytest
from comparison.fake_runs import METRIC, FakeArm, write_study

from atomiclm.sweep.display import LOG, Display, failed_since_start
from atomiclm.sweep.ledger import LEDGER_FILE
from atomiclm.tracking import read_summary, write_summary


@pytest.fixture
def sweep(tmp_path):
    """Four arms under two seeds, of which all runs have ended: one diverged, one failed."""
    arms = [FakeArm("base"), FakeArm("other", effect=0.1, states={1: "diverged", 2: "failed"})]
    ledger = write_study(tmp_path / "mine", arms, seeds=(1, 2))
    for summary in (tmp_path / "mine").glob("*/summary.json"):
        os.utime(summary, (1000, 1000))
    return tmp_path / "mine", ledger.cells


def end(folder, cell):
    """As a run ends: its summary is written."""
    summary = folder / cell.run_id / "summary.json"
    write_summary(summary, read_summary(summary))


def test_each_cell_that_ends_has_one_line_with_its_result_and_the_time_that_is_left(sweep):
    folder, cells = sweep
    stream = io.StringIO()
    with Display(folder, cells, len(cells) + 3, METRIC, stream):
        for cell in cells:
            end(folder, cell)
    lines = stream.getvalue().splitlines()
    assert len(lines) == len(cells)
    score = read_summary(folder / cells[0].run_id / "summary.json")[METRIC]
    assert f"base   seed 1  {score:.4f} bits per byte" in stream.getvalue()
    assert re.search(r"other  seed 1  diverged", stream.getvalue())
    assert re.search(r"other  seed 2  failed: \w+: .", stream.getvalue())
    assert [line[:6] for line in lines] == [f"{number} of 7" for number in (4, 5, 6, 7)]
    assert re.search(r", \d+s left$", lines[0])
    assert "left" not in lines[-1]


def test_a_result_of_before_the_sweep_is_none_of_it(sweep):
    folder, cells = sweep
    stream = io.StringIO()
    with Display(folder, cells, len(cells), METRIC, stream):
        pass
    assert stream.getvalue() == ""


def test_another_figure_is_shown_by_its_name(sweep):
    folder, cells = sweep
    stream = io.StringIO()
    with Display(folder, cells[:1], 1, "train/loss", stream):
        end(folder, cells[0])
    assert re.search(r"train/loss \d\.\d+$", stream.getvalue().strip())


def test_a_run_is_found_by_its_digest_under_another_name(sweep):
    folder, cells = sweep
    os.rename(folder / cells[0].run_id, folder / f"by-hand-{cells[0].digest}")
    stream = io.StringIO()
    with Display(folder, cells[:1], 1, METRIC, stream):
        summary = folder / f"by-hand-{cells[0].digest}" / "summary.json"
        write_summary(summary, read_summary(summary))
    assert stream.getvalue().startswith("1 of 1  base  seed 1")


def test_without_a_terminal_the_running_cells_are_reported_ever_more_rarely(sweep, monkeypatch):
    folder, cells = sweep
    stream = io.StringIO()
    display = Display(folder, cells[:2], 2, METRIC, stream)
    clock = 0.0
    monkeypatch.setattr("atomiclm.sweep.display.time.monotonic", lambda: clock)
    display.shown = 0.0
    for cell in cells[:2]:
        (folder / cell.run_id / LOG).write_text(
            "training tokenizer: 40%\nstep 3/9  loss 2.1\n  sample:\n    \ufffd a\n"
        )
    reported = []
    for second in range(200):
        clock = float(second)
        display.look()
        if stream.getvalue():
            reported.append(second)
            assert stream.getvalue().endswith(": step 3/9  loss 2.1  (and 1 more running)\n")
            stream.seek(0)
            stream.truncate()
    assert reported == [3, 9, 21, 45, 93, 153]


def test_a_damaged_or_missing_folder_stops_nothing(sweep, tmp_path):
    folder, cells = sweep
    stream = io.StringIO()
    with Display(folder, cells, 4, METRIC, stream):
        (folder / cells[0].run_id / "summary.json").write_text("{")
    with Display(tmp_path / "nowhere", cells, 4, METRIC, stream):
        pass
    assert stream.getvalue() == ""


def test_a_cell_that_fails_before_its_run_has_a_summary_has_its_line_too(sweep):
    folder, cells = sweep
    stream = io.StringIO()
    with Display(folder, cells[:3], 3, METRIC, stream) as display:
        (folder / cells[0].run_id / LOG).write_text("building the model\n")
        display.look([(cells[0], "UserError: runtime.device: no such device\nmore"), (cells[1], None)])
        display.look([(cells[2], "AssertionError: no message")])
    assert [line.split(", ")[0] for line in stream.getvalue().splitlines()] == [
        "1 of 3  base   seed 1  failed: UserError: runtime.device: no such device",
        "2 of 3  base   seed 2  ended before",
        "3 of 3  other  seed 1  failed: AssertionError: no message",
    ]


def test_an_error_without_a_message_ends_no_display(sweep):
    folder, cells = sweep
    stream = io.StringIO()
    with Display(folder, cells, 4, METRIC, stream) as display:
        summary = folder / cells[3].run_id / "summary.json"
        write_summary(summary, {**read_summary(summary), "error": {"type": "AssertionError", "message": ""}})
        display.look()
        end(folder, cells[0])
    assert "failed: AssertionError: " in stream.getvalue()
    assert "base   seed 1" in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_the_running_cells_and_the_whole_are_redrawn(sweep, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    folder, cells = sweep
    stream = Terminal()
    with Display(folder, cells, 4, METRIC, stream) as display:
        (folder / cells[1].run_id / LOG).write_text("step 3/9  loss 2.1\n")
        end(folder, cells[0])
        display.look()
    shown = stream.getvalue()
    assert f"{cells[1].arm} seed {cells[1].seed}: step 3/9  loss 2.1" in shown
    assert "1 of 4 done, " in shown
    assert "1 of 4  base   seed 1" in shown
    assert shown.endswith("\x1b[?25h") or "\x1b[?25h" in shown, "the cursor is shown again"


def test_a_failure_counts_for_fail_fast_only_if_it_came_after_the_sweep_began(sweep):
    folder, cells = sweep
    failed = next(cell for cell in cells if (cell.arm, cell.seed) == ("other", 2))
    assert failed_since_start(folder.parent) == "", "no sweep there"
    os.utime(folder / LEDGER_FILE, (2000, 2000))
    assert failed_since_start(folder) == "", "that was an earlier one, which is retried"
    for summary in folder.glob("*/summary.json"):
        os.utime(summary, (3000, 3000))
    assert failed_since_start(folder) == failed.run_id
