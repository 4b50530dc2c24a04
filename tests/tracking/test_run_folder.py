"""Finding the run a person means."""

from pathlib import Path

import pytest

from atomiclm.tracking import RunFolder, find_cell, find_run


@pytest.fixture
def outputs(tmp_path):
    for run in ("gqa/heads=8-seed=1-aaaa1111", "gqa/heads=8-seed=2-bbbb2222", "runs/seed=1-cccc3333"):
        folder = RunFolder(tmp_path / "outputs" / run)
        folder.checkpoint(1000).mkdir(parents=True)
        folder.config.write_text("seed: 1\n")
    (tmp_path / "outputs" / "runs" / "figures").mkdir()
    return tmp_path / "outputs"


def test_names(outputs):
    run = RunFolder(outputs / "gqa" / "heads=8-seed=1-aaaa1111")
    assert (run.name, run.run_id) == ("gqa", "heads=8-seed=1-aaaa1111")
    assert run.checkpoint(1000) == run.path / "checkpoints" / "step_00001000"
    assert (run.config.name, run.environment.name, run.metrics.name, run.summary.name, run.tokenizer.name) == (
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "summary.json",
        "tokenizer.json",
    )


def test_a_folder_a_checkpoint_and_an_id(outputs, monkeypatch):
    path = outputs / "gqa" / "heads=8-seed=1-aaaa1111"
    run = RunFolder(path)
    assert find_run(str(path)) == (run, None)
    assert find_run(str(run.checkpoint(1000))) == (run, run.checkpoint(1000))
    assert find_run("heads=8-seed=1-aaaa1111", outputs) == (run, None)
    assert find_run("aaaa", outputs) == (run, None)
    monkeypatch.chdir(path)
    found, checkpoint = find_run(".")
    assert (found.path.resolve(), checkpoint) == (path, None)
    found, checkpoint = find_run("checkpoints/step_00001000")
    assert (found.path.resolve(), checkpoint) == (path, Path("checkpoints/step_00001000"))
    monkeypatch.chdir(path / "checkpoints")
    assert find_run("step_00001000")[0].path.resolve() == path


def test_an_exact_id_wins_over_a_part_of_another(outputs):
    longer = RunFolder(outputs / "runs" / "seed=1-cccc3333-b")
    longer.path.mkdir()
    longer.summary.write_text("{}")
    assert find_run("seed=1-cccc3333", outputs)[0].run_id == "seed=1-cccc3333"


def test_the_hash_of_a_run_wins_over_branches_that_have_it_in_their_names(outputs):
    branches = ["branch_from=seed=1-cccc3333-seed=1-dddd4444", "lr=1-branch_from=seed=1-cccc3333-seed=1-eeee55556666"]
    for branch in branches:
        (outputs / "runs" / branch).mkdir()
        (outputs / "runs" / branch / "summary.json").write_text("{}")
    assert find_run("cccc3333", outputs)[0].run_id == "seed=1-cccc3333"
    assert find_run("seed=1-cccc3333", outputs)[0].run_id == "seed=1-cccc3333"
    assert find_run("eeee55556666", outputs)[0].run_id == branches[1]
    with pytest.raises(ValueError, match="names 3 runs"):
        find_run("cccc333", outputs)


def test_a_cell_is_the_folder_of_its_name_and_else_the_one_that_ends_in_its_hash(tmp_path):
    assert find_cell(tmp_path / "nowhere", "seed=1-0123456789ab") is None
    for name in ("lr=1-seed=2-0123456789ff", "seed=1-01234567ffff", "seed=1-89abcdef", "figures"):
        (tmp_path / name).mkdir()
    assert find_cell(tmp_path, "seed=1-0123456789ab") is None
    assert find_cell(tmp_path, "seed=2-0123456789ff").name == "lr=1-seed=2-0123456789ff"
    assert find_cell(tmp_path, "seed=1-89abcdef0123").name == "seed=1-89abcdef", "as earlier versions named it"
    (tmp_path / "backup-seed=1-89abcdef").mkdir()
    assert find_cell(tmp_path, "seed=1-89abcdef").name == "seed=1-89abcdef", "not its copy, which comes first"
    with pytest.raises(ValueError, match=r"backup-seed=1-89abcdef and .*/seed=1-89abcdef are copies of one run"):
        find_cell(tmp_path, "seed=1-89abcdef0123")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("heads=8", "names 2 runs.*aaaa1111.*bbbb2222"),
        ("seed=1-ccc33", "near: seed=1-cccc3333"),
        ("{outputs}/gqa/heads=8-seed=1-aaaa1112", "no folder.*near: .*aaaa1111"),
        ("{outputs}/gqa", "folder of 2 runs"),
        ("{outputs}/runs/figures", "not a run folder"),
        ("{outputs}/gqa/heads=8-seed=1-aaaa1111/config.yaml", "is a file"),
        ("", "empty; give a run folder"),
    ],
)
def test_what_cannot_be_found_names_what_is_near(outputs, text, message):
    with pytest.raises(ValueError, match=message):
        find_run(text.format(outputs=outputs), outputs)


def test_a_missing_outputs_folder(tmp_path):
    with pytest.raises(ValueError, match="among the 0 runs"):
        find_run("abc", tmp_path / "outputs")
