"""A folder in the cache is whole or not there, whatever happens."""

import contextlib
import errno
import json
import os

import pytest

from atomiclm.data import cache
from atomiclm.machine import default_cache_dir


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "things" / "key"


@pytest.fixture
def build():
    """Builds two files and counts how often it did."""

    def build(target):
        build.count += 1
        (target / "a.bin").write_bytes(b"a" * 100)
        (target / "b.bin").write_bytes(b"b" * 50)
        return {"fact": 7}

    build.count = 0
    return build


def everything(folder):
    return sorted(path.name for path in folder.parent.iterdir() if path.suffix != ".lock")


def test_it_is_built_once_and_the_manifest_tells_what_is_in_it(folder, build, stages):
    first = cache.built_once(folder, build, stages)
    assert cache.built_once(folder, build, stages) == first
    assert build.count == 1
    assert first["fact"] == 7
    assert {name: entry["bytes"] for name, entry in first["files"].items()} == {"a.bin": 100, "b.bin": 50}
    assert everything(folder) == ["key"]
    assert stages == []
    assert folder.stat().st_mode & 0o777 == 0o755


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[17] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: os.truncate(folder / "a.bin", 99), "a.bin has 99 bytes, not 100"),
        (lambda folder: flip(folder / "b.bin"), "b.bin has another sha256"),
        (lambda folder: (folder / "a.bin").unlink(), "a.bin is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda folder: os.truncate(folder / "manifest.json", 20), "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json cannot be read"),
    ],
)
def test_damage_is_seen_said_and_repaired(folder, build, stages, harm, words):
    good = cache.built_once(folder, build, stages)
    harm(folder)
    assert cache.built_once(folder, build, stages) == good
    assert build.count == 2
    [(said, _, _)] = stages
    assert said == f"rebuilding things, the cached one is damaged: {words}" or words in said
    assert cache.damage(folder) is None


def test_files_beyond_the_limit_are_not_hashed(folder, build, stages, monkeypatch):
    cache.built_once(folder, build, stages)
    monkeypatch.setattr(cache, "HASH_LIMIT_BYTES", 60)
    flip(folder / "a.bin")
    assert cache.damage(folder) is None


@pytest.mark.parametrize("error", [ValueError("bad text"), KeyboardInterrupt(), OSError(errno.ENOSPC, "disk full")])
def test_a_build_that_fails_leaves_nothing_and_can_be_repeated(folder, build, stages, error):
    def failing(target):
        (target / "half.bin").write_bytes(b"h")
        raise error

    with pytest.raises(type(error)):
        cache.built_once(folder, failing, stages)
    assert everything(folder) == []
    cache.built_once(folder, build, stages)
    assert everything(folder) == ["key"]


def test_a_full_disk_while_publishing_leaves_nothing(folder, build, stages, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            cache.built_once(folder, build, stages)
    assert everything(folder) == []


def test_leftovers_of_a_killed_build_are_removed_but_not_those_of_others(folder, build, stages):
    for name in (".key.dead.partial", ".other.alive.partial"):
        (folder.parent / name).mkdir(parents=True)
        (folder.parent / name / "half.bin").write_bytes(b"h")
    cache.built_once(folder, build, stages)
    assert everything(folder) == [".other.alive.partial", "key"]


def test_a_full_disk_is_told_with_the_place(folder, stages):
    def full(target):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as raised:
        cache.built_once(folder, full, stages)
    assert raised.value.filename == str(folder)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o002, 0o775)])
def test_the_umask_decides_who_may_share_it(folder, build, stages, mask, mode):
    before = os.umask(mask)
    try:
        cache.built_once(folder, build, stages)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == mode


def test_two_machines_whose_locks_do_not_reach_each_other_both_get_it(folder, build, stages, monkeypatch):
    monkeypatch.setattr(cache, "exclusive", lambda *_: contextlib.nullcontext())
    folder.parent.mkdir(parents=True)

    def overtaken(target):
        aside = target.rename(folder.parent / "aside")  # the other machine sees no folder of ours
        cache.built_once(folder, build, stages)
        aside.rename(target)
        return build(target)

    assert cache.built_once(folder, overtaken, stages)["fact"] == 7
    assert build.count == 2
    assert everything(folder) == ["key"]
    assert cache.damage(folder) is None


def test_a_cache_that_may_not_be_written_to_is_named_and_still_read(folder, build, stages, monkeypatch):
    cache.built_once(folder, build, stages)

    class Refused:
        def __init__(self, path, **settings):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(cache, "FileLock", Refused)
    assert cache.built_once(folder, build, stages)["fact"] == 7
    with pytest.raises(ValueError, match=r"cache_dir: may not write to .* set ATOMICLM_CACHE"):
        cache.built_once(folder.parent / "new", build, stages)


def test_who_waits_for_another_run_says_so(folder, build, stages, monkeypatch):
    class Busy:
        """Taken at the first try; while we wait, the other run finishes."""

        def __init__(self, path, **settings):
            self.tries = 0

        def acquire(self, timeout=-1):
            self.tries += 1
            if timeout == 0:
                raise cache.Timeout("lock")
            folder.mkdir(parents=True)
            (folder / "manifest.json").write_text(json.dumps({"fact": "theirs", "files": {}}))

        def release(self):
            pass

    monkeypatch.setattr(cache, "FileLock", Busy)
    assert cache.built_once(folder, build, stages)["fact"] == "theirs"
    assert build.count == 0
    assert [stage for stage, _, _ in stages] == ["waiting for another run that prepares the same things"]


def test_the_key_depends_on_every_part_and_not_on_their_order():
    assert cache.content_key(a=1, b=[2]) == cache.content_key(b=[2], a=1)
    assert len({cache.content_key(a=1), cache.content_key(a=2), cache.content_key(b=1), cache.content_key(a="1")}) == 4


@pytest.mark.parametrize(
    ("own", "shared", "expected"),
    [("/o", "/s", "/o"), ("", "/s", "/s/atomiclm"), (None, "/s", "/s/atomiclm"), (None, "", "/h/.cache/atomiclm")],
)
def test_the_cache_folder_follows_the_environment(monkeypatch, own, shared, expected):
    monkeypatch.setenv("HOME", "/h")
    for name, value in (("ATOMICLM_CACHE", own), ("XDG_CACHE_HOME", shared)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    assert str(default_cache_dir()) == expected
