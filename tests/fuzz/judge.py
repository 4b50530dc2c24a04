"""The law every reader of a stranger's file must keep, and the guard that watches while it reads.

Accepted, or one ValueError (OSError where the file system says no) that names what was read and is fit for a terminal.
No other kind of error, a warning among them; no more than 5 CPU seconds, no more than 1 GiB above what the process had,
no code of the file run, no file written or removed outside the input's own folder, no network, no process.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CPU_SECONDS = 5.0
WALL_SECONDS = 60.0  # waiting, on a pipe for one; generous, since the machine may be busy
MEMORY_BYTES = 1 << 30
MESSAGE_CHARACTERS = 2000

_RUNS = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "exec")
_WRITES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.chmod", "os.truncate")


class Hang(BaseException):
    """Raised by the alarm, so that no `except Exception` of a reader swallows it."""


@dataclass(frozen=True)
class Verdict:
    """What came of an input; `reason` says which part of the law was broken, or how it was refused."""

    outcome: Literal["accepted", "refused", "fault"]
    reason: str = ""


class Guard:
    """Notes, while it watches, what a reader may not do. An audit hook stays for good, so make one in a process."""

    def __init__(self, allowed: Path) -> None:
        self._allowed = str(allowed.resolve())
        self._seen: list[str] | None = None
        sys.addaudithook(self._audit)
        for number in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(number, self._ring)

    @contextmanager
    def watching(self) -> Iterator[list[str]]:
        """The list of what was seen within."""
        seen: list[str] = []
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
        self._seen = seen
        try:
            yield seen
        finally:
            self._seen = None
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, number: int, frame: object) -> None:
        what = (
            f"more than {CPU_SECONDS:g} CPU seconds" if number == signal.SIGPROF else f"{WALL_SECONDS:g} s of waiting"
        )
        raise Hang(what)

    def _audit(self, event: str, arguments: tuple) -> None:
        seen = self._seen
        if seen is None:
            return
        if event in _RUNS:
            seen.append(f"{event} {arguments!r:.200}")
        elif event in _WRITES or (event == "open" and _writes(arguments)):
            self._seen = None  # what follows opens nothing, but resolving a path may be audited
            for path in arguments[:2] if event in ("os.rename", "os.symlink", "os.link") else arguments[:1]:
                if isinstance(path, str | bytes | os.PathLike) and not self._is_inside(os.fsdecode(path)):
                    seen.append(f"{event} {path!r}")
            self._seen = seen

    def _is_inside(self, path: str) -> bool:
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        return f"{real}/".startswith(f"{self._allowed}/")


def _writes(arguments: tuple) -> bool:
    flags = arguments[2] if len(arguments) > 2 and isinstance(arguments[2], int) else 0
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def limit_memory() -> None:
    """Let this process have 1 GiB more of addresses than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def judge(read: Callable[[], object], folder: Path, guard: Guard) -> Verdict:
    """Read an input, which lies in `folder`, and hold what happens against the law."""
    verdict = Verdict("accepted")
    with guard.watching() as seen:
        try:
            read()
        except (ValueError, OSError) as error:
            verdict = _of_message(error, folder)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # PanicException of Rust is one, and so is Hang
            verdict = Verdict("fault", f"{type(error).__name__}: {error!s:.300} ({_place(error)})")
    if seen:
        return Verdict("fault", f"while reading: {'; '.join(seen[:3])}")
    if Path("canary").exists() or (folder / "canary").exists():
        return Verdict("fault", "a canary was let out: code of the file was run")
    return verdict


def _of_message(error: Exception, folder: Path) -> Verdict:
    message = str(error)
    refused = f"{type(error).__name__}: {message}"
    for broken, rule in (
        (str(folder) not in message, "the message does not name the file"),
        (len(message) > MESSAGE_CHARACTERS, f"the message has {len(message)} characters"),
        (any(not (c.isprintable() or c == "\n") for c in message), "the message has control characters"),
    ):
        if broken:
            return Verdict("fault", f"{rule}: {refused[:300]!r} ({_place(error)})")
    return Verdict("refused", refused)


def _place(error: BaseException) -> str:
    """File and line of ours that was running last."""
    place, trace = "?", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "/atomiclm/" in name:
            place = f"{name.rpartition('/atomiclm/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
