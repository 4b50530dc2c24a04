"""What a person sees of a training run: one line redrawn in a terminal, plain one-line reports anywhere else."""

import math
import os
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

REPORT_SECONDS = 5.0
"""Without a terminal: the shortest time between two reports of the training loss, the longest of anything unsaid."""

REDRAW_SECONDS = 0.1
"""In a terminal: the shortest time between two drawings of the line."""

SAMPLE_LINES = 12
SAMPLE_CHARACTERS = 600
"""A sample is shown up to the first of these two; all of it is in the record."""


class Console:
    """Shows rows of the record as they are written.

    In a terminal: one line with step, time left, loss, bits per byte, speed and share of the peak, redrawn in place;
    what is said and every validation and sample stays above it. Otherwise (a pipe, a file, CI): the same line at most
    every REPORT_SECONDS, every validation and sample, and the last row; no control characters, each line flushed.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stdout if stream is None else stream
        self._redraws = is_redrawn(self.stream)
        self._stage: tuple[str, float, int] = "", 0.0, 0  # of a preparation: when it began, and with how many bytes
        self._row: dict[str, Any] = {}
        self._budget: dict[str, float] = {}
        self._first: tuple[float, float] | None = None  # (clock, fraction) of the first row of this process
        self._latest: tuple[float, float] | None = None
        self._reported_at = -math.inf
        self._reported_step: int | None = None
        self._shown_at = time.monotonic()
        self._drawn_at = -math.inf

    def progress(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        """Show how far a preparation is: when a stage begins, and then as `still` does, with its rate and the time left
        at that rate. A total of 0 is not known."""
        now = time.monotonic()
        if done_bytes == 0 or stage != self._stage[0]:
            self._stage = stage, now, done_bytes
        total = f"{short_number(total_bytes)}B"
        if done_bytes == 0:
            self.say(f"{stage}: {total}" if total_bytes else stage)
            return
        words = [f"{done_bytes / total_bytes:.0%} of {total}" if total_bytes else f"{short_number(done_bytes)}B"]
        _, began, bytes_then = self._stage
        if done_bytes > bytes_then and now > began:
            rate = (done_bytes - bytes_then) / (now - began)
            words.append(f"{short_number(rate)}B/s")
            if total_bytes > done_bytes:
                words.append(f"{duration((total_bytes - done_bytes) / rate)} left")
        self.still(f"{stage}: {', '.join(words)}")

    def still(self, doing: str, after: float = REPORT_SECONDS) -> None:
        """Show what is being done: in the line redrawn, which "" clears; else if nothing was for so many seconds."""
        if self._redraws:
            self._draw(doing)
        elif doing and time.monotonic() - self._shown_at >= after:
            self.say(doing)

    def start(
        self, total_steps: int | None = None, total_tokens: int | None = None, total_seconds: float | None = None
    ) -> None:
        """Begin; the run ends with whichever of the given budgets is used up first."""
        totals = {"step": total_steps, "tokens": total_tokens, "seconds": total_seconds}
        self._budget = {unit: float(total) for unit, total in totals.items() if total}

    def update(self, row: Mapping[str, Any]) -> None:
        """Show a row of the record."""
        now = time.monotonic()
        # Values stay until replaced, so that a validation row does not blank the training loss.
        self._row.update(row)
        fraction = self.fraction()
        if fraction is not None:
            self._latest = (now, fraction)
            self._first = self._first or self._latest
        if "validation/loss" in row or "validation/bits_per_byte" in row:
            self.say(f"step {row['step']}  validation: {', '.join(_losses(row, 'validation'))}")
        if self._redraws:
            self._draw(self._line())
        elif row.get("event") == "train" and (fraction == 1.0 or now - self._reported_at >= REPORT_SECONDS):
            self._report()
        for sample in row.get("samples", ()):
            self.say(format_sample(sample["prompt"], sample["text"]))

    def say(self, text: str) -> None:
        """Write lines that stay, above the line that is redrawn. May be called from any thread."""
        self._shown_at = time.monotonic()
        # One write, so that two threads do not mix their lines.
        self.stream.write(f"\r\x1b[K{text}\n" if self._redraws else f"{text}\n")
        self.stream.flush()

    def close(self) -> None:
        """End: report the last row if it has not been. Safe to call twice."""
        if self._row and self._row.get("step") != self._reported_step:
            self._report()

    def fraction(self) -> float | None:
        """Share of the budget used, between 0 and 1; None when there is no budget or no row yet."""
        shares = [float(self._row[unit]) / total for unit, total in self._budget.items() if unit in self._row]
        return min(1.0, max(shares)) if shares else None

    def seconds_left(self) -> float | None:
        """Time to the end at the speed of this process since its first row, when compiling and warming up are over;
        None until two rows apart have been seen."""
        if self._first is None or self._latest is None or self._latest[1] <= self._first[1]:
            return None
        (first_clock, first_share), (clock, share) = self._first, self._latest
        return (1.0 - share) * (clock - first_clock) / (share - first_share)

    def _report(self) -> None:
        self._reported_at, self._reported_step = time.monotonic(), self._row.get("step")
        self.say(self._line())

    def _draw(self, text: str) -> None:
        now = time.monotonic()
        if now - self._drawn_at >= REDRAW_SECONDS or not text:  # nothing to say clears the line
            self._drawn_at = now
            self.stream.write(f"\r{text[: shutil.get_terminal_size().columns - 1]}\x1b[K")
            self.stream.flush()

    def _line(self) -> str:
        row, budget = self._row, self._budget
        parts = [f"step {row['step']}" + (f"/{int(budget['step'])}" if "step" in budget else "")]
        if "step" not in budget and "tokens" in budget and "tokens" in row:
            parts.append(f"{short_number(row['tokens'])}/{short_number(budget['tokens'])} tokens")
        if "seconds" in budget and "seconds" in row:
            parts.append(f"{duration(row['seconds'])}/{duration(budget['seconds'])}")
        if left := self.seconds_left():
            parts.append(f"{duration(left)} left")
        parts += _losses(row, "train")
        if "train/bits_per_byte" not in row and "validation/bits_per_byte" in row:
            parts.append(f"{row['validation/bits_per_byte']:.3f} bits/byte (validation)")
        if "train/tokens_per_second" in row:
            parts.append(f"{short_number(row['train/tokens_per_second'])} tokens/s")
        if "train/flops_utilization" in row:
            parts.append(f"MFU {row['train/flops_utilization']:.0%}")
        return "  ".join(parts)


def is_redrawn(stream: TextIO) -> bool:
    """Whether lines of a stream can be drawn over: it is a terminal that understands control codes."""
    # Not rich's own test: FORCE_COLOR would put control codes into a file.
    return getattr(stream, "isatty", lambda: False)() and os.environ.get("TERM") not in (None, "", "dumb")


def _losses(row: Mapping[str, Any], prefix: str) -> list[str]:
    figures = ((f"{prefix}/loss", "loss {:.3f}"), (f"{prefix}/bits_per_byte", "{:.3f} bits/byte"))
    return [form.format(row[name]) for name, form in figures if name in row]


def format_sample(prompt: str, text: str) -> str:
    """A generated text for people: indented, its prompt marked, bounded, and unable to steer the terminal."""
    lines = printable(text[:SAMPLE_CHARACTERS]).split("\n")
    cut = len(text) > SAMPLE_CHARACTERS or len(lines) > SAMPLE_LINES
    body = "\n".join(f"    {line}" for line in lines[:SAMPLE_LINES])
    head = f"  sample after {printable(prompt)!r}:" if prompt else "  sample:"
    return f"{head}\n{body}{' ...' if cut else ''}"


# ---------------------------------------------------------------------------------------------------------------------
# Figures and texts of others in words, for one line of a terminal.


def printable(text: str) -> str:
    """`text` with control characters escaped, newlines and tabs excepted: models do write escape sequences."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else character.encode("unicode_escape").decode()
        for character in text
    )


def short_number(value: float) -> str:
    """Three digits and a unit: 950, 12.3k, 4.50M."""
    for divisor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * divisor:
            return f"{value / divisor:#.3g}".rstrip(".") + unit
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds as 42s, 3:07 or 2:05:09."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minute:02d}:{second:02d}"
    return f"{minutes}:{second:02d}" if minutes else f"{second}s"
