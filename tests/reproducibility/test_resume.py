"""Killed anywhere and started again by the same command, a run ends as if it had never been killed."""

import hashlib
import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli import TINY, command, corpus, environment, only_run, run

STEPS = 60
CLOCK = ("seconds", "train/tokens_per_second", "train/flops_utilization", "save_seconds")


def _arguments(folder: Path, *more: str) -> list[str]:
    corpus(folder)
    return _overrides(*more)


def _overrides(*more: str) -> list[str]:
    return [
        "data=text", "data.path=corpus.txt", *TINY, f"trainer.max_steps={STEPS}", "model.dropout=0.1",
        "runtime.checkpoint_every_seconds=0", "runtime.log_every_steps=7", *more,
    ]  # fmt: skip


def _weights(run_folder: Path) -> dict[str, str]:
    newest = sorted((run_folder / "checkpoints").iterdir())[-1]
    assert newest.name == f"step_{STEPS:08d}"
    return {
        name: hashlib.sha256((newest / name).read_bytes()).hexdigest()
        for name in ("model.safetensors", "optimizer.safetensors")
    }


def _metrics(run_folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    # Checkpoints come by the clock and times are times; everything else must be the same to the last bit.
    return [{k: v for k, v in row.items() if k not in CLOCK} for row in rows if row["event"] != "checkpoint"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(folder, "train", *_arguments(folder))
    assert done.returncode == 0, done.stderr
    return only_run(folder)


def _started(folder: Path, arguments: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        command("train", *arguments),
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for_rows(folder: Path, count: int, process: subprocess.Popen) -> None:
    """Until the record of the run has `count` lines, or the process has ended."""
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        files = list(folder.glob("outputs/*/*/metrics.jsonl"))
        if files and files[0].read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)


@pytest.mark.parametrize("trial", range(2))
def test_sigkill_at_random_moments(undisturbed, tmp_path, trial):
    generator = random.Random(trial)
    arguments = _arguments(tmp_path)
    kills = 0
    for rows in sorted(generator.sample(range(1, STEPS), 3 - trial)):
        process = _started(tmp_path, arguments)
        _wait_for_rows(tmp_path, rows, process)
        time.sleep(generator.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 1
    done = run(tmp_path, "train", *arguments)
    assert done.returncode == 0, done.stderr
    assert _weights(only_run(tmp_path)) == _weights(undisturbed)
    assert _metrics(only_run(tmp_path)) == _metrics(undisturbed)
    assert json.loads((only_run(tmp_path) / "summary.json").read_text())["state"] == "done"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_saves_and_says_how_to_go_on(undisturbed, tmp_path, number):
    arguments = _arguments(tmp_path, "runtime.checkpoint_every_seconds=null")
    process = _started(tmp_path, arguments)
    _wait_for_rows(tmp_path, 2, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    summary = json.loads((only_run(tmp_path) / "summary.json").read_text())
    if summary["state"] != "done":  # the signal may come too late to matter
        assert process.returncode == 128 + number, output
        assert summary["state"] == "interrupted"
        assert "same command resumes" in output
        assert "Traceback" not in output
        assert list((only_run(tmp_path) / "checkpoints").glob("step_*"))
    done = run(tmp_path, "train", *arguments)
    assert done.returncode == 0, done.stderr
    assert _weights(only_run(tmp_path)) == _weights(undisturbed)
    assert _metrics(only_run(tmp_path)) == _metrics(undisturbed)


def test_a_finished_run_is_skipped(undisturbed):
    folder = undisturbed.parents[2]
    before = (undisturbed / "metrics.jsonl").read_bytes()
    done = run(folder, "train", *_arguments(folder))
    assert done.returncode == 0, done.stderr
    assert "done already" in done.stdout
    assert (undisturbed / "metrics.jsonl").read_bytes() == before


def test_evaluating_and_sampling_more_often_changes_no_weight(undisturbed, tmp_path):
    more = ("evaluation.times=7", "evaluation.samples=3", "evaluation.sample_times=5", "runtime.log_every_steps=1")
    done = run(tmp_path, "train", *_arguments(tmp_path), *more)
    assert done.returncode == 0, done.stderr
    assert only_run(tmp_path).name == undisturbed.name
    assert _weights(only_run(tmp_path)) == _weights(undisturbed)


def test_a_second_process_on_the_same_run_leaves_it_alone(tmp_path):
    arguments = _arguments(tmp_path, "trainer.max_steps=100000", "runtime.checkpoint_every_seconds=null")
    first = _started(tmp_path, arguments)
    _wait_for_rows(tmp_path, 1, first)
    second = run(tmp_path, "train", *arguments)
    assert first.poll() is None
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert "another process" in second.stderr
    assert "Traceback" not in second.stderr


def test_another_text_under_the_same_name_is_refused(undisturbed):
    folder = undisturbed.parents[2]
    text = folder / "corpus.txt"
    original = text.read_bytes()
    before = {path: path.read_bytes() for path in undisturbed.iterdir() if path.is_file() and path.name != ".lock"}
    text.write_bytes(original.replace(b"cat", b"cow"))
    try:
        done = run(folder, "train", *_overrides())
    finally:
        text.write_bytes(original)
    assert done.returncode == 2, done.stdout
    assert "another text" in done.stderr
    assert before == {path: path.read_bytes() for path in before}


def test_evaluating_a_run_gives_its_own_figure(undisturbed):
    folder = undisturbed.parents[2]
    done = run(folder, "evaluate", str(undisturbed))
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert f"{summary['validation/bits_per_byte']:.4f} bits per byte" in done.stdout, done.stderr
    assert f"{summary['validation/loss']:.4f} nats per token" in done.stdout


def test_generation_is_the_same_every_time(undisturbed):
    folder = undisturbed.parents[2]
    arguments = (str(undisturbed), "--prompt", "the cat", "--max-tokens", "20", "--seed", "1")
    texts = {run(folder, "generate", *arguments).stdout for _ in range(2)}
    assert len(texts) == 1
    (text,) = texts
    assert text.startswith("the cat")
    assert len(text) > len("the cat") + 5
    assert run(folder, "generate", *arguments[:-1], "2").stdout != text
    assert run(folder, "generate", undisturbed.name[-8:], *arguments[1:]).stdout == text  # by a part of its id
    wrong = run(folder, "generate", "outputs/runs/nothing")
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
