"""The thread that follows one run's `metrics.jsonl` and shows its rows in W&B."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from atomiclm.tracking.record import AXES, from_json
from atomiclm.tracking.run_folder import RunFolder
from atomiclm.tracking.wandb_mode import Mode, choose_mode
from atomiclm.tracking.wandb_segments import Segments

NOT_MIRRORED = ("checkpoint",)
"""Events that stay out of W&B: they have no figures, and come by the clock, so a resumed run has them elsewhere."""

POLL_SECONDS = 1.0
"""How far the mirror may lag behind the record."""

SPARE_SECONDS = 10.0
"""Beyond wandb's own timeouts, for what it does not count: importing it, starting and stopping its process."""


class Mirror(threading.Thread):
    """Mirrors one run, from `start()` to `close()`; see `WeightsAndBiases`, which makes one for each run.

    A daemon thread: should wandb hang beyond its own timeouts, the process can still end.

    Args:
        mode: auto, online, offline or disabled, as configured.
        folder: the run.
        arguments: what `wandb.init` is told about the run.
        init_timeout_seconds: limit for reaching the server.
        finish_timeout_seconds: limit for the last upload.
        say: called with each line meant for people.
    """

    def __init__(
        self,
        mode: str,
        folder: RunFolder,
        arguments: Mapping[str, Any],
        init_timeout_seconds: int,
        finish_timeout_seconds: int,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(name=f"wandb {folder.run_id}", daemon=True)
        self.mode = mode
        self.folder = folder
        self.arguments = arguments
        self.init_timeout_seconds = init_timeout_seconds
        self.finish_timeout_seconds = finish_timeout_seconds
        self.say = say
        self._opened = threading.Event()
        self._ending = threading.Event()
        self._abandoned = False
        self._exit_code = 1
        self._summary: dict[str, Any] = {}

    def close(self, exit_code: int, summary: Mapping[str, Any]) -> None:
        """Announce the end and wait for it, within the timeouts."""
        self._exit_code = exit_code
        self._summary = dict(figures(summary)) | {key: text for key, text in summary.items() if isinstance(text, str)}
        self._ending.set()
        opening = 0 if self._opened.is_set() else self.init_timeout_seconds
        self.join(opening + self.finish_timeout_seconds + SPARE_SECONDS)
        if self.is_alive():
            self._abandoned = True
            self.say("W&B: still not done, left behind; metrics.jsonl has every row")

    def run(self) -> None:
        """Try one mode after the other until one lasts to the end of the run."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        try:
            import wandb

            mode, reason = choose_mode(self.mode, wandb.setup().settings.base_url)
        except Exception as error:  # whatever is wrong with an optional mirror is no reason to stop a run
            self.say(f"W&B: off, wandb cannot be used ({_first_line(error)}); metrics.jsonl has every row")
            return
        if reason:
            self.say(f"W&B: {mode}; {reason}")
        while True:
            try:
                self._follow(mode)
                return
            except Exception as error:
                if self._abandoned:  # another run may be using wandb by now
                    return
                # wandb still holds the run's id and refuses it to the next attempt until it is torn down.
                with contextlib.suppress(Exception):
                    wandb.teardown(exit_code=1)
                then = "going on offline" if mode == "online" else "off from here; metrics.jsonl has every row"
                self.say(f"W&B: {mode} failed ({_first_line(error)}); {then}")
                if mode != "online":
                    return
                mode = "offline"

    def _follow(self, mode: Mode) -> None:
        """Open the W&B run, pass rows on until the end is announced, close it."""
        import wandb

        self.folder.wandb.mkdir(parents=True, exist_ok=True)
        online = mode == "online"
        segments = Segments(self.folder.wandb)
        run = wandb.init(
            **self.arguments,
            mode=mode,
            # By default a second init in one process returns the first run, and two cells of a sweep become one.
            reinit="create_new",
            resume="allow" if online else None,
            save_code=False,
            settings=wandb.Settings(
                console="off",
                silent=True,
                init_timeout=self.init_timeout_seconds,
                finish_timeout=self.finish_timeout_seconds,
                login_timeout=self.init_timeout_seconds,
            ),
        )
        segment = Path(run.dir).parent.name
        held = run.starting_step if online else segments.held()
        segments.discard_unsynced(keep=segment)
        self._opened.set()
        where = run.url if online else f"offline, in {self.folder.wandb} (`wandb sync` sends it)"
        self.say(f"W&B: {where}")

        # Never step=: wandb drops rows whose step is not larger than the last. The last definition of a metric wins.
        run.define_metric("*", step_metric="tokens")
        reader = _Lines(self.folder.metrics)
        number = 0
        ending = False
        while not ending:
            ending = self._ending.wait(POLL_SECONDS)  # before reading: rows written before finish() are then all read
            before = number
            try:
                for row in reader.new_rows():
                    if row["event"] in NOT_MIRRORED:
                        continue
                    if number >= held:
                        run.log(payload(row, wandb.Table))
                    number += 1
            finally:  # so that an attempt that takes over from this one knows where to go on
                if number > max(before, held):
                    segments.note(segment, number)
        run.summary.update(self._summary)
        run.finish(exit_code=self._exit_code)


class _Lines:
    """Reads the complete lines that were appended to a file since the last call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0

    def new_rows(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # being written
                self.offset += len(line)
                yield from_json(line)


def figures(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The numbers of a nested mapping under flat names joined by '/', which W&B groups its panels by."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from figures(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            yield prefix + key, value


def payload(row: Mapping[str, Any], table: Callable[..., Any]) -> dict[str, Any]:
    """What W&B gets for a row of the record: its numbers, and its samples as a table."""
    sent = dict(figures(row))
    if samples := row.get("samples"):
        rows = [[row["step"], row["tokens"], sample["prompt"], sample["text"]] for sample in samples]
        sent["samples"] = table(columns=["step", "tokens", "prompt", "text"], data=rows)
    assert all(axis in sent for axis in AXES), f"a row without one of {AXES} cannot be placed on W&B's axes"
    return sent


def _first_line(error: Exception) -> str:
    """The kind of an error and the first line of its message: enough for one line on a screen."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
