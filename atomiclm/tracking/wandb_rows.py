"""Rows of the record as W&B gets them."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atomiclm.atomic_io import from_json
from atomiclm.tracking.record import AXES
from atomiclm.tracking.wandb_artifacts import within
from atomiclm.tracking.wandb_description import figures

NOT_MIRRORED = ("checkpoint",)
"""Events that stay out of W&B: they have no figures, and come by the clock, so a resumed run has them elsewhere."""

HIGHER_IS_BETTER = ("accuracy",)
"""Last parts of the names of figures whose best value is the largest; of all others it is the smallest."""

SAMPLE_COLUMNS = ("step", "tokens", "prompt", "text")

TABLE_SECONDS = 5.0
"""How long the table of samples may hold up the rows behind it."""


class NewRows:
    """Reads the complete lines that were appended to a `metrics.jsonl` since the last call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the new rows, those of NOT_MIRRORED left out."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # being written
                self.offset += len(line)
                row = from_json(line)
                if row["event"] not in NOT_MIRRORED:
                    yield row


class Outgoing:
    """Passes rows on to one W&B run, in order and from the first; those the server holds already are only read.

    Every row has all four axes, and `tokens` is the default one; another is chosen panel by panel. Never `step=`: wandb
    drops rows whose step is not larger than the last. Of each validation figure W&B's summary keeps the best and the
    last value. Samples are one table with all texts so far, in the summary, where W&B's table panel looks for it.

    Args:
        run: the W&B run.
        held: how many rows the server has.
    """

    def __init__(self, run: Any, held: int) -> None:
        self.run = run
        self.held = held
        self.number = 0
        self._extremes: dict[str, dict[str, float]] = {}
        self._samples: list[list[Any]] = []
        self._samples_sent = 0
        self._tables_fail = False
        run.define_metric("*", step_metric="tokens")

    @property
    def sent(self) -> int:
        """How many rows were passed on."""
        return max(0, self.number - self.held)

    def put(self, row: Mapping[str, Any]) -> None:
        """Take the next row of the record."""
        self._samples += [
            [row["step"], row["tokens"], sample["prompt"], sample["text"]] for sample in row.get("samples", ())
        ]
        self._note_extremes(row)
        if self.number >= self.held:
            sent = dict(figures(row))
            assert all(axis in sent for axis in AXES), f"a row without one of {AXES} cannot be placed on W&B's axes"
            self.run.log(sent)
        self.number += 1

    def settle(self) -> None:
        """Bring the summary in line with the rows, after the last of a batch."""
        if self.held and self._extremes:
            self.run.summary.update(self._extremes)  # wandb forgets the best value when a run is resumed
        self.send_samples()

    def send_samples(self) -> bool:
        """Send the table of all samples so far, if there are new ones.

        A table is an artifact to wandb, which asks the server about it before it goes on: with one that no longer
        answers for minutes. So this is given up after TABLE_SECONDS, and then not tried again.

        Returns:
            Whether all samples were sent.
        """
        if self._samples_sent < len(self._samples) and not self._tables_fail:
            from wandb import Table

            table = Table(columns=list(SAMPLE_COLUMNS), data=list(self._samples))
            try:
                within(TABLE_SECONDS, lambda: self.run.summary.update({"samples": table}))
                self._samples_sent = len(self._samples)
            except Exception:
                self._tables_fail = True
        return self._samples_sent == len(self._samples)

    def _note_extremes(self, row: Mapping[str, Any]) -> None:
        """Keep the best and the last of each validation figure, and have wandb do so while the run lasts."""
        for key, value in figures(row):
            if not key.startswith("validation/"):
                continue
            best, better = ("max", max) if key.rpartition("/")[2] in HIGHER_IS_BETTER else ("min", min)
            if key not in self._extremes:
                # By its full name: wandb lets "*" win over "validation/*".
                self.run.define_metric(key, step_metric="tokens", summary=f"{best},last")
                self._extremes[key] = {best: value}
            seen = [number for number in (self._extremes[key][best], value) if not math.isnan(number)]
            self._extremes[key] = {best: better(seen, default=math.nan), "last": value}
