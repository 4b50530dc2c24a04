"""The same command again: what is done stays done, what was changed is refused. Killed and resumed: tests/faults."""

import hashlib
import json
from pathlib import Path

import pytest
from cli import TINY, corpus, only_run, run

STEPS = 60


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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(folder, "train", *_arguments(folder))
    assert done.returncode == 0, done.stderr
    return only_run(folder)


@pytest.mark.slow
def test_a_finished_run_is_skipped(undisturbed):
    folder = undisturbed.parents[2]
    before = (undisturbed / "metrics.jsonl").read_bytes()
    done = run(folder, "train", *_arguments(folder))
    assert done.returncode == 0, done.stderr
    assert "done already" in done.stdout
    assert (undisturbed / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
def test_evaluating_and_sampling_more_often_changes_no_weight(undisturbed, tmp_path):
    more = ("evaluation.times=7", "evaluation.samples=3", "evaluation.sample_times=5", "runtime.log_every_steps=1")
    done = run(tmp_path, "train", *_arguments(tmp_path), *more)
    assert done.returncode == 0, done.stderr
    assert only_run(tmp_path).name == undisturbed.name
    assert _weights(only_run(tmp_path)) == _weights(undisturbed)


@pytest.mark.slow
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


@pytest.mark.slow
def test_evaluating_a_run_gives_its_own_figure(undisturbed):
    folder = undisturbed.parents[2]
    done = run(folder, "evaluate", str(undisturbed))
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert f"{summary['validation/bits_per_byte']:.4f} bits per byte" in done.stdout, done.stderr
    assert f"{summary['validation/loss']:.4f} nats per token" in done.stdout


@pytest.mark.slow
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
