"""Requests to stop: what SIGINT, SIGTERM, SIGUSR1 and SIGHUP do to a command.

By default they end it where it stands (`Stopped`), with an exit status that says whether to start it again. Inside
`deferred`, around training, the first one is only noted, and whoever trains looks at it where state can be saved; a
second one ends the command as soon as nothing is being written, a third at once. SIGUSR1 is what Slurm sends before it
takes a machine away (`--signal=B:USR1@60`).
"""

import os
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
    repeated: bool = False

    def __bool__(self) -> bool:
        return self.signal is not None


_deferring: list[Request] = []


@contextmanager
def stoppable() -> Iterator[None]:
    """While open, each of the signals ends the command with `Stopped`, raised in the main thread where it stands."""
    try:
        # One that is ignored stays so: `nohup`, or a script's `&`, has asked for that.
        heeded = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        previous = {each: signal.signal(each, _act) for each in heeded}
    except ValueError:  # not the main thread: some launchers run cells in others, where signals cannot be taken
        yield
        return
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


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
    stopped = Stopped(number)
    if request is not None:
        if request.repeated:  # while the run folder is held: as a kill would, and not with a writer still at work
            os._exit(stopped.status)
        request.repeated = True
    raise stopped
