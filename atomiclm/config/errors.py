"""What a user got wrong, collected before anything runs, and how a run ends that is not done."""

import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from atomiclm.cli import UserError

TRY_AGAIN = 75


@dataclass(frozen=True)
class Fault:
    """One mistake: the config path it is at, the rule it breaks, and how to mend it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class ConfigError(UserError):
    """Every fault of one configuration, raised together so that one attempt shows them all."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(faults)  # what it is made of again in another process, from which launchers send it
        self.faults = tuple(faults)

    def __str__(self) -> str:
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        return "\n".join([f"The configuration has {count}:", *(f"  {fault}" for fault in self.faults)])


class RunFailed(RuntimeError):
    """A run has ended without a model, or cells of a sweep have: a result rather than a fault of the program."""


class Stopped(KeyboardInterrupt):
    """A signal asked the command to stop. Not an Exception: it stops a whole sweep.

    `status` is the command's exit status: 130 after Ctrl-C, as in a shell; 75 (EX_TEMPFAIL of sysexits.h: try again)
    after a signal by which a machine is taken away, so that a scheduler or a loop knows to start it again.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.status = 128 + number if number == signal.SIGINT else TRY_AGAIN

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}; the same command resumes"


def failure_text(error: BaseException) -> str:
    """What a cell of a sweep failed of: the error's type, and what it says."""
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}"


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the closest candidate, or the candidates themselves when none is close."""
    options = sorted(set(candidates))
    if close := get_close_matches(name, options, n=1, cutoff=0.6):
        return f"; did you mean '{close[0]}'?"
    return f"; valid names: {', '.join(options)}" if options else ""
