"""Starts `python -m MODULE` without its imports: forked from a process that has them.

Importing torch and its compiler is nine tenths of what a small run costs. The child is the command as `python -m` runs
it, in a process of its own. Run as a script, with the modules to import, this is the parent; it reads one JSON
request a line and answers each with one line.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

COMMAND = ("atomiclm.run", "torch._inductor.config")
"""What a run imports; the second when torch first makes an optimizer."""


class WarmParent:
    """The parent process, asked through its pipes.

    Args:
        environment: its variables.
        modules: that it imports.
    """

    def __init__(self, environment: dict[str, str], modules: Sequence[str] = COMMAND) -> None:
        self._command, self._environment = [sys.executable, __file__, *modules], environment
        self._parent: subprocess.Popen[str] | None = None  # begun when first asked

    def start(
        self,
        module: str,
        arguments: list[str],
        folder: Path,
        environment: dict[str, str],
        output: Path,
        errors: Path | None = None,
    ) -> "WarmProcess":
        """Run `python -m MODULE` with these arguments in `folder`; what it prints is appended to `output`, and what it
        prints to stderr to `errors`, by default the same file.
        """
        place = {"folder": str(folder), "output": str(output), "errors": str(errors or output)}
        return WarmProcess(self, self.ask(module=module, arguments=arguments, environment=environment, **place))

    def ask(self, **request: Any) -> Any:
        """Put a request to the process, and return its answer."""
        if self._parent is None:
            from cli import heed_signals  # not at the top: as a script this does not find it

            self._parent = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                preexec_fn=heed_signals,
            )  # fmt: skip
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(request) + "\n")
        self._parent.stdin.flush()
        return json.loads(self._parent.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._parent is not None:
            self._parent.communicate()  # closes its pipes, which it takes for the end


class WarmProcess:
    """What the harness needs of a `subprocess.Popen`."""

    def __init__(self, parent: WarmParent, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._parent = parent

    def poll(self) -> int | None:
        """The exit status, or None while it runs; a signal's number is negative."""
        if self.returncode is None:
            self.returncode = self._parent.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for its end; after `timeout` seconds kill it, and what it has started."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.005)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _serve() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        answer = _status(request["poll"]) if "poll" in request else _forked(request)
        print(json.dumps(answer), flush=True)


def _forked(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        _run(request)
    return pid


def _status(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _run(request: dict[str, Any]) -> None:
    """In the child: become the command; never returns."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    output, errors = (
        os.open(request[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) for name in ("output", "errors")
    )
    for source, target in ((nowhere, 0), (output, 1), (errors, 2)):
        os.dup2(source, target)
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = [request["folder"], request["environment"]["PYTHONPATH"]]
    sys.argv = [request["module"], *request["arguments"]]
    status: int | str | None = 1
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
