"""What is shown while a run trains, in a terminal and elsewhere."""

import io
import re

import pytest

from atomiclm.tracking import Console
from atomiclm.tracking.console import SAMPLE_LINES, duration, format_sample, short_number


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("atomiclm.tracking.console.time.monotonic", lambda: now[0])
    return now


def train(step, **values):
    row = {"event": "train", "step": step, "tokens": step * 100, "seconds": float(step), "flops": 1.0}
    return {**row, "train/loss": 4.0, "train/tokens_per_second": 12345.0, "train/flops_utilization": 0.42, **values}


def validation(step):
    row = {"event": "validation", "step": step, "tokens": step * 100, "seconds": float(step), "flops": 1.0}
    return {**row, "validation/loss": 3.25, "validation/bits_per_byte": 2.125}


def test_plain_reports_keep_their_cadence(clock):
    stream = io.StringIO()
    console = Console(stream=stream)
    console.start(total_steps=100)
    for step in range(1, 101):
        clock[0] += 1.0
        console.update(train(step))
    console.close()
    lines = stream.getvalue().splitlines()
    reported = [int(re.match(r"step (\d+)/100", line).group(1)) for line in lines if line.startswith("step")]
    assert reported == [1, 6, 11, 16, 21, 26, 31, 36, 41, 46, 51, 56, 61, 66, 71, 76, 81, 86, 91, 96, 100]
    assert lines[0] == "step 1/100  loss 4.000  12.3k tokens/s  MFU 42%"
    assert lines[1].startswith("step 6/100  1:34 left  loss 4.000")


def test_what_takes_long_says_every_five_seconds_that_it_goes_on(clock):
    """A pipe was silent for as long as a tokenizer was trained, a validation pass took, or xz compressed."""
    stream = io.StringIO()
    console = Console(stream=stream)
    for second in range(12):
        console.progress("reading", second * 1000, 0)
        clock[0] += 1.0
    for second in range(12):
        console.progress("encoding", second * 1000, 12_000)
        clock[0] += 1.0
    for _ in range(6):
        console.still("validating")
        clock[0] += 1.0
    assert stream.getvalue().splitlines() == [
        "reading", "reading: 5.00kB, 1.00kB/s", "reading: 10.0kB, 1.00kB/s",
        "encoding: 12.0kB", "encoding: 42% of 12.0kB, 1.00kB/s, 7s left",
        "encoding: 83% of 12.0kB, 1.00kB/s, 2s left",
        "validating",
    ]  # fmt: skip


def test_plain_output_has_no_control_characters_whatever_the_model_writes(clock, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich alone would colour a file
    stream = io.StringIO()
    console = Console(stream=stream)
    console.progress("tokenizing", 0, 1000)
    console.progress("tokenizing", 1000, 1000)
    console.start(total_steps=10)
    console.update(train(1))
    console.update(validation(1))
    console.update({**train(1), "event": "sample", "samples": [{"prompt": "\x1b]0;x\x07", "text": "\x1b[2J\ra\tb\nc"}]})
    console.say("done")
    console.close()
    text = stream.getvalue()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)
    assert r"\x1b[2J\ra" in text
    assert "step 1  validation: loss 3.250, 2.125 bits/byte" in text
    assert text.count("tokenizing") == 1


def test_the_last_row_is_reported_once(clock):
    stream = io.StringIO()
    console = Console(stream=stream)
    console.start(total_tokens=1000)
    console.update(train(1))
    console.update(train(3))
    console.close()
    console.close()
    assert [line.split("  ")[0] for line in stream.getvalue().splitlines()] == ["step 1", "step 3"]


@pytest.mark.parametrize(
    ("budget", "fraction"),
    [
        ({"total_steps": 200}, 0.25),
        ({"total_tokens": 20_000}, 0.25),
        ({"total_seconds": 200.0}, 0.25),
        ({"total_steps": 200, "total_seconds": 100.0}, 0.5),
        ({}, None),
    ],
)
def test_time_left_follows_the_budget_in_its_own_unit(clock, budget, fraction):
    console = Console(stream=io.StringIO())
    console.start(**budget)
    clock[0] += 1000.0  # compiling: no sign of how long the rest takes
    console.update(train(40))  # a resumed run, so its first 40 steps say nothing about this process
    assert console.seconds_left() is None
    clock[0] += 30.0
    console.update(train(50))
    assert console.fraction() == fraction
    if fraction is None:
        assert console.seconds_left() is None
    else:
        assert console.seconds_left() == pytest.approx(30.0 * (1 - fraction) / (fraction * 10 / 50))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_the_line_of_a_terminal_fits_and_what_is_said_stays_above_it(clock, monkeypatch, width):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    stream = Terminal()
    console = Console(stream=stream)
    console.progress("tokenizing", 500, 1000)
    console.start(total_steps=1000)
    for row in (train(500), validation(500), train(501)):
        clock[0] += 1
        console.update(row)
    console.say("[bold]said[/bold]")
    said = stream.getvalue()
    console.close()
    lines = said.replace("\x1b[K", "").replace("\r", "\n").splitlines()
    assert "[bold]said[/bold]" in lines
    live = [line for line in lines if line.startswith(("step 500/1000", "step 501/1000"))]
    assert live
    assert all(len(line) < width for line in live)
    assert all("loss 4.000" in line for line in live)
    assert any("MFU 42%" in line for line in live) == (width >= 60)
    assert "\x1b[K[bold]said[/bold]\n" in said, "the line is cleared for what stays"
    assert stream.getvalue().endswith("MFU 42%\n"), "the last row stays"


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    console = Console(stream=stream)
    console.start(total_steps=10)
    console.update(train(1))
    console.close()
    assert "\x1b" not in stream.getvalue()


def test_samples_are_bounded():
    assert format_sample("", "short") == "  sample:\n    short"
    long = format_sample("p", "line\n" * 100)
    assert len(long.splitlines()) == SAMPLE_LINES + 1
    assert long.endswith("...")
    assert len(format_sample("p", "x" * 10_000)) < 700


def test_numbers_and_times_in_words():
    values = (0, 950, 999.9, 12345, 3_500_000, 2.5e9, 4e12)
    assert " ".join(map(short_number, values)) == "0 950 1.00k 12.3k 3.50M 2.50G 4.00T"
    assert [duration(seconds) for seconds in (0.4, 59.6, 187, 7509)] == ["0s", "1:00", "3:07", "2:05:09"]
