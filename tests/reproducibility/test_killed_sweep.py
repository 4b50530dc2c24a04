"""A sweep killed again and again, and rerun by the same command, ends as one that nothing disturbed, bit for bit."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli import TINY, command, corpus, environment, heed_signals, run
from filelock import SoftFileLease

NUM_SEEDS = int(os.environ.get("SWEEP_SEEDS", "2"))
"""8 makes the 24 cells that docs/scale.md reports of, for the tests of launchers."""

STUDY = f"""\
# @package _global_
name: killed
study:
  question: Is a killed sweep the same sweep?
  baseline: narrow
  arms:
    narrow: [model.feedforward.hidden_dim=32]
    wide: [model.feedforward.hidden_dim=64]
    alibi: [model/position=alibi]
  seeds: {list(range(1, NUM_SEEDS + 1))}
  margin: 0.1
"""
CLOCK = ("seconds", "train/tokens_per_second", "train/flops_utilization", "tokens_per_second", "time")
NUM_ARMS, STEPS = 3, 20
NUM_KILLS = 4


def _arguments(folder: Path, *more: str) -> list[str]:
    (folder / "experiments").mkdir(exist_ok=True)
    (folder / "experiments" / "killed.yaml").write_text(STUDY)
    return ["-m", "experiments=killed", *_settings(folder), *more]


def _settings(folder: Path) -> list[str]:
    text = f"data.path={corpus(folder).name}"
    steps = (f"trainer.max_steps={STEPS}", "trainer.batch_size=2", "runtime.log_every_steps=1")
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
    cells = (path.parent for path in folder.glob("outputs/killed/*/summary.json"))
    return {cell.name: next(cell.glob(f"checkpoints/step_{STEPS:08d}/model*")).read_bytes() for cell in cells}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(folder, "train", *_arguments(folder), timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


def _start(folder: Path, arguments: list[str], chooses_threads: bool = False) -> subprocess.Popen:
    """Start the sweep; it chooses its threads where the environment says nothing of them, here for two cores."""
    variables = environment(folder)

    def prepare() -> None:
        heed_signals()
        if chooses_threads:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])

    if chooses_threads:
        del variables["OMP_NUM_THREADS"]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            command("train", *arguments), cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=prepare,
        )  # fmt: skip


def _comes_to(process: subprocess.Popen, folder: Path, rows: int, delay: float = 0.0) -> bool:
    """Wait until so many rows are written; False if the sweep ended before."""
    started = time.monotonic()
    while process.poll() is None and (_rows(folder) < rows or time.monotonic() - started < delay):
        time.sleep(0.002)
    return process.poll() is None


def _comes_amid(process: subprocess.Popen, folder: Path, rows: int, undisturbed: Path) -> bool:
    """Wait until so many rows are written and a cell that has not half of its own is being trained."""
    half = _rows(undisturbed) // (2 * NUM_ARMS * NUM_SEEDS)
    if not _comes_to(process, folder, rows):
        return False
    while process.poll() is None:
        written = (path.read_bytes().count(b"\n") for path in folder.glob("outputs/killed/*/metrics.jsonl"))
        if any(2 <= count <= half for count in written):
            break
        time.sleep(0.002)
    return process.poll() is None


def _run_and_kill(folder: Path, arguments: list[str], rows: int, delay: float) -> bool:
    """Start the sweep and kill it, processes and all, once so many rows are written; False if it ended before."""
    process = _start(folder, arguments)
    if not _comes_to(process, folder, rows, delay):
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def _check_equal(folder: Path, undisturbed: Path) -> None:
    assert _results(folder) == _results(undisturbed)
    assert _weights(folder) == _weights(undisturbed)
    table = [run(each, "compare", "outputs/killed", "--format", "csv").stdout for each in (undisturbed, folder)]
    rows = [[_untimed(line) for line in text.splitlines()] for text in table]
    assert rows[0] == rows[1]
    assert len(rows[0]) == NUM_ARMS + 1
    for cell in (folder / "outputs" / "killed").glob("*/environment.json"):
        assert json.loads(cell.read_text())["processes"], cell


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parallel", "kills"), [("auto", NUM_KILLS), ("2", 2)], ids=["one after another", "side by side"]
)
def test_a_killed_sweep_ends_as_one_that_was_not(undisturbed, tmp_path, parallel, kills):
    arguments = _arguments(tmp_path, f"runtime.parallel={parallel}")
    total = _rows(undisturbed)
    chance = random.Random(4)
    moments = sorted(chance.randrange(total) for _ in range(kills))
    # The first moment is while nothing is trained yet: composing, importing, preparing the text.
    killed = [_run_and_kill(tmp_path, arguments, rows, chance.random()) for rows in [0, *moments[1:]]]
    assert all(killed), (tmp_path / "log").read_text()[-3000:]

    done = run(tmp_path, "train", *arguments, timeout=600)
    assert done.returncode == 0, done.stderr
    _check_equal(tmp_path, undisturbed)


# ---------------------------------------------------------------------------------------------------------------------
# Cells side by side: the sweep's process, or one that trains cells, is killed alone.


def _workers(process: subprocess.Popen) -> list[int]:
    """The processes that train cells of a sweep."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"atomiclm.train import work" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _wait_for_the_end_of(pids: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a worker goes on without its parent"
        time.sleep(0.05)


