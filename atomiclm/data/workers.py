"""Work spread over processes, which are commands of their own: they inherit no main module, thread or lock."""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Self, cast

from atomiclm.cli import UserError
from atomiclm.data.cache import STEP_BYTES

Add = Callable[[int], None]
"""Called with the bytes that were dealt with since the last call."""


class Workers:
    """Up to `count` processes, started when there is work for them; as a context manager, which ends them."""

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self._processes: dict[Connection, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def spread[T, R](self, function: Callable[[T, Add], R], tasks: Sequence[T], add: Add) -> Iterator[tuple[int, R]]:
        """(index, function(task, add)) of each task, in the order in which they are done; in this process when there
        is one task or one worker. What `function` raises is raised here, and the other work is given up.

        function: found by name in its module, and so are the classes of tasks and results: in no script's own
        add: is called in this process

        Raises UserError when a worker dies.
        """
        count = min(self.count, len(tasks))
        if count <= 1:
            for index, task in enumerate(tasks):
                yield index, function(task, add)
            return
        while len(self._processes) < count:
            self._start()
        waiting = iter(enumerate(tasks))
        busy: dict[Connection, int] = {}

        def begin(connection: Connection) -> None:
            for index, task in waiting:
                connection.send((function, task))
                busy[connection] = index
                return

        for connection in list(self._processes)[:count]:
            begin(connection)
        while busy:
            for connection in cast(list[Connection], wait(list(busy))):
                try:
                    kind, value = connection.recv()
                except (EOFError, ConnectionResetError) as error:
                    status = self._processes[connection].wait()
                    fix = "if memory ran out, give fewer: runtime.data_workers=1"
                    raise UserError(f"runtime.data_workers: a worker died with exit status {status}; {fix}") from error
                if kind == "bytes":
                    add(value)
                elif kind == "error":
                    raise value
                else:
                    index = busy.pop(connection)
                    begin(connection)
                    yield index, value

    def _start(self) -> None:
        ours, its = Pipe()
        self._stack.enter_context(ours)
        with its:
            process = subprocess.Popen(
                [sys.executable, "-c", f"from atomiclm.data.workers import serve; serve({its.fileno()})"],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        self._processes[ours] = process


def serve(descriptor: int) -> None:
    """Do what comes through the connection, until its other end is closed, as when the process there is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the other process decides
    connection = Connection(descriptor)
    unreported = 0

    def add(num_bytes: int, step: int = STEP_BYTES) -> None:
        nonlocal unreported
        unreported += num_bytes
        if unreported >= step:  # a message for each of many short documents costs more than the documents
            connection.send(("bytes", unreported))
            unreported = 0

    with suppress(EOFError, OSError):
        while True:
            function, task = connection.recv()
            try:
                message = "result", function(task, add)
                add(0, step=1)
            except Exception as error:
                error.add_note(f"in a worker:\n{traceback.format_exc()}")
                message = "error", error
            connection.send(message)
