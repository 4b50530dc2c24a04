"""What `durable` promises: a file is the old one or the new one, on disk in an order that keeps it so, and nothing
else is left behind.
"""

import errno
import os
import stat
from pathlib import Path

import pytest
from faults.power import Watch

from atomiclm.durable import write_through, write_whole


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def _fail(number):
    def failing(*_, **__):
        raise OSError(number, os.strerror(number))

    return failing


@pytest.mark.parametrize("fails", ["os.fsync", "pathlib.Path.replace", "atomiclm.durable.write_through"])
def test_the_old_content_stays_when_it_fails(tmp_path, monkeypatch, fails):
    target = tmp_path / "a.json"
    write_whole(target, b"old")
    monkeypatch.setattr(fails, _fail(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("put", [Path.mkdir, lambda target: None], ids=["a folder", "nothing"])
def test_what_cannot_be_written_is_told_by_its_own_name(tmp_path, put, monkeypatch):
    target = tmp_path / "a.json"
    put(target)
    if not target.exists():
        monkeypatch.setattr(os, "fsync", _fail(errno.ENOSPC))
    with pytest.raises(OSError, match=r"a\.json") as raised:
        write_whole(target, b"new")
    assert raised.value.filename == str(target)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks /proc what a descriptor is")
def test_the_content_is_on_disk_before_the_name_and_the_name_at_the_end(tmp_path):
    watch = Watch(tmp_path, tmp_path / "none")
    with watch.watching():
        write_whole(tmp_path / "a.json", b"new")
    renamed = next(place for place, operation in enumerate(watch.operations) if operation.kind == "rename")
    assert [(done.kind, done.content) for done in watch.operations[:renamed] if done.kind == "sync"] == [
        ("sync", b"new")
    ]
    assert (watch.operations[-1].kind, watch.operations[-1].path) == ("sync", Path())


@pytest.mark.parametrize(("mask", "mode", "expected"), [
    (0o022, 0o666, 0o644), (0o002, 0o666, 0o664), (0o077, 0o666, 0o600), (0o002, 0o644, 0o644), (0o000, 0o644, 0o644),
])  # fmt: skip
def test_the_umask_has_its_say(tmp_path, umask, mask, mode, expected):
    umask(mask)
    write_whole(tmp_path / "file", b"", mode)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected


def test_no_file_is_written_over_that_is_there(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_through(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
