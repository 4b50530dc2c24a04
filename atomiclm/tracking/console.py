"""What a person sees of a training run: one live line in a terminal, plain one-line reports anywhere else."""

import math
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from atomiclm.tracking.wording import duration, printable, short_number

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

REPORT_SECONDS = 5.0
"""Without a terminal: the shortest time between two reports of the training loss, the longest of anything unsaid."""

STAGE_SECONDS = 0.1
"""In a terminal: the shortest time between two drawings of a preparation's line."""

SHORTEST_BAR = 8
LONGEST_BAR = 40

SAMPLE_LINES = 12
SAMPLE_CHARACTERS = 600
"""A sample is shown up to the first of these two; all of it is in the record."""


class Console:
    """Shows rows of the record as they are written.

    In a terminal: a bar with step, loss, bits per byte, speed, share of the peak and time left, redrawn in place; what
    is said and every validation and sample stays above it. Otherwise (a pipe, a file, CI): at most one line every
    REPORT_SECONDS, every validation and sample, and the last row; no control characters, and each line is flushed, so
    that `tail -f` and a log collector show it at once.

    Reads from a row: step, tokens, seconds, "train/loss", "train/bits_per_byte", "train/tokens_per_second",
    "train/flops_utilization" (share of the machine's peak), "validation/loss", "validation/bits_per_byte", and
    "samples" (a list of {"prompt", "text"}). All but step are optional.

    Args:
        stream: where to write; standard output when None.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stdout if stream is None else stream
        self._live: Live | None = None
        self._row: dict[str, Any] = {}
        self._budget: dict[str, float] = {}
        self._first: tuple[float, float] | None = None  # (clock, fraction) of the first row of this process
        self._latest: tuple[float, float] | None = None
        self._reported_at = -math.inf
        self._reported_step: int | None = None
        self._stage = ""  # of a preparation, as long as its line is open
        self._stage_drawn_at = 0.0
        self._shown_at = time.monotonic()

    def progress(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        """Show how far a preparation is, before training starts.

        In a terminal one line a stage, redrawn in place; otherwise a line when a stage begins, and one where nothing
        was shown for REPORT_SECONDS.

        Args:
            stage: what is being done, in words.
            done_bytes: how much of it is done.
            total_bytes: how much there is; 0 when that is not known.
        """
        if not total_bytes or not _is_terminal(self.stream):
            total = f"{short_number(total_bytes)}B"
            if stage != self._stage and done_bytes == 0:
                self.say(f"{stage}: {total}" if total_bytes else stage)
            elif total_bytes:
                self.still(f"{stage}: {done_bytes / total_bytes:.0%} of {total}")
            else:
                self.still(f"{stage}: {short_number(done_bytes)}B")
            return
        now = time.monotonic()
        if stage != self._stage:
            self._end_stage()
            self._stage, self._stage_drawn_at = stage, 0.0
        if now - self._stage_drawn_at >= STAGE_SECONDS or done_bytes >= total_bytes:
            self._stage_drawn_at = now
            share = min(1.0, done_bytes / total_bytes)
            # By hand and not by rich's Live, which hides the cursor: an error while preparing must not leave it hidden.
            self.stream.write(f"\r{stage}: {share:4.0%} of {short_number(total_bytes)}B\x1b[K")
            self.stream.flush()

    def still(self, doing: str) -> None:
        """Say what is being done if nothing was shown for REPORT_SECONDS and no live line shows that it goes on.

        Called often by what may take long.
        """
        if self._live is None and time.monotonic() - self._shown_at >= REPORT_SECONDS:
            self.say(doing)

    def _end_stage(self) -> None:
        if self._stage:
            self._stage = ""
            self.stream.write("\n")

    def start(
        self, total_steps: int | None = None, total_tokens: int | None = None, total_seconds: float | None = None
    ) -> None:
        """Begin; the run ends with whichever of the given budgets is used up first."""
        totals = {"step": total_steps, "tokens": total_tokens, "seconds": total_seconds}
        self._budget = {unit: float(total) for unit, total in totals.items() if total}
        if not _is_terminal(self.stream):
            return
        self._end_stage()
        from rich.console import Console as Terminal
        from rich.live import Live

        terminal = Terminal(file=self.stream, force_terminal=True, highlight=False)
        self._live = Live(
            get_renderable=lambda: self._live_line(terminal.width),
            console=terminal,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

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
        is_due = fraction == 1.0 or now - self._reported_at >= REPORT_SECONDS
        if row.get("event") == "train" and self._live is None and is_due:
            self._report(now)
        for sample in row.get("samples", ()):
            self.say(format_sample(sample["prompt"], sample["text"]))

    def say(self, text: str) -> None:
        """Write lines that stay, above the live line if there is one. May be called from any thread."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
            return
        self._end_stage()
        self._shown_at = time.monotonic()
        self.stream.write(text + "\n")  # one write, so that two threads do not mix their lines
        self.stream.flush()

    def close(self) -> None:
        """End: report the last row if it has not been, and give the terminal back. Safe to call twice."""
        self._end_stage()
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()
            if self._row:
                self._report(time.monotonic())
        elif self._row and self._row.get("step") != self._reported_step:
            self._report(time.monotonic())

    def fraction(self) -> float | None:
        """Share of the budget used, between 0 and 1; None when there is no budget or no row yet."""
        shares = [float(self._row[unit]) / total for unit, total in self._budget.items() if unit in self._row]
        return min(1.0, max(shares)) if shares else None

    def seconds_left(self, now: float | None = None) -> float | None:
        """Time to the end at the speed of this process so far; None until two rows apart have been seen.

        Counted from the first row, not from the start: compiling and warming up are over by then, and a resumed run
        has not done its first part at the speed of this process.
        """
        if self._first is None or self._latest is None or self._latest[1] <= self._first[1]:
            return None
        (first_clock, first_share), (clock, share) = self._first, self._latest
        left = (1.0 - share) * (clock - first_clock) / (share - first_share)
        return max(0.0, left - ((clock if now is None else now) - clock))

    def _report(self, now: float) -> None:
        self._reported_at, self._reported_step = now, self._row.get("step")
        left = self.seconds_left()
        self.say("  ".join([self._position(), *self._figures(), *([f"{duration(left)} left"] if left else [])]))

    def _position(self) -> str:
        """How far the run is, against the budget in the budget's own unit."""
        row, budget = self._row, self._budget
        shown = f"step {row['step']}" + (f"/{int(budget['step'])}" if "step" in budget else "")
        if "step" not in budget and "tokens" in budget and "tokens" in row:
            shown += f"  {short_number(row['tokens'])}/{short_number(budget['tokens'])} tokens"
        if "seconds" in budget and "seconds" in row:
            shown += f"  {duration(row['seconds'])}/{duration(budget['seconds'])}"
        return shown

    def _figures(self) -> list[str]:
        """The figures of the last rows, most wanted first."""
        row = self._row
        parts = _losses(row, "train")
        if "train/bits_per_byte" not in row and "validation/bits_per_byte" in row:
            parts.append(f"{row['validation/bits_per_byte']:.3f} bits/byte (validation)")
        if "train/tokens_per_second" in row:
            parts.append(f"{short_number(row['train/tokens_per_second'])} tokens/s")
        if "train/flops_utilization" in row:
            parts.append(f"{row['train/flops_utilization']:.0%} of peak")
        return parts

    def _live_line(self, width: int) -> "RenderableType":
        """The line of the terminal: figures give way from the right, the bar takes what is left."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if not self._row:
            return Text("starting", style="dim")
        fraction, left = self.fraction(), self.seconds_left(time.monotonic())
        head = self._position()
        tail = "" if fraction is None else f"{fraction:4.0%}"
        if left is not None:
            tail += f" {duration(left)} left"
        parts = [part.replace(" (validation)", "") for part in self._figures()]
        while parts and len("  ".join([head, *parts, tail])) + SHORTEST_BAR + 2 > width:
            parts.pop()
        text = "  ".join([head, *parts])
        room = min(LONGEST_BAR, width - len(text) - len(tail) - 4)
        line = Table.grid(padding=(0, 2, 0, 0))
        cells: list[RenderableType] = [Text(text, no_wrap=True, overflow="ellipsis")]
        if fraction is not None and room >= SHORTEST_BAR:
            cells.append(ProgressBar(total=1.0, completed=fraction, width=room))
        cells.append(Text(tail, style="cyan", no_wrap=True))
        line.add_row(*cells)
        return line


def _losses(row: Mapping[str, Any], prefix: str) -> list[str]:
    """Loss and bits per byte under a prefix, as far as the row has them."""
    shown = []
    if f"{prefix}/loss" in row:
        shown.append(f"loss {row[f'{prefix}/loss']:.3f}")
    if f"{prefix}/bits_per_byte" in row:
        shown.append(f"{row[f'{prefix}/bits_per_byte']:.3f} bits/byte")
    return shown


def format_sample(prompt: str, text: str) -> str:
    """A generated text for people: indented, its prompt marked, bounded, and unable to steer the terminal."""
    lines = printable(text[:SAMPLE_CHARACTERS]).split("\n")
    cut = len(text) > SAMPLE_CHARACTERS or len(lines) > SAMPLE_LINES
    body = "\n".join(f"    {line}" for line in lines[:SAMPLE_LINES])
    head = f"  sample after {printable(prompt)!r}:" if prompt else "  sample:"
    return f"{head}\n{body}{' ...' if cut else ''}"


def _is_terminal(stream: TextIO) -> bool:
    """Whether lines can be redrawn in place. Not rich's own test: FORCE_COLOR would put control codes into a file."""
    return bool(getattr(stream, "isatty", lambda: False)()) and os.environ.get("TERM") not in (None, "", "dumb")
