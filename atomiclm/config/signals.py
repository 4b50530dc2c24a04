"""Requests to stop: what SIGINT, SIGTERM, SIGUSR1 and SIGHUP do to a command.

By default they end it where it stands (`Stopped`), with an exit status that says whether to start it again. Inside
`deferred`, around training, the first one is only noted, and whoever trains looks at it where state can be saved; a
second one ends the command as soon as nothing is being written, a third at once. SIGUSR1 is what Slurm sends before it
takes a machine away (`--signal=B:USR1@60`).
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType

from atomiclm.config.errors import Stopped

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))

_AGAIN_SECONDS = 0.05


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
    previous_hook, sys.unraisablehook = sys.unraisablehook, partial(_swallowed, sys.unraisablehook)
    try:
        yield
    finally:
        sys.unraisablehook = previous_hook
        for each, handler in previous.items():
            signal.signal(each, handler)


def ignore() -> None:
    """Heed no signal any more: the command has told how it ends, and what is left is taking torch down."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)


def _swallowed(otherwise: Callable[["sys.UnraisableHookArgs"], object], lost: "sys.UnraisableHookArgs") -> None:
    """What is raised while C code waits for Python (a finalizer, a callback of LLVM's) gets lost: raise it again."""
    if not isinstance(lost.exc_value, Stopped):
        otherwise(lost)
        return
    # Soon and not here, where it would be lost once more.
    again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), lost.exc_value.number))
    again.daemon = True
    again.start()


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