@pytest.mark.slow
def test_workers_end_with_the_process_that_began_them_and_a_killed_worker_fails_its_cell_alone(undisturbed, tmp_path):
    arguments = _arguments(tmp_path, "runtime.parallel=2")
    total, chance = _rows(undisturbed), random.Random(5)
    saved = []
    for share in (0.05, 0.4):  # within the first and second pair of the six cells
        process = _start(tmp_path, arguments)
        assert _comes_amid(process, tmp_path, int(share * total), undisturbed), (tmp_path / "log").read_text()[-3000:]
        workers = _workers(process)
        assert len(workers) == 2
        process.kill()
        process.wait()
        _wait_for_the_end_of(workers)
        saved += [json.loads(path.read_text())["state"] for path in tmp_path.glob("outputs/killed/*/summary.json")]
    assert "interrupted" in saved, "the cells in training were saved"
    assert "running" not in saved
    process = _start(tmp_path, arguments)
    assert _comes_amid(process, tmp_path, int(0.73 * total), undisturbed), (tmp_path / "log").read_text()[-3000:]
    os.kill(chance.choice(_workers(process)), signal.SIGKILL)
    assert process.wait(600) == 1
    log = (tmp_path / "log").read_text()
    assert "1 of 6 cells failed" in log
    assert "its process was killed" in log
    done = run(tmp_path, "train", *arguments, timeout=600)
    assert done.returncode == 0, done.stderr
    _check_equal(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_one_signal_stops_all_workers_at_a_saved_state(undisturbed, tmp_path, number, status):
    """Ctrl-C reaches all processes of a terminal, a scheduler's signal perhaps only the first: it comes to the same.

    Every cell has as many threads, also the one that is trained last, beside no other.
    """
    arguments = _arguments(tmp_path, "runtime.parallel=2")
    process = _start(tmp_path, arguments, chooses_threads=True)
    assert _comes_amid(process, tmp_path, int(0.45 * _rows(undisturbed)), undisturbed), (tmp_path / "log").read_text()
    workers = _workers(process)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    assert process.wait(60) == status
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    log = (tmp_path / "log").read_text()
    assert f"stopped by {number.name}; the same command resumes" in log
    assert "Traceback" not in log
    assert "failed" not in log
    stopped = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/killed/*/summary.json")]
    assert {one["state"] for one in stopped} == {"done", "interrupted"}
    assert all(number.name in one["error"]["message"] for one in stopped if one["state"] == "interrupted")
    assert _start(tmp_path, arguments, chooses_threads=True).wait(600) == 0
    shutil.rmtree(next(tmp_path.glob("outputs/killed/alibi-*")))
    assert _start(tmp_path, arguments, chooses_threads=True).wait(600) == 0
    assert (tmp_path / "log").read_text().count("side by side, 1 thread each") == 2, "of one there is nothing to say"
    _check_equal(tmp_path, undisturbed)
    for cell in (tmp_path / "outputs" / "killed").glob("*/environment.json"):
        processes = json.loads(cell.read_text())["processes"]
        assert {one["torch_threads"] for one in processes} == {1}
        resumed = [one["resumed"] for one in processes]
        assert all(one["exact"] for one in resumed if one is not None), "None: nothing was saved yet"


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
    for share in (0.1, 0.6):
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
    assert "6 of 6  " not in again.stdout
    assert "6 of 6 cells done" in again.stdout
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


# ---------------------------------------------------------------------------------------------------------------------
# Cells as jobs of submitit's, of Slurm where there is one, or as tasks of Ray's.

NEEDS_SLURM = pytest.mark.skipif(not shutil.which("sbatch"), reason="there is no Slurm here")
LAUNCHERS = ["ray", "submitit_local", pytest.param("submitit_slurm", marks=NEEDS_SLURM)]
PREEMPTED_BY = {"ray": signal.SIGTERM, "submitit_local": signal.SIGUSR2, "submitit_slurm": signal.SIGUSR2}


def _trainers(folder: Path) -> dict[str, int]:
    """The process that trains each cell that is being trained, as its lease says."""
    owners = {path.parent.name: SoftFileLease(path).owner for path in folder.glob("outputs/killed/*/.holder")}
    return {cell: owner.pid for cell, owner in owners.items() if owner is not None and _is_of(folder, owner.pid)}


def _is_of(folder: Path, pid: int) -> bool:
    """Whether there is such a process of the sweep: the lease of one that was killed stays, and its number is given
    again."""
    try:
        return f"ATOMICLM_CACHE={folder / 'cache'}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def _kill_some(process: subprocess.Popen, folder: Path, chance: random.Random, signals: list[int]) -> list[str]:
    """Send each of `signals` to the process that trains a cell, while the sweep runs; returns which cells were hit."""
    hit: list[str] = []
    while process.poll() is None:
        time.sleep(0.02)
        if _trainers(folder) and signals:
            time.sleep(chance.uniform(0, 0.6))
        if signals and (trainers := _trainers(folder)):
            cell = chance.choice(sorted(trainers))
            with contextlib.suppress(ProcessLookupError):
                os.kill(trainers[cell], signals.pop())
                hit.append(cell)
    return hit


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_on_a_cluster_whose_workers_are_killed_is_the_plain_one_and_trains_no_cell_twice(
    undisturbed, tmp_path, launcher
):
    """A cell that was preempted goes on within the command; so does one of Ray's that was killed.

    One of submitit's that was killed has failed, and the same command continues it.
    """
    arguments = _arguments(tmp_path, f"hydra/launcher={launcher}")
    chance, signals, hit, starts = random.Random(6), [PREEMPTED_BY[launcher], signal.SIGKILL] * NUM_SEEDS, [], []
    while 0 not in starts:
        process = _start(tmp_path, arguments)
        hit += _kill_some(process, tmp_path, chance, signals)
        starts.append(process.returncode)
        log = (tmp_path / "log").read_text()
        assert starts[-1] in (0, 1), log[-3000:]
        assert "Traceback" not in log
        assert len(starts) <= 1 + 2 * NUM_SEEDS
    assert len(hit) >= NUM_SEEDS
    assert launcher != "ray" or len(starts) == 1, "Ray itself retries"
    _check_equal(tmp_path, undisturbed)
    for cell in (tmp_path / "outputs" / "killed").glob("*/environment.json"):
        processes = json.loads(cell.read_text())["processes"]
        # A process is noted once it trains. Each but the first goes on from where the one that was hit had saved.
        assert 1 <= len(processes) <= 1 + hit.count(cell.parent.name), cell
        assert all(one["resumed"]["exact"] for one in processes if one["resumed"] is not None), cell


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["ray", "submitit_local"])
def test_a_sweep_on_a_cluster_that_is_stopped_leaves_saved_cells_and_no_process(undisturbed, tmp_path, launcher):
    arguments = _arguments(tmp_path, f"hydra/launcher={launcher}")
    process = _start(tmp_path, arguments)
    assert _comes_to(process, tmp_path, int(0.3 * _rows(undisturbed))), (tmp_path / "log").read_text()[-3000:]
    process.terminate()
    assert process.wait(60) == 75
    assert "stopped by SIGTERM; the same command resumes" in (tmp_path / "log").read_text()
    _wait_for_the_end_of([*_trainers(tmp_path).values()])
    again = run(tmp_path, "train", *arguments, timeout=600)
    assert again.returncode == 0, again.stderr
    _check_equal(tmp_path, undisturbed)
