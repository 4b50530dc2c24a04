"""One process at a time trains a run: the one that holds its folder.

There are two locks, since neither is enough alone. The kernel's lock on `.lock` (flock) decides among the processes of
one machine, at once, and the kernel drops it however its holder dies. But some file systems have none, and some network
file systems keep it within each machine. So the holder also puts a claim into the folder, `.holder`, which names it,
and a thread touches the claim every 10 seconds. A claim is void at once if its process is gone from this machine, else
after 60 seconds untouched, which a waiting process counts on its own steady clock: no machine's time of day matters.

The claim is filelock's `SoftFileLease`. Its `SoftFileLock`, which `FileLock` falls back to by itself, would not do: the
mark of a process that died on another machine is never void, and the fallback is taken for one error of several.
"""

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import FileLock, LeaseCompromise, SoftFileLease

LOCK, CLAIM = ".lock", ".holder"

LEASE_SECONDS = 60.0
"""How long a claim is good without being touched. All who share a folder must agree on it, or filelock refuses."""

HEARTBEAT_SECONDS = 10.0

GRACE_SECONDS = 1.0
"""How long a lock may be taken before it counts as held: `is_held` takes it for a moment to find out."""

POLL_SECONDS = 0.1

NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
"""What flock(2) says on a file system that has no locks."""

_EXITING = 0x4  # PF_EXITING of Linux's sched.h, among the flags of /proc/PID/stat
_KILLED = 1 << 8  # SIGKILL in the masks of /proc/PID/status


class Held(Exception):
    """Another process holds the folder; the message says which, as far as it is known."""


