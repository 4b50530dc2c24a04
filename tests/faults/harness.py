"""A trial: the real command, disturbed at random moments and started again, must end as the run never disturbed."""

import json
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.counts import Counts
from faults.evidence import checkpoints, differences, run_folder, trace_of, where_it_was_hit
from faults.matrix import Configuration
from faults.moments import Moment, wait_for
from faults.workshop import LIMIT_SECONDS, Running, Workshop

SAVED_STATUS = {signal.SIGTERM: 75, signal.SIGUSR1: 75, signal.SIGHUP: 75, signal.SIGINT: 130}
"""The exit status after each signal that asks a run to save and end: 75 is EX_TEMPFAIL of sysexits.h."""


@dataclass
class Trial:
    """One run in a folder of its own.

    Attributes:
        workshop: what it shares with others.
        folder: where it runs; what it prints is beside it, in a file of its name and `.log`.
        configuration: of the run.
        counts: what is done to it is counted here.
        life_seconds: how long the undisturbed run takes; asked first, for that run may have to be made.
    """

    workshop: Workshop
    folder: Path
    configuration: Configuration
    counts: Counts = field(default_factory=Counts)
    life_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        self.life_seconds = self.workshop.life_seconds(self.configuration)
        self.workshop.furnish(self.folder)
        self.counts.configurations[self.configuration.name] += 1

    @property
    def run(self) -> Path | None:
        """The run folder, once there is one."""
        return run_folder(self.folder)

    @property
    def log(self) -> str:
        """All that its processes have printed."""
        path = self.folder.parent / f"{self.folder.name}.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def start(self, cold: bool = True) -> Running:
        """Start the command, again if it was started before."""
        return self.workshop.start(list(self.configuration.overrides), self.folder, cold)

    def kill(self, moment: Moment, cold: bool = True) -> bool:
        """Start, and SIGKILL at the moment; False if the process ended before."""
        before = trace_of(self.run)
        process = self.start(cold)
        wait_for(moment, process, self.folder, self.life_seconds, before)
        process.send_signal(signal.SIGKILL)
        if process.wait(LIMIT_SECONDS) != -signal.SIGKILL:
            self.check(process.returncode == 0, f"ended with {process.returncode} before it was killed")
            return False
        self.counts.kill(where_it_was_hit(self.run, before))
        return True

    def signal(self, number: signal.Signals, moment: Moment, cold: bool = True) -> float | None:
        """Start, and ask to end at the moment. Returns the seconds it took to; None if the run was over before.

        Raises:
            Unequal: the status, the summary or the record is not as promised.
        """
        before = trace_of(self.run)
        process = self.start(cold)
        if not wait_for(moment, process, self.folder, self.life_seconds, before):
            self.check(process.wait(LIMIT_SECONDS) == 0, f"ended with {process.returncode} before the signal")
            return None
        sent = time.monotonic()
        process.send_signal(number)
        status = process.wait(LIMIT_SECONDS)
        seconds = time.monotonic() - sent
        if status == 0:  # it had taken its last step
            return None
        self.counts.faults[number.name] += 1
        # Before Python has set its own answers up, a signal is the kernel's to answer.
        early = moment.kind == "anywhere" and status in (-number, SAVED_STATUS[number], 1)
        self.check(status == SAVED_STATUS[number] or early, f"{number.name} ended it with {status}")
        if not early:
            self.check(self.summary()["state"] == "interrupted", f"{number.name} left state {self.summary()['state']}")
            self.check(bool(checkpoints(self.run)), f"{number.name} left no checkpoint")
        return seconds

    def finish(self, cold: bool = True) -> None:
        """Start once more, undisturbed, and compare with the run that never was.

        Raises:
            Unequal: the run failed, or is another one.
        """
        status = self.start(cold).wait(LIMIT_SECONDS)
        self.check(status == 0, f"resumed, it ends with {status}")
        assert self.run is not None
        found = differences(self.run, self.workshop.reference(self.configuration))
        self.counts.trials["equal" if not found else "different"] += 1
        self.check(not found, "; ".join(found))

    def summary(self) -> dict[str, Any]:
        """The run's summary."""
        assert self.run is not None
        content: dict[str, Any] = json.loads((self.run / "summary.json").read_text(encoding="utf-8"))
        return content

    def check(self, holds: bool, complaint: str) -> None:
        """Raise with what is needed to look into it, unless it holds."""
        if not holds:
            raise Unequal(f"{self.folder} ({self.configuration.name}): {complaint}\n{self.log[-3000:]}")


class Unequal(AssertionError):
    """A disturbed run that is not what it would have been."""
