"""One process at a time trains a run: the one that holds the lock of its folder.

`.lock` is locked by the kernel (flock), which decides among the processes of one machine at once, however its holder
dies. But some file systems have no such lock, and some network file systems keep it within each machine. So the holder
also has a lease: `.holder` names it, and a thread touches that file every 10 seconds. A lease whose process is gone
from this machine is void at once, any other after 60 seconds without a heartbeat by the waiting process's steady clock.
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

LOCK, LEASE = ".lock", ".holder"

LEASE_SECONDS = 60.0
"""How long a lease is good without a heartbeat. All who share a folder must agree on it, or filelock refuses."""

HEARTBEAT_SECONDS = 10.0

GRACE_SECONDS = 2.0
"""How long a lock may be taken before it counts as locked: `is_locked` takes it for a moment, and the kernel drops the
lock of a killed process only with its memory."""

POLL_SECONDS = 0.1

NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
"""What flock(2) says on a file system that has no locks."""


class Locked(Exception):
    """Another process has the folder's lock; the message says which, as far as it is known."""


@contextmanager
def run_lock(
    folder: Path, say: Callable[[str], None], *, wait: bool = False, on_takeover: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold the lock of a run folder, which is made if it is missing.

    Args:
        folder: the run's.
        say: called with whom this waits for; and, from the lease's thread, if the lease is lost while the run goes on:
            the folder was removed, its disk does not answer, or this machine slept and another took the run over.
        wait: for as long as another process trains the run; otherwise only until it is known whether the holder of a
            lease without a recent heartbeat is dead.
        on_takeover: called from the lease's thread when another process has taken the run over: this one must write
            nothing more.

    Raises:
        Locked: another process trains the run, and is alive.
        OSError: the folder cannot be made or written to.
    """
    from filelock import FileLock, SoftFileLease  # a tenth of a second that only who trains needs

    def lost(loss: "LeaseCompromise") -> None:
        if loss.reason == "owner-changed":
            say(f"{folder}: another process took the run over while this one gave no sign of life; this one ends")
            on_takeover()
        else:
            say(
                f"{folder}: {LEASE} is gone or cannot be touched ({loss.error}); another machine may begin this run too"
            )

    folder.mkdir(parents=True, exist_ok=True)
    kernel = FileLock(folder / LOCK, fallback_to_soft=False)
    lease = SoftFileLease(
        folder / LEASE, lease_duration=LEASE_SECONDS, heartbeat_interval=HEARTBEAT_SECONDS, on_compromise=lost
    )
    try:
        try:
            _acquire(kernel, lease, folder, say, wait)
            if _is_local(lease):
                lease.force_break()  # its process had the kernel's lock, which is ours now: it is gone
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        _acquire(lease, lease, folder, say, wait)
        os.utime(folder / LOCK)  # since when it is locked
        yield
    finally:
        lease.release()
        kernel.release()


def is_locked(folder: Path) -> bool:
    """Whether a process trains the run, as far as can be told without waiting: of another machine's, or in a folder
    that may only be read, the lease is all there is."""
    if not (folder / LOCK).is_file():
        return False
    from filelock import FileLock, SoftFileLease, Timeout

    lease, is_free_here = SoftFileLease(folder / LEASE), False
    try:
        with FileLock(folder / LOCK, timeout=0, fallback_to_soft=False):
            is_free_here = True
    except Timeout:
        return True
    except OSError:
        pass
    if lease.owner is None or (is_free_here and _is_local(lease)):
        return False
    return abs(_seconds_since_heartbeat(folder)) <= LEASE_SECONDS


def _acquire(
    wanted: "FileLock | SoftFileLease", lease: "SoftFileLease", folder: Path, say: Callable[[str], None], wait: bool
) -> None:
    from filelock import Timeout

    said = False
    while True:
        try:
            wanted.acquire(timeout=GRACE_SECONDS, poll_interval=POLL_SECONDS)
            return
        except Timeout:
            age = _seconds_since_heartbeat(folder)
        if wanted is lease and age == float("inf"):
            continue  # its holder has just released it
        is_alive = wanted is not lease or abs(age) <= 2 * HEARTBEAT_SECONDS
        holder, owner = "another process", lease.owner
        if owner is not None:
            host = "" if _is_local(lease) else f" on {owner.hostname.partition('?')[0]}"
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((folder / LOCK).stat().st_mtime))
            holder += f" (pid {owner.pid}{host}, since {since})"
        if is_alive and not wait:
            raise Locked(f"{folder} is being trained by {holder}; wait for it, or stop it")
        if not said:
            say(
                f"waiting for {folder}, which {holder} trains"
                if is_alive
                else f"{folder} was being trained by {holder}, which gave its last sign of life {age:.0f} s ago; "
                f"taking over if there is none for {LEASE_SECONDS:.0f} s more"
            )
            said = True


def _is_local(lease: "SoftFileLease") -> bool:
    """Whether the lease is of a process of this machine; after its host's name filelock notes a container's number."""
    return lease.owner is not None and lease.owner.hostname.partition("?")[0] == socket.gethostname()


def _seconds_since_heartbeat(folder: Path) -> float:
    """Return the age of the lease by the clock of the file system it is on; inf if there is none."""
    try:
        with (folder / LEASE).open("rb") as lease:  # opened, because NFS answers stat(2) from memory for up to a minute
            touched = os.fstat(lease.fileno()).st_mtime
    except FileNotFoundError:
        return float("inf")
    try:
        with TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime - touched
    except OSError:  # it may only be read, or is full
        return time.time() - touched
