"""Finding the run a person means."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cli
import pytest

from atomiclm.cli import UserError
from atomiclm.config.load import load_run
from atomiclm.tracking import RunFolder, find_cell, find_run


@pytest.fixture
def outputs(tmp_path):
    for run in ("gqa/heads=8-seed=1-aaaa1111", "gqa/heads=8-seed=2-bbbb2222", "runs/seed=1-cccc3333"):
        folder = RunFolder(tmp_path / "outputs" / run)
        (folder.checkpoints / "step_00001000").mkdir(parents=True)
        folder.config.write_text("seed: 1\n")
    (tmp_path / "outputs" / "runs" / "figures").mkdir()
    return tmp_path / "outputs"


def test_names(outputs):
    run = RunFolder(outputs / "gqa" / "heads=8-seed=1-aaaa1111")
    assert (run.name, run.run_id) == ("gqa", "heads=8-seed=1-aaaa1111")
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
    assert find_run(str(run.checkpoints / "step_00001000")) == (run, run.checkpoints / "step_00001000")
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
    assert find_run("cccc333", outputs)[0].run_id == "seed=1-cccc3333"
    with pytest.raises(ValueError, match="names 3 runs"):
        find_run("ccc", outputs)


def test_a_cell_is_the_folder_of_its_name_and_else_the_one_that_ends_in_its_hash(tmp_path):
    assert find_cell(tmp_path / "nowhere", "seed=1-0123456789ab") is None
    for name in ("lr=1-seed=2-0123456789ff", "seed=1-01234567ffff", "seed=1-89abcdef", "figures"):
        (tmp_path / name).mkdir()
    assert find_cell(tmp_path, "seed=1-0123456789ab") is None
    assert find_cell(tmp_path, "seed=2-0123456789ff").name == "lr=1-seed=2-0123456789ff"
    (tmp_path / "backup-seed=1-89abcdef").mkdir()
    assert find_cell(tmp_path, "seed=1-89abcdef").name == "seed=1-89abcdef", "not its copy, which comes first"
    with pytest.raises(ValueError, match=r"backup-seed=1-89abcdef and .*/seed=1-89abcdef are copies of one run"):
        find_cell(tmp_path, "lr=1-seed=1-89abcdef")


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


@pytest.fixture
def whole(tmp_path):
    """A run that is done, as far as its small files say."""
    folder = RunFolder(tmp_path / "outputs" / "runs" / "seed=1-cccc3333")
    folder.path.mkdir(parents=True)
    folder.config.write_text("seed: 1\n")
    folder.summary.write_text('{"state": "done"}')
    folder.environment.write_text('{"processes": [{"command": ["train.py", "model=tiny", "name=a b"]}]}')
    folder.metrics.write_text('{"event": "train"}\n{"event": "checkpoint"}\n')
    return folder


COMMAND = "atomiclm train model=tiny 'name=a b'"
READERS = {
    "config.yaml": RunFolder.read_config,
    "summary.json": RunFolder.read_summary,
    "environment.json": RunFolder.read_environments,
    "metrics.jsonl": RunFolder.read_rows,
}


def test_what_is_whole_is_read(whole):
    assert whole.read_config() == {"seed": 1}
    assert whole.read_summary() == {"state": "done"}
    assert whole.read_environments()[-1]["command"][1:] == ["model=tiny", "name=a b"]
    assert [row["event"] for row in whole.read_rows()] == ["train", "checkpoint"]
    assert whole.command() == COMMAND


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("damage", ["missing", "empty", "a folder", "cut off"])
def test_a_file_that_cannot_be_read_is_named_with_the_command_that_mends_it(whole, name, damage):
    file = whole.path / name
    content = file.read_bytes()
    file.unlink()
    if damage == "empty":
        file.touch()
    elif damage == "a folder":
        file.mkdir()
    elif damage == "cut off":
        file.write_bytes(b"{" if name != "metrics.jsonl" else content[:9] + b"\n" + content)
    with pytest.raises(UserError) as raised:
        READERS[name](whole)
    said = str(raised.value)
    is_a_line = name == "metrics.jsonl" and damage == "cut off"
    assert said.startswith(f"{file}: line 1 of 3 is damaged" if is_a_line else f"{file} ")
    if name == "metrics.jsonl":
        anew = f"rm -r {whole.path} && {COMMAND}"
        assert said.endswith(f"sed -i 1d {file}" if is_a_line else anew)
    elif name == "environment.json":  # which alone knows the command
        assert said.endswith("the command that trained the run writes it again")
    else:
        assert said.endswith(f"type: {COMMAND}" if damage == "missing" else f"type: rm -r {file} && {COMMAND}")


def test_a_command_that_would_write_to_the_terminal_is_not_offered(whole):
    whole.environment.write_text(json.dumps({"processes": [{"command": ["train.py", "name=\x1b]0;x\x07"]}]}))
    assert whole.command() == ""


def test_the_command_of_the_study_that_a_run_was_taken_over_from_is_not_offered(whole):
    """It would train there, and the advice to remove this folder first would lose the run."""
    whole.summary.write_text(json.dumps({**whole.read_summary(), "taken_over_from": "outputs/other/run"}))
    assert whole.command() == ""


ADVISED = {
    "config.yaml is missing": "rm config.yaml",
    "tokenizer.json is a folder": "rm tokenizer.json && mkdir tokenizer.json",
    "summary.json is cut off": "printf { > summary.json",
    "environment.json is missing": "rm environment.json",
    "metrics.jsonl has a damaged line": "sed -i '1s/^/x/' metrics.jsonl",
    "metrics.jsonl is missing": "rm metrics.jsonl",
    "the checkpoints are gone": "rm -r checkpoints/step_*",
}
"""What happens to a finished run, in a shell."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which a real run is done."""
    place = tmp_path_factory.mktemp("finished")
    done = cli.run(place, "train", *cli.TINY, "data=text", f"data.path={cli.corpus(place)}", "trainer.max_steps=4",
                   "runtime.log_every_steps=1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage", [pytest.param(name, marks=() if name.startswith("config") else pytest.mark.slow) for name in ADVISED]
)
def test_the_command_that_is_advised_mends_the_run(finished, tmp_path, damage, monkeypatch):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    run = RunFolder(cli.only_run(tmp_path).relative_to(tmp_path))
    before, rows = run.read_summary(), len(run.read_rows())
    subprocess.run(ADVISED[damage], shell=True, check=True, cwd=run.path)
    with pytest.raises(UserError) as raised:
        _read_all(run)
    said = str(raised.value)
    advised = f"atomiclm {said.split('atomiclm ')[1]}" if "atomiclm " in said else said.split("with: ")[-1]
    advised = next((said[said.index(word) :] for word in ("rm -r ", "sed -i ") if word in said), advised)
    if damage.startswith("environment"):  # which alone knows the command
        advised = f"atomiclm train {' '.join([*cli.TINY, 'data=text', f'data.path={finished}/corpus.txt'])}"
        advised += " trainer.max_steps=4 runtime.log_every_steps=1"
    done = subprocess.run(
        advised, shell=True, env={**cli.environment(tmp_path), "PATH": os.environ["PATH"]}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _read_all(run)
    figure = "validation/bits_per_byte"
    assert run.read_summary()[figure] == before[figure]
    assert len(run.read_rows()) >= rows - damage.endswith("line")


def _read_all(run):
    for reader in READERS.values():
        reader(run)
    load_run(run, None)
