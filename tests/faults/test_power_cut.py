"""The power goes at any moment of a run: what a disk may then hold is always enough to go on from."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from faults.power import Disk, Operation, Watch
from faults.small_runs import Setting, go_on, outcome

from atomiclm.tracking import Record, read_metrics
from atomiclm.training import checkpoint

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks /proc what a descriptor is")


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> tuple[Path, list[Operation]]:
    """A run, and all that was done to its folder; the folders and the record were there before."""
    folder = tmp_path_factory.mktemp("watched")
    watch = Watch(folder, folder / "metrics.jsonl")
    with watch.watching():
        (folder / "checkpoints").mkdir()
        (folder / "metrics.jsonl").touch()
        watch.note("sync", folder)
        go_on(Setting(), folder, keep_best=False)
    return folder, watch.operations


def _disks(operations: list[Operation]) -> dict[str, tuple[bytes, dict[Path, bytes | None]]]:
    """All different disks, each with the record as it was when the power went."""
    disk, found = Disk("checkpoints", "metrics.jsonl"), {}
    for operation in operations:
        disk.do(operation)
        for choice in disk.choices():
            files = disk.after_a_cut(choice)
            key = repr(sorted((str(path), content) for path, content in files.items())) + repr(operation.record)
            found[hashlib.sha256(key.encode()).hexdigest()] = (operation.record, files)
    return found


def _lay_out(files: dict[Path, bytes | None], folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path, content in files.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)
    return folder


def _promised(record: bytes) -> int | None:
    """The last checkpoint that the run has called written; None before there is one."""
    rows = [json.loads(line) for line in record.splitlines(keepends=True) if line.endswith(b"\n")]
    return max((row["step"] for row in rows if row["event"] == "checkpoint"), default=None)


@pytest.mark.slow
def test_after_any_operation_the_disk_has_what_the_run_has_promised(watched, tmp_path):
    folder, operations = watched
    rows = [row for row in read_metrics(folder / "metrics.jsonl") if row["event"] != "checkpoint"]
    disks = _disks(operations)
    assert len(disks) > 100
    states: dict[int, str] = {}
    restored = 0
    state = Setting().state()
    for record, files in disks.values():
        place = _lay_out(files, tmp_path / "disk")
        said: list[str] = []
        content = checkpoint.resume(state, place / "checkpoints", said.append)
        assert not said, "a power cut looks like damage"
        promised = _promised(record)
        if promised is not None:
            assert content is not None, f"the checkpoint of step {promised} was promised, and there is none"
            assert state.step >= promised
        if content is None:
            continue
        restored += 1
        with Record(place / "metrics.jsonl") as kept:
            wanted = content.scalars["record_rows"]
            assert kept.rows >= wanted, "rows of the checkpoint are not on disk"
            kept.truncate(wanted)
        mine = [row for row in read_metrics(place / "metrics.jsonl") if row["event"] != "checkpoint"]
        assert mine == rows[:wanted]
        hashes = json.dumps(content.manifest["files"], sort_keys=True)
        assert states.setdefault(state.step, hashes) == hashes, "two different states of one step"
    assert restored > 50
    assert len(states) >= 4


@pytest.mark.slow
def test_a_run_goes_on_from_what_a_cut_in_a_save_leaves(watched, tmp_path):
    """To its end, and bit-equal; once with nothing of what was pending, once with all of it."""
    folder, operations = watched
    renamed = [at for at, operation in enumerate(operations) if operation.kind == "rename"]
    for last, everything in ((renamed[1], False), (renamed[2] - 1, True)):
        disk = Disk("checkpoints", "metrics.jsonl")
        for operation in operations[: last + 1]:
            disk.do(operation)
        choice = disk.choices()[-1 if everything else 0]
        place = _lay_out(disk.after_a_cut(choice), tmp_path / f"cut_{last}")
        go_on(Setting(), place, keep_best=False)
        assert outcome(place) == outcome(folder)
