"""What `atomic_io` promises: a file is the old one or the new one, on disk in an order that keeps it so, and nothing
else is left behind.
"""

import errno
import os
import stat
import time
from pathlib import Path

import pytest
from faults.power import Watch

from atomiclm.atomic_io import new_folder, read_file, write_atomic, write_new
from atomiclm.cli import UserError


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def _fail(number):
    def failing(*_, **__):
        raise OSError(number, os.strerror(number))

    return failing


@pytest.mark.parametrize("fails", ["os.fsync", "pathlib.Path.replace", "atomiclm.atomic_io.write_new"])
def test_the_old_content_stays_when_it_fails(tmp_path, monkeypatch, fails):
    target = tmp_path / "a.json"
    write_atomic(target, b"old")
    monkeypatch.setattr(fails, _fail(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("put", [Path.mkdir, lambda target: None], ids=["a folder", "nothing"])
def test_what_cannot_be_written_is_told_by_its_own_name(tmp_path, put, monkeypatch):
    target = tmp_path / "a.json"
    put(target)
    if not target.exists():
        monkeypatch.setattr(os, "fsync", _fail(errno.ENOSPC))
    with pytest.raises(OSError, match=r"a\.json") as raised:
        write_atomic(target, b"new")
    assert raised.value.filename == str(target)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks /proc what a descriptor is")
def test_the_content_is_on_disk_before_the_name_and_the_name_at_the_end(tmp_path):
    watch = Watch(tmp_path, tmp_path / "none")
    with watch.watching():
        write_atomic(tmp_path / "a.json", b"new")
    renamed = next(place for place, operation in enumerate(watch.operations) if operation.kind == "rename")
    assert [(done.kind, done.content) for done in watch.operations[:renamed] if done.kind == "sync"] == [
        ("sync", b"new")
    ]
    assert (watch.operations[-1].kind, watch.operations[-1].path) == ("sync", Path())


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_umask_has_its_say(tmp_path, umask, mask, expected):
    umask(mask)
    write_atomic(tmp_path / "file", b"")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected


def test_no_file_is_written_over_that_is_there(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


def _filled(folder, fails=None):
    with new_folder(folder) as partial:
        (partial / "a").write_bytes(b"new")
        assert not (folder / "a").exists()
        if fails is not None:
            raise fails


@pytest.mark.parametrize("empty", [False, True])
def test_a_folder_appears_when_all_is_in_it(tmp_path, empty):
    folder = tmp_path / "folder"
    if empty:
        folder.mkdir()
    _filled(folder)
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("a", b"new")]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_a_folder_that_fails_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)) as raised:
        _filled(tmp_path / "folder", error)
    assert list(tmp_path.iterdir()) == []
    named = str(tmp_path / "folder") if isinstance(error, OSError) else None
    assert getattr(raised.value, "filename", None) == named


def test_what_is_in_a_folder_stays(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("folder", "link"):
        with pytest.raises(ValueError, match="is not an empty folder"):
            _filled(tmp_path / name)
    assert (tmp_path / "folder" / "mine").read_bytes() == b"mine"


def test_what_a_kill_has_left_long_ago_goes(tmp_path):
    for name, age in ((".f[ol]*.00.partial", 1e6), (".f[ol]*.11.partial", 0), (".folder.22.partial", 1e6)):
        (tmp_path / name).mkdir()
        moment = time.time() - age
        os.utime(tmp_path / name, (moment, moment))
    _filled(tmp_path / "f[ol]*")
    assert {path.name for path in tmp_path.iterdir()} == {".f[ol]*.11.partial", ".folder.22.partial", "f[ol]*"}


def test_only_a_file_with_an_end_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    assert read_file(tmp_path / "file") == read_file(tmp_path / "file", 7) == b"content"
    with pytest.raises(UserError, match="more than 6 bytes"):
        read_file(tmp_path / "file", 6)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "folder", "link", "missing"):
        with pytest.raises(OSError, match=name):
            read_file(tmp_path / name)
