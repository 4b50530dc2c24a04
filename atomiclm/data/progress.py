"""How long work reports how far it is."""

from typing import Protocol

STEP_BYTES = 1 << 18


class Progress(Protocol):
    """Called now and then with the stage (words for people), bytes done and bytes in all (0: not known).

    What it raises stops the work, and leaves the cache as it was: the way to abandon a preparation.
    """

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None: ...


def silent(stage: str, done_bytes: int, total_bytes: int) -> None:
    """A Progress that says nothing."""


class Meter:
    """Adds up bytes and reports every 256 KiB, however small the documents are."""

    def __init__(self, progress: Progress, stage: str, total_bytes: int) -> None:
        self._progress = progress
        self._stage = stage
        self._total_bytes = total_bytes
        self._done_bytes = self._reported_bytes = 0
        progress(stage, 0, total_bytes)

    def add(self, num_bytes: int) -> None:
        self._done_bytes += num_bytes
        if self._done_bytes - self._reported_bytes >= STEP_BYTES:
            self._report()

    def finish(self) -> None:
        if self._reported_bytes != self._done_bytes:
            self._report()

    def _report(self) -> None:
        self._reported_bytes = self._done_bytes
        self._progress(self._stage, self._done_bytes, self._total_bytes)
