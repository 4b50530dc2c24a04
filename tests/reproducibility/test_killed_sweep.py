"""A sweep killed again and again, and rerun by the same command, ends as one that nothing disturbed, bit for bit."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli import TINY, command, corpus, environment, run

STUDY = """\
# @package _global_
name: killed
study:
  question: Is a killed sweep the same sweep?
  baseline: narrow
  arms:
    narrow: [model.feedforward.hidden_dim=32]
    wide: [model.feedforward.hidden_dim=64]
    alibi: [model/position=alibi]
    relu: [model/feedforward=relu]
  seeds: [1, 2]
  margin: 0.1
"""
CLOCK = ("seconds", "train/tokens_per_second", "train/flops_utilization", "tokens_per_second", "time")
NUM_KILLS = 7


def _arguments(folder: Path, *more: str) -> list[str]:
    (folder / "experiments").mkdir(exist_ok=True)
    (folder / "experiments" / "killed.yaml").write_text(STUDY)
    return ["-m", "experiments=killed", *_settings(folder), *more]


def _settings(folder: Path) -> list[str]:
    text = f"data.path={corpus(folder).name}"
    steps = ("trainer.max_steps=30", "trainer.batch_size=2", "runtime.log_every_steps=1")
    saved = ("runtime.checkpoint_every_seconds=0.2", "evaluation.times=1")
    return ["data=text", text, *TINY, *steps, *saved]


def _rows(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("outputs/killed*/*/metrics.jsonl"))


def _results(folder: Path) -> dict[str, list[dict]]:
    """All rows of all cells, without what the clock decides, and without checkpoints, which come by the clock."""
    results = {}
    for path in folder.glob("outputs/killed*/*/metrics.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [row for row in rows if row["event"] != "checkpoint"]
        results[path.parent.name] = [{key: row[key] for key in row if key not in CLOCK} for row in kept]
    return results


def _weights(folder: Path) -> dict[str, bytes]:
    cells = (path for path in (folder / "outputs" / "killed").iterdir() if path.is_dir())
    return {cell.name: next(cell.glob("checkpoints/step_00000030/model*")).read_bytes() for cell in cells}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(folder, "train", *_arguments(folder), timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


def _run_and_kill(folder: Path, arguments: list[str], rows: int, delay: float) -> bool:
    """Start the sweep and kill it, processes and all, once so many rows are written; False if it ended before."""
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            command("train", *arguments), cwd=folder, env=environment(folder), stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        started = time.monotonic()
        while process.poll() is None and (_rows(folder) < rows or time.monotonic() - started < delay):
            time.sleep(0.002)
        if process.poll() is not None:
            return False
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "kills"),
    [((), NUM_KILLS), (("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), 3)],
    ids=["one after another", "two at once"],
)
def test_a_killed_sweep_ends_as_one_that_was_not(undisturbed, tmp_path, launcher, kills):
    arguments = _arguments(tmp_path, *launcher)
    total = _rows(undisturbed)
    chance = random.Random(4)
    moments = sorted(chance.randrange(total) for _ in range(kills))
    # The first moment is while nothing is trained yet: composing, importing, preparing the text.
    killed = [_run_and_kill(tmp_path, arguments, rows, chance.random()) for rows in [0, *moments[1:]]]
    assert all(killed), (tmp_path / "log").read_text()[-3000:]

    done = run(tmp_path, "train", *arguments, timeout=600)
    assert done.returncode == 0, done.stderr
    assert _results(tmp_path) == _results(undisturbed)
    assert _weights(tmp_path) == _weights(undisturbed)
    table = [run(folder, "compare", "outputs/killed", "--format", "csv").stdout for folder in (undisturbed, tmp_path)]
    rows = [[_untimed(line) for line in text.splitlines()] for text in table]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 5
    for cell in (tmp_path / "outputs" / "killed").glob("*/environment.json"):
        assert json.loads(cell.read_text())["processes"], cell


SEARCHES = {
    "a rate tuned for each arm": (
        "model.feedforward.hidden_dim=32,64", "seed=1,2", "study/tuning=grid", "study.tuning.key=optim.lr",
        "study.tuning.values=[1e-3,4e-3,1.6e-2]", "study.tuning.max_extensions=0",
    ),
    "optuna": (
        "hydra/sweeper=optuna", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=1", "hydra.sweeper.sampler.seed=1",
        "optim.lr=tag(log,interval(1e-3,1e-1))", "held_out=dev",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("search", SEARCHES)
def test_a_killed_search_ends_as_one_that_was_not(tmp_path, search):
    """Trials that have ended are not trained again, so a search whose sampler is seeded makes the same choices."""
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for folder in (undisturbed, disturbed):
        folder.mkdir()
    done = run(undisturbed, "train", "-m", *_settings(undisturbed), *SEARCHES[search], "name=killed", timeout=600)
    assert done.returncode == 0, done.stderr
    total = _rows(undisturbed)
    arguments = ["-m", *_settings(disturbed), *SEARCHES[search], "name=killed"]
    for share in (0.1, 0.4, 0.8):
        assert _run_and_kill(disturbed, arguments, int(share * total), 0.0), (disturbed / "log").read_text()[-3000:]
    again = run(disturbed, "train", *arguments, timeout=600)
    assert again.returncode == 0, again.stderr
    assert _results(disturbed) == _results(undisturbed)
    tables = [run(folder, "compare", "outputs/killed", "--format", "csv").stdout for folder in (undisturbed, disturbed)]
    assert [_untimed(line) for line in tables[0].splitlines()] == [_untimed(line) for line in tables[1].splitlines()]
    assert len(tables[0].splitlines()) > 2


def _untimed(line: str) -> list[str]:
    """The fields of a line of the table that are not of the clock: tokens per second and seconds end it."""
    return line.split(",")[:6]


@pytest.mark.slow
def test_finished_cells_are_not_begun_again(undisturbed):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.glob("outputs/killed/*/*.json*")}
    again = run(undisturbed, "train", *_arguments(undisturbed))
    assert again.returncode == 0, again.stderr
    assert "8 of 8  " not in again.stdout
    assert "8 of 8 cells done" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.slow
def test_a_cell_whose_folder_is_locked_is_waited_for(undisturbed, tmp_path):
    """The same command in a second terminal shares the work: no cell is trained twice, and none fails for the other."""
    arguments = _arguments(tmp_path)
    first, second = (
        subprocess.Popen(
            command("train", *arguments), cwd=tmp_path, env=environment(tmp_path), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    )  # fmt: skip
    outputs = [process.communicate(timeout=600) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert _results(tmp_path) == _results(undisturbed)
    for record in tmp_path.glob("outputs/killed/*/environment.json"):
        assert len(json.loads(record.read_text())["processes"]) == 1, record
