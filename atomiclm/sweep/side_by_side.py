"""Cells of a sweep side by side: processes that take one cell after another, on the cores and in the memory there are.

A process has torch imported once. It takes cells on standard input, as JSON, and answers each with what it failed of,
or null. When that pipe is closed it stops the cell that it trains, at a saved state, and ends: so it does when its
parent is killed. Signals are the parent's affair alone.
"""

import json
import os
import signal
import subprocess
import sys
from _thread import interrupt_main
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from queue import SimpleQueue
from select import select
from threading import Thread

from atomiclm.config.app import SIGNALS, deferred
from atomiclm.config.build import build
from atomiclm.config.errors import Stopped, failure_text
from atomiclm.config.match import cost_of, machine_rate
from atomiclm.config.run import RunConfig
from atomiclm.machine import free_memory, usable_cores
from atomiclm.sweep.plan import PlannedCell

PAYS_SECONDS = 15.0
"""Steps of all cells together, by `plan`, that are worth processes; each takes four seconds to import torch."""

PROCESS_BYTES = 2**29
"""Beside what a run's tensors take: Python and torch, and the mirror's process."""

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Share:
    """How the cells of a sweep share a machine: `cells` at a time, each with so many `threads` of the CPU."""

    cells: int
    threads: int
    cores: int  # that can be used
    reason: str = ""  # why no more cells, where it is not plain to see

    def __str__(self) -> str:
        if self.cells == 1:
            return self.reason and f"cells one after another: {self.reason}"
        because = f" ({self.reason})" if self.reason else ""
        how = f"{self.cells} cells side by side{because}, {self.threads_each}"
        return f"{how}; runtime.parallel=1 trains one after another"

    @property
    def threads_each(self) -> str:
        return f"{self.threads} thread{'s' if self.threads > 1 else ''} each"