@contextmanager
def hold(
    folder: Path, say: Callable[[str], None], *, wait: bool = False, taken: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold a run folder, which is made if it is missing.

    Args:
        folder: the run's.
        say: told whom this waits for; and once, from the claim's thread, if the claim is lost while the run goes on:
            the folder was removed, its disk does not answer, or this machine slept and another took the run over.
        taken: called from the claim's thread when another process has taken the folder over: this one is to write no
            more.
        wait: wait for as long as another process holds the folder. Otherwise this waits only where the holder may be
            dead, until that is known: for one whose end the kernel is at, and for a claim that was not touched lately.

    Raises:
        Held: another process holds the folder, and is alive.
        OSError: the folder cannot be made or written to.
    """
    from filelock import FileLock, SoftFileLease  # a tenth of a second that only who trains needs

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, fallback_to_soft=False)

    def lost(loss: "LeaseCompromise") -> None:
        say(_loss(folder, loss))
        if loss.reason == "owner-changed":
            taken()

    claim = SoftFileLease(
        folder / CLAIM, lease_duration=LEASE_SECONDS, heartbeat_interval=HEARTBEAT_SECONDS, on_compromise=lost
    )
    locked = _take_lock(lock, claim, folder, say, wait)
    try:
        _take_claim(claim, locked, folder, say, wait)
        try:
            os.utime(folder / LOCK)  # since when it is held
            yield
        finally:
            claim.release()
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder, as far as can be told without waiting: a claim of another machine counts for
    as long as it is good. A folder that may only be read has its claim alone, read by this machine's time of day.
    """
    if not (folder / LOCK).is_file():
        return False
    from filelock import FileLock, SoftFileLease, Timeout

    free_here = False
    try:
        with FileLock(folder / LOCK, timeout=0, fallback_to_soft=False):
            free_here = True
    except Timeout:
        return True
    except OSError:
        pass
    owner = SoftFileLease(folder / CLAIM).owner
    if owner is None or (free_here and _is_of_this_machine(owner.hostname, owner.start)):
        return False
    return abs(_age(folder)) <= LEASE_SECONDS


def _take_lock(lock: "FileLock", claim: "SoftFileLease", folder: Path, say: Callable[[str], None], wait: bool) -> bool:
    """Take the kernel's lock; returns whether there is one."""
    from filelock import Timeout

    began, said = time.monotonic(), False
    while True:
        try:
            lock.acquire(timeout=GRACE_SECONDS, poll_interval=POLL_SECONDS)
            return True
        except Timeout:
            pass
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return False
        ending = _is_ending(claim) and time.monotonic() - began < LEASE_SECONDS
        if not wait and not ending:
            raise Held(f"{folder} is being trained by {_holder(claim, folder)}; wait for it, or stop it")
        if not said:
            left = ", which is about to end" if ending else ""
            say(f"waiting for {folder}, which {_holder(claim, folder)} trains{left}")
            said = True


def _take_claim(claim: "SoftFileLease", locked: bool, folder: Path, say: Callable[[str], None], wait: bool) -> None:
    """Put our claim in the place of one that is void, or of none."""
    from filelock import Timeout

    owner = claim.owner
    if locked and owner is not None and _is_of_this_machine(owner.hostname, owner.start):
        claim.force_break()  # its process had the lock that we have: it is gone
    said = False
    while True:
        try:
            claim.acquire(timeout=GRACE_SECONDS, poll_interval=POLL_SECONDS)
            return
        except Timeout:
            age = _age(folder)
        if age == float("inf"):
            continue  # its holder has just gone
        alive = abs(age) <= 2 * HEARTBEAT_SECONDS
        if alive and not wait:
            raise Held(f"{folder} is being trained by {_holder(claim, folder)}; wait for it, or stop it")
        if not said:
            say(
                f"waiting for {folder}, which {_holder(claim, folder)} trains"
                if alive
                else f"{folder} was being trained by {_holder(claim, folder)}, which gave its last sign of life "
                f"{age:.0f} s ago; taking over if there is none for {LEASE_SECONDS:.0f} s more"
            )
            said = True


def _holder(claim: "SoftFileLease", folder: Path) -> str:
    owner = claim.owner
    if owner is None:
        return "another process"
    host = "" if _is_of_this_machine(owner.hostname, owner.start) else f" on {owner.hostname.partition('?')[0]}"
    try:
        since = time.strftime(", since %Y-%m-%d %H:%M:%S", time.localtime((folder / LOCK).stat().st_mtime))
    except OSError:
        since = ""
    return f"another process (pid {owner.pid}{host}{since})"


def _age(folder: Path) -> float:
    """Seconds since the claim was touched, by the clock of the file system it is on; inf if it is gone."""
    try:
        with (folder / CLAIM).open("rb") as claim:  # opened, because NFS answers stat(2) from memory for up to a minute
            touched = os.fstat(claim.fileno()).st_mtime
    except FileNotFoundError:
        return float("inf")
    try:
        with TemporaryFile(dir=folder) as probe:
            now = os.fstat(probe.fileno()).st_mtime
    except OSError:  # of another's, or full
        now = time.time()
    return now - touched


def _is_of_this_machine(hostname: str, start: int | None) -> bool:
    """Whether a claim's process runs, or ran, under this very kernel, where the kernel's lock says if it lives.

    filelock notes a process's start with Linux's boot id in the bits above the 64th; containers of one machine have
    other host names and the same boot id. Elsewhere the host's name has to do.
    """
    boot = _boot_id()
    if boot and start is not None and start >> 64:
        return start >> 64 == boot
    return hostname.partition("?")[0] == socket.gethostname()


def _boot_id() -> int:
    try:
        return int(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", ""), 16)
    except (OSError, ValueError):
        return 0


def _is_ending(claim: "SoftFileLease") -> bool:
    """Whether the claim's process was killed, and still has the lock because the kernel is taking its memory back."""
    owner = claim.owner
    if owner is None or owner.start is None or not _is_of_this_machine(owner.hostname, owner.start):
        return False
    process = Path("/proc") / str(owner.pid)
    try:
        fields = (process / "stat").read_bytes().rpartition(b")")[2].split()
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    except OSError:
        return False
    state, flags, start = fields[0], int(fields[6]), int(fields[19])
    if start != owner.start % 2**64:  # the same number in another namespace, or of a later process
        return False
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    return state in b"ZX" or bool(flags & _EXITING) or bool(pending & _KILLED)


def _loss(folder: Path, loss: "LeaseCompromise") -> str:
    """What to tell of a claim that was lost under a run that goes on."""
    if loss.reason == "owner-changed":
        return (
            f"{folder}: another process has taken the run over, while this one gave no sign of life; it goes on there"
        )
    if loss.reason == "marker-missing":
        return f"{folder}: {CLAIM} is gone, perhaps with the folder; another machine may begin this run too"
    return f"{folder}: {CLAIM} cannot be touched ({loss.error}); another machine may take this run over"
