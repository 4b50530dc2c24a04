"""Who has the lock of a run folder: by the kernel, and by the lease where the kernel has none or ends per machine."""

import errno
import fcntl
import importlib
import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock, SoftFileLease

from atomiclm.tracking import Locked, is_locked, run_lock

lock = importlib.import_module("atomiclm.tracking.lock")

NO_LOCKS = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP]

HOLDER = """
import os, sys, time
from pathlib import Path
from atomiclm.tracking import run_lock
with run_lock(Path(sys.argv[1]), print):
    exec(sys.argv[2])
    print("held", flush=True)
    time.sleep(300)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def said():
    return []


@pytest.fixture
def quick(monkeypatch):
    """Leases that are void after two seconds."""
    monkeypatch.setattr(lock, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr(lock, "GRACE_SECONDS", 0.2)


@pytest.fixture
def locks(monkeypatch, request):
    """The kernel's locks: there (None), or refused with an error."""

    def refused(descriptor, operation):
        raise OSError(request.param, os.strerror(request.param))

    if request.param is not None:
        monkeypatch.setattr(fcntl, "flock", refused)


@pytest.fixture
def elsewhere():
    """Start a process that holds a folder until it is killed."""
    processes = []

    def start(folder, then="pass"):
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), then], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def lease_of_another_machine(folder, start=(7 << 64) + 5, duration=2.0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / lock.LOCK).touch()
    record = f"pid=4242\nhost=node7\nmode=lease\ntoken={'a' * 32}\nduration={duration}\nstart={start}\n"
    (folder / lock.LEASE).write_text("filelock/2\n" + record)


def test_locked_and_released_and_locked_again(folder, said):
    for _ in range(2):
        with run_lock(folder, said.append):
            assert is_locked(folder)
            assert SoftFileLease(folder / lock.LEASE).pid == os.getpid()
        assert not is_locked(folder)
        assert not (folder / lock.LEASE).exists()
    assert said == []


def test_a_folder_never_trained_in_is_free_and_stays_untouched(folder):
    folder.mkdir()
    assert not is_locked(folder)
    assert list(folder.iterdir()) == []


def test_the_second_is_told_by_whom_and_since_when(folder, said, elsewhere):
    first = elsewhere(folder)
    assert is_locked(folder)
    began = time.strftime("%Y-%m-%d %H")
    with pytest.raises(Locked, match=rf"another process \(pid {first.pid}, since {began}:\d\d:\d\d\); wait") as caught:
        run_lock(folder, said.append).__enter__()
    assert socket.gethostname() not in str(caught.value).replace(str(folder), "")
    assert said == []


@pytest.mark.parametrize("locks", [None, *NO_LOCKS], indirect=True)
@pytest.mark.usefixtures("locks")
def test_two_threads_of_one_process_exclude_each_other(folder, said):
    caught = []

    def second():
        try:
            with run_lock(folder, said.append):
                caught.append(None)
        except Locked as error:
            caught.append(error)

    with run_lock(folder, said.append):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(60)
    assert f"pid {os.getpid()}" in str(caught[0])
    second()
    assert caught[1:] == [None]


def test_who_waits_gets_it_when_the_other_lets_go(folder, said, elsewhere):
    first = elsewhere(folder)
    threading.Timer(lock.GRACE_SECONDS + 2, first.kill).start()
    with run_lock(folder, said.append, wait=True):
        assert first.poll() is None or first.wait() == -signal.SIGKILL
        assert len(said) == 1
        assert said[0].startswith(f"waiting for {folder}, which another process (pid {first.pid}")


@pytest.mark.parametrize("locks", [None, errno.ENOLCK], indirect=True, ids=["flock", "no flock"])
@pytest.mark.usefixtures("locks")
def test_a_kill_frees_it_at_once(folder, said, elsewhere):
    first = elsewhere(folder)
    first.kill()
    first.wait()
    assert (folder / lock.LEASE).exists(), "a kill leaves the lease behind"
    began = time.monotonic()
    with run_lock(folder, said.append):
        assert SoftFileLease(folder / lock.LEASE).pid == os.getpid()
    assert time.monotonic() - began < lock.LEASE_SECONDS / 2
    assert said == []


def test_a_kill_seen_before_its_parent_knows_of_it(folder, said, elsewhere):
    """A process that nobody has waited for answers to its number still."""
    first = elsewhere(folder)
    first.kill()
    with run_lock(folder, said.append):
        assert SoftFileLease(folder / lock.LEASE).pid == os.getpid()


def test_a_child_forked_while_it_was_held_does_not_keep_it(folder, said, elsewhere):
    """Workers outlive a killed parent for a while, and would keep its lock with the descriptor they inherited."""
    forks = "import os\nchild = os.fork()\nif not child: os.close(1); time.sleep(20); os._exit(0)\n"
    first = elsewhere(folder, forks)
    with pytest.raises(Locked):
        run_lock(folder, said.append).__enter__()
    first.kill()
    first.wait()
    with run_lock(folder, said.append):
        pass