def share_machine(planned: Sequence[RunConfig], left: Sequence[RunConfig], threads: int | None = None) -> Share:
    """Choose how those that are `left` of the `planned` cells are trained on this machine.

    The number of threads decides the order of floating-point sums, so it is the same for all planned cells, and stays
    what it was (`threads`) when the sweep goes on. `runtime.num_threads` and OMP_NUM_THREADS are obeyed; else the cores
    are divided among the cells.
    """
    values, cores = planned[0].values, usable_cores()
    of_variant = {run.variant: run.values for run in planned}
    costs = cache(lambda variant: cost_of(of_variant[variant]))
    runtime = build(values["runtime"])
    asked = values["runtime"].get("parallel", "auto")
    fixed = runtime.num_threads
    if fixed is None and {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & os.environ.keys():
        fixed = runtime.torchs_threads

    def at_once(runs: Sequence[RunConfig], each: int) -> tuple[int, str]:
        """How many of `runs` at a time, each with at least so many threads, and why no more."""
        most = min(len(runs), max(1, cores // each) if asked == "auto" else asked)
        if most == 1 or runtime.device.type == "mps":
            return 1, ""
        wanted = [costs(run.variant) for run in runs]
        if asked == "auto" and any(cost.tokens is None for cost in wanted):
            return 1, "a budget in seconds is for a run that has the machine to itself"
        times = map(machine_rate(values).seconds, wanted) if asked == "auto" else ()
        if asked == "auto" and sum(most or least for least, most in times) < PAYS_SECONDS:
            return 1, ""
        fit = _fitting(runtime.device.type, max(cost.memory_bytes for cost in wanted))
        return min(most, fit), f"memory for {fit} at a time" if fit < most else ""

    why = kept = ""
    if fixed is None:
        together, why = at_once(planned, 1)
        fixed = runtime.torchs_threads if together == 1 else max(1, cores // together)
        if threads not in (None, fixed):
            fixed, kept = threads, "threads as before under this name; another name divides the cores again"
    together, reason = at_once(left, fixed)
    return Share(together, fixed, cores, reason or kept or (why if together < len(left) else ""))


def _fitting(device: str, each: int) -> int:
    """How many cells that take so many bytes fit into the memory that is free now; at least 1, which is tried."""
    if device != "cuda":
        return max(1, free_memory() // (each + PROCESS_BYTES))
    import torch

    free, _ = torch.cuda.mem_get_info()
    return max(1, min(free // (each + PROCESS_BYTES), free_memory() // (4 * PROCESS_BYTES)))  # CUDA's libraries


def train_side_by_side(
    take: Callable[[], PlannedCell | None], ended: Callable[[PlannedCell, str | None], None], count: int
) -> None:
    """Train the cells that `take` gives, `count` at a time; each that ends is reported with what it failed of.

    Raises:
        Stopped: a signal asked for it; the cells in training have saved their state. A second one ends them at once.
    """
    workers: list[_Worker] = []
    busy: dict[int, tuple[_Worker, PlannedCell]] = {}  # by the descriptor of the worker's answers
    try:
        with deferred() as request:
            while True:
                while not request and len(busy) < count and (cell := take()) is not None:
                    worker = next((each for each in workers if each.answers.fileno() not in busy), None)
                    if worker is None:
                        workers.append(worker := _Worker())
                    busy[worker.answers.fileno()] = worker, cell
                    worker.say(cell.job)
                if not busy:
                    break
                if request:
                    for worker in workers:
                        worker.stop(request.signal)
                for descriptor in select(list(busy), [], [], POLL_SECONDS)[0]:
                    worker, cell = busy.pop(descriptor)
                    if answer := worker.answers.readline():
                        ended(cell, json.loads(answer))
                        continue
                    workers.remove(worker)
                    status = worker.end()
                    if not request:
                        ended(cell, _gone(status))
    except BaseException:
        for worker in workers:
            worker.process.kill()  # what is saved is whole at any moment
        raise
    finally:
        for worker in workers:
            worker.end()
    if request.signal is not None:
        raise Stopped(request.signal)


class _Worker:
    """A process that trains one cell at a time. What else it prints goes to standard error."""

    def __init__(self) -> None:
        code = f"import sys; sys.path = {sys.path}; from atomiclm.train import work; work()"
        # With signals blocked, as it keeps them: those from a terminal go to all processes of a command.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code, *sys.argv[1:]],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.cells, self.answers = self.process.stdin, self.process.stdout

    def say(self, what: object) -> None:
        with suppress(BrokenPipeError):  # it is gone, which is noticed where its answer is waited for
            self.cells.write(json.dumps(what) + "\n")
            self.cells.flush()

    def stop(self, number: int | None = None) -> None:
        """Have it stop what it trains, as the signal of that number would, and end."""
        if not self.cells.closed:
            if number is not None:
                self.say(number)
            with suppress(BrokenPipeError):
                self.cells.close()

    def end(self) -> int:
        """Wait for its end; its exit status."""
        self.stop()
        self.answers.close()
        return self.process.wait()


def serve(train: Callable[[list[str]], object]) -> None:
    """In such a process: train the cells that come, until no more do, or until it is to stop."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    cells: SimpleQueue[list[str] | None] = SimpleQueue()

    def listen() -> None:
        number: int = signal.SIGTERM
        for line in sys.stdin:
            said = json.loads(line)
            if isinstance(said, int):
                number = said
            else:
                cells.put(said)
        cells.put(None)
        interrupt_main(signal.Signals(number))

    Thread(target=listen, name="cells", daemon=True).start()
    for overrides in iter(cells.get, None):
        try:
            train(overrides)
            failure = None
        except Exception as error:
            failure = failure_text(error)
        print(json.dumps(failure), file=answers, flush=True)


def _gone(status: int) -> str:
    """What a cell failed of whose process ended without an answer."""
    if status != -signal.SIGKILL:
        return f"its process ended with status {status}"
    return (
        "its process was killed. If nobody killed it, the machine ran out of memory; runtime.parallel=1 needs less. "
        "The same command continues the cell"
    )
