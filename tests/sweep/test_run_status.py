"""What there is of a run before it is trained is found by what the run is, whatever its folder is called."""

import pytest

from atomiclm.config.errors import UserError
from atomiclm.config.run import read_cell
from atomiclm.sweep.run_status import ended, take_over
from atomiclm.tracking import RunFolder, write_summary

CELL = ("model=tiny", "tokenizer=bytes", "data=markov", "optim.lr=0.5")


@pytest.fixture(autouse=True)
def working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATOMICLM_CACHE", str(tmp_path / "cache"))


def _trained(run, path, corpus="0" * 64):
    """What training leaves in a folder, without its weights."""
    folder = RunFolder(path)
    (folder.checkpoints / "step_00000001").mkdir(parents=True)
    (folder.checkpoints / "step_00000001" / "manifest.json").write_text("{}")
    folder.tokenizer.write_text("{}")
    folder.environment.write_text("{}")
    folder.config.write_text(run.to_yaml())
    write_summary(folder.summary, {"state": "done", "variant": run.variant, "corpus_sha256": corpus})
    return folder


@pytest.fixture
def text(monkeypatch):
    """All configurations are of one text."""
    monkeypatch.setattr("atomiclm.sweep.run_status.corpus_sha256", lambda *_: "0" * 64)


def test_a_run_is_found_by_its_hash_under_the_name_it_had():
    run = read_cell(CELL)
    earlier = run.folder.with_name(f"lr=0.5-data=markov-seed=1-{run.run_id.rpartition('-')[2]}")
    assert (run.folder.name, len(run.run_id.rpartition("-")[2])) == (run.run_id, 12)
    _trained(run, earlier)
    assert run.folder == earlier
    assert ended(RunFolder(run.folder))
    assert read_cell([*CELL, "seed=2"]).folder != earlier


def test_of_a_run_and_its_backup_the_run_is_meant():
    run = read_cell(CELL)
    _trained(run, run.folder.with_name(f"a_backup-{run.run_id}"))
    _trained(run, run.folder.parent / run.run_id)
    assert run.folder.name == run.run_id
    run.folder.rename(run.folder.with_name(f"renamed-{run.run_id}"))
    with pytest.raises(UserError, match=r"a_backup-.* and .*renamed-.* are copies of one run"):
        _ = run.folder


def test_a_run_is_taken_over_from_a_study_that_has_the_same_configuration(text):
    run = read_cell([*CELL, "name=second"])
    other = read_cell([*CELL, "name=first", "runtime.keep_checkpoints=7"])
    name = f"baseline-seed=1-{run.run_id.rpartition('-')[2]}"
    _trained(other, other.folder.with_name(name))
    taken = take_over(run)
    assert str(taken) == f"outputs/first/{name}"
    assert ended(RunFolder(run.folder))["taken_over_from"] == f"outputs/first/{name}"
    assert RunFolder(run.folder).config.read_text() == run.to_yaml()


@pytest.mark.parametrize("spoil", [
    lambda folder: folder.config.write_text(read_cell([*CELL, "optim.lr=0.25"]).to_yaml()),
    lambda folder: folder.config.write_text("optim: 2026-11-28\n"),
    lambda folder: folder.config.unlink(),
    lambda folder: folder.path.rename(folder.path.with_name(f"{folder.run_id[:-12]}0123456789ab")),
])  # fmt: skip
def test_a_run_that_only_has_the_hash_or_only_the_configuration_is_not_taken_over(text, spoil):
    run, other = read_cell([*CELL, "name=second"]), read_cell([*CELL, "name=first"])
    spoil(_trained(other, other.folder))
    assert take_over(run) is None
    assert not run.folder.exists()