def test_a_forked_child_that_ends_does_not_free_it(folder, said):
    with run_lock(folder, said.append):
        child = multiprocessing.get_context("fork").Process(target=lambda: None)
        child.start()
        child.join()
        assert is_locked(folder)
        assert SoftFileLease(folder / lock.LEASE).pid == os.getpid()


def test_another_machine_that_lives_is_named(folder, said):
    lease_of_another_machine(folder, duration=lock.LEASE_SECONDS)
    assert is_locked(folder)
    with pytest.raises(Locked, match=r"pid 4242 on node7, since"):
        run_lock(folder, said.append).__enter__()
    # Whoever gave up left the kernel's lock to others.
    FileLock(folder / lock.LOCK, timeout=0).acquire().lock.release()


@pytest.mark.parametrize("clock", [-86_400, 0, 86_400], ids=["a day behind", "right", "a day ahead"])
def test_another_machine_that_died_is_waited_out_whatever_the_clocks_say(folder, said, quick, clock, monkeypatch):
    lease_of_another_machine(folder)
    touched = time.time() - 3600
    os.utime(folder / lock.LEASE, (touched, touched))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + clock)
    assert not is_locked(folder)
    began = time.monotonic()
    with run_lock(folder, said.append):
        assert time.monotonic() - began >= lock.LEASE_SECONDS
        assert SoftFileLease(folder / lock.LEASE).pid == os.getpid()
    assert len(said) == 1
    assert "gave its last sign of life 3600 s ago" in said[0]


def test_another_machine_that_comes_back_while_it_is_waited_out_is_left_alone(folder, said, quick):
    lease_of_another_machine(folder)
    touched = time.time() - 3600
    os.utime(folder / lock.LEASE, (touched, touched))
    threading.Timer(1, os.utime, (folder / lock.LEASE,)).start()
    with pytest.raises(Locked, match="node7"):
        run_lock(folder, said.append).__enter__()
    assert "last sign of life" in said[0]


def test_a_lease_is_kept_alive(folder, said, quick):
    with run_lock(folder, said.append):
        before = (folder / lock.LEASE).stat().st_mtime_ns
        time.sleep(1.5)
        assert (folder / lock.LEASE).stat().st_mtime_ns > before


@pytest.mark.parametrize("loss", ["removed", "taken over", "cannot be touched"])
def test_a_lease_that_is_lost_is_said_once_and_ends_only_who_was_passed_over(folder, said, quick, loss, monkeypatch):
    passed_over: list[str] = []
    with run_lock(folder, said.append, on_takeover=lambda: passed_over.append(loss)):
        if loss == "removed":
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        elif loss == "taken over":
            SoftFileLease(folder / lock.LEASE).force_break()
            lease_of_another_machine(folder)
        else:

            def full(*arguments, **named):
                raise OSError(errno.EIO, "Input/output error")

            monkeypatch.setattr(os, "utime", full)
        deadline = time.monotonic() + 60
        while not said and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
    words = {"removed": "is gone", "taken over": "took the run over", "cannot be touched": "Input/output error"}
    assert len(said) == 1
    assert words[loss] in said[0]
    assert passed_over == (["taken over"] if loss == "taken over" else []), "who is passed over must write no more"
    if loss == "taken over":
        assert "node7" in (folder / lock.LEASE).read_text(), "the lease of the other was removed"


def test_a_folder_that_may_only_be_read(folder, said, monkeypatch):
    """An error says so; and who looks at it sees whether its owner trains there."""
    lease_of_another_machine(folder)
    opened = os.open

    def read_only(path, flags, *arguments, **named):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(path).startswith(str(folder)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *arguments, **named)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(OSError, match="Read-only"):
        run_lock(folder, said.append).__enter__()
    assert is_locked(folder)
    os.utime(folder / lock.LEASE, (0, 0))
    assert not is_locked(folder)


def test_looking_whether_it_is_held_stops_nobody_from_beginning(folder, said):
    """Who looks takes the kernel's lock for a moment."""
    folder.mkdir()
    looking = FileLock(folder / lock.LOCK, thread_local=False)
    looking.acquire()
    threading.Timer(0.3, looking.release).start()
    with run_lock(folder, said.append):
        pass
    assert said == []


def test_the_lock_stays_one_file(folder, said):
    """Were it removed when it is let go, two who wait could lock two files of one name."""
    with run_lock(folder, said.append):
        inode = (folder / lock.LOCK).stat()[stat.ST_INO]
    with run_lock(folder, said.append):
        assert (folder / lock.LOCK).stat()[stat.ST_INO] == inode
    assert Path(folder / lock.LOCK).read_bytes() == b""
