"""Requests to stop: what SIGINT, SIGTERM, SIGUSR1 and SIGHUP do to a command.

By default they end it where it stands (`Stopped`), with an exit status that says whether to start it again. Inside
`deferred`, around training, the first one is only noted, and whoever trains looks at it where state can be saved; a
second one ends the command at once. SIGUSR1 is what Slurm sends before it takes a machine away (`--signal=B:USR1@60`).
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from atomiclm.config.faults import Stopped

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))


@dataclass
class Request:
    """What has been asked for: the signal's number, and when (`time.monotonic`); None until then."""

    signal: int | None = None
    at: float | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


_deferring: list[Request] = []


@contextmanager
def stoppable() -> Iterator[None]:
    """While open, each of the signals ends the command with `Stopped`, raised in the main thread where it stands."""
    try:
        previous = {each: signal.signal(each, _act) for each in _SIGNALS}
    except ValueError:  # not the main thread: some launchers run cells in others, where signals cannot be taken
        yield
        return
    try:
        yield
    finally:
        for each in _SIGNALS:
            signal.signal(each, previous[each])


@contextmanager
def deferred() -> Iterator[Request]:
    """While open, the first signal is noted in what this gives, and does nothing else."""
    request = Request()
    with stoppable():
        _deferring.append(request)
        try:
            yield request
        finally:
            _deferring.remove(request)


def _act(number: int, frame: FrameType | None) -> None:
    request = _deferring[-1] if _deferring else None
    if request is not None and not request:
        request.signal, request.at = number, time.monotonic()
        return
    raise Stopped(number)
