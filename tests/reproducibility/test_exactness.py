"""Through the command: a resume says `exact`, or `inexact:` and why; and bad steps end as their policy says."""

import json
import subprocess
from pathlib import Path

import pytest
from cli import TINY, command, corpus, environment, only_run, run

from atomiclm.config.compose import compose, resolved
from atomiclm.config.match import cost_of

PLANTED = '''
import torch

from atomiclm.model import NextToken


class Planted(NextToken):
    """One element of one gradient is not a number in the batches that hold the word."""

    def __call__(self, model, tokens, targets, mask=None, documents=None):
        weight = model.blocks[0].feedforward.down.weight
        poison = torch.zeros_like(weight)
        poison[0, 0] = torch.nan if bool((tokens == ord("#")).any()) else 0.0
        if hasattr(self, "planted"):
            self.planted.remove()
        self.planted = weight.register_hook(lambda gradient: gradient + poison)
        return super().__call__(model, tokens, targets, mask, documents)
'''


STOPPING = '''
import os
import signal
from pathlib import Path

from atomiclm.model import NextToken


class Stopping(NextToken):
    """Asks the process to end, once, in the middle of the last of its steps."""

    calls = 0

    def __call__(self, model, tokens, targets, mask=None, documents=None):
        self.calls += 1
        if self.calls == 6 and not Path("asked").exists():
            Path("asked").touch()
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__call__(model, tokens, targets, mask, documents)
'''


def _arguments(folder: Path, *more: str) -> list[str]:
    corpus(folder)
    few = ("trainer.max_steps=40", "evaluation.times=1", "runtime.checkpoint_every_seconds=0")
    return ["data=text", "data.path=corpus.txt", *TINY, *few, *more]


def _interrupted(folder: Path, *arguments: str) -> int:
    """Leave a run with checkpoints and without an end, as a kill does; return the step it will go on from."""
    done = run(folder, "train", *arguments)
    assert done.returncode == 0, done.stderr
    summary = only_run(folder) / "summary.json"
    summary.write_text(json.dumps({**json.loads(summary.read_text()), "state": "interrupted"}))
    *_, before, newest = sorted((only_run(folder) / "checkpoints").iterdir())
    for path in newest.iterdir():
        path.unlink()
    newest.rmdir()
    return int(before.name.rpartition("_")[2])


@pytest.mark.slow
def test_a_resume_says_whether_it_is_exact_and_why_not(tmp_path):
    arguments = _arguments(tmp_path)
    step = _interrupted(tmp_path, *arguments)
    exact = run(tmp_path, "train", *arguments)
    assert f"at step {step}: exact" in exact.stdout
    processes = json.loads((only_run(tmp_path) / "environment.json").read_text())["processes"]
    assert [process["resumed"] for process in processes] == [None, {"step": step, "exact": True, "reasons": []}]

    _interrupted(tmp_path, *arguments)
    (only_run(tmp_path) / "metrics.jsonl").write_bytes(b"")
    other = run(tmp_path, "train", *arguments, "runtime.micro_batch_size=2")
    assert other.returncode == 0, other.stderr
    line = next(line for line in other.stdout.splitlines() if "resuming" in line)
    assert "inexact: micro_batch_size was None and is 2; metrics.jsonl has 0 of the " in line
    resumed = json.loads((only_run(tmp_path) / "environment.json").read_text())["processes"][-1]["resumed"]
    assert not resumed["exact"]
    assert len(resumed["reasons"]) == 2


@pytest.mark.slow
def test_asked_to_end_in_its_last_step_a_sweep_goes_no_further_and_nothing_is_lost(tmp_path, monkeypatch):
    (tmp_path / "stopping_part.py").write_text(STOPPING)
    monkeypatch.setenv("ATOMICLM_TRUST", "stopping_part")
    few = ("trainer.max_steps=6", "evaluation.times=1", "evaluation.samples=0")
    arguments = [*_arguments(tmp_path), *few, "trainer.objective._target_=stopping_part.Stopping"]
    swept = run(tmp_path, "train", "-m", *arguments, "seed=1,2")
    assert swept.returncode == 75, swept.stdout + swept.stderr
    summary = json.loads((only_run(tmp_path) / "summary.json").read_text())
    assert (summary["state"], summary["step"]) == ("interrupted", 6)
    alone = run(tmp_path, "train", *arguments, "seed=1")
    assert alone.returncode == 0, alone.stderr
    assert "at step 6: exact" in alone.stdout
    rows = [json.loads(line) for line in (only_run(tmp_path) / "metrics.jsonl").read_text().splitlines()]
    assert [row["event"] for row in rows if row["event"] != "checkpoint"] == ["train", "validation"]


@pytest.mark.slow
def test_plan_and_summary_have_one_figure_of_the_cache(tmp_path):
    """A run in float32 too: TINY's precision, whose cache is twice as large."""
    settings = [*TINY, "trainer.max_steps=1", "data=text", f"data.path={corpus(tmp_path)}"]
    done = run(tmp_path, "train", *settings)
    assert done.returncode == 0, done.stderr
    (caution,) = [line for line in done.stdout.splitlines() if line.startswith("warning:")]
    assert "schedule.warmup_steps: the run has 1 steps and the warmup 50" in caution
    summary = json.loads((only_run(tmp_path) / "summary.json").read_text())
    planned = cost_of(resolved(compose(settings)))
    assert summary["cache_bytes_per_token"] == planned.cache_bytes_per_token
    assert summary["cache_dtype"] == "bfloat16"
    assert f"{planned.cache_bytes_per_token:,}  (bfloat16, over" in run(tmp_path, "plan", *settings).stdout


@pytest.mark.slow
def test_a_run_whose_checkpoints_are_gone_does_not_begin_anew_in_silence(tmp_path):
    arguments = _arguments(tmp_path)
    step = _interrupted(tmp_path, *arguments)
    folder = only_run(tmp_path)
    (folder / "checkpoints").rename(tmp_path / "elsewhere")
    (folder / "checkpoints").symlink_to(tmp_path / "nowhere")
    record = (folder / "metrics.jsonl").read_bytes()
    for _ in range(2):
        refused = run(tmp_path, "train", *arguments)
        assert refused.returncode == 2, refused.stdout
        assert "none is left" in refused.stderr
        assert (folder / "metrics.jsonl").read_bytes() == record
        (folder / "checkpoints").unlink(missing_ok=True)  # and not when the link is gone either
    (tmp_path / "elsewhere").rename(folder / "checkpoints")
    assert f"at step {step}: exact" in run(tmp_path, "train", *arguments).stdout


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A corpus of bytes with one place that poisons the batches it comes into."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "planted_part.py").write_text(PLANTED)
    path = corpus(folder)
    text = path.read_text()
    path.write_text(text[:3000] + "#" + text[3000:])
    return folder


def _planted(folder: Path, policy: str, *more: str):
    few = ("trainer.max_steps=130", "evaluation.times=1", "runtime.log_every_steps=1", "tokenizer=bytes")
    given = [item for item in TINY if not item.startswith("tokenizer.")]
    component = "trainer.objective._target_=planted_part.Planted"
    chosen = (component, f"trainer/bad_steps={policy}", f"name={policy}", *more)
    arguments = ["data=text", "data.path=corpus.txt", *given, *few, *chosen]
    trusted = {**environment(folder), "ATOMICLM_TRUST": "planted_part"}
    trusted["PYTHONPATH"] += f":{folder}"
    done = subprocess.run(
        command("train", *arguments), cwd=folder, env=trusted, capture_output=True, text=True, timeout=300, check=False
    )
    found = only_run(folder, policy)
    rows = [json.loads(line) for line in (found / "metrics.jsonl").read_text().splitlines()]
    return done, found, rows, json.loads((found / "summary.json").read_text())


@pytest.mark.slow
def test_stop_is_a_result_with_the_batch_kept(planted):
    done, found, rows, summary = _planted(planted, "stop")
    assert done.returncode == 1
    assert "diverged at step" in done.stderr
    assert "Traceback" not in done.stderr
    assert summary["state"] == "diverged"
    (bad,) = (row for row in rows if row["event"] == "bad_step")
    facts = json.loads((found / "bad_steps" / f"batch_{bad['batch']:08d}" / "facts.json").read_text())
    assert any("#" in text for text in facts["text"])
    assert facts["gradients"] == ["blocks.0.feedforward.down.weight"]
    assert max(row["step"] for row in rows if row["event"] == "train") == bad["step"]


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "more"), [("skip", ()), ("rewind", ("trainer.bad_steps.every_steps=20",))])
def test_skip_and_rewind_go_on_to_the_end_and_the_history_shows_it(planted, policy, more):
    done, found, rows, summary = _planted(planted, policy, *more)
    assert done.returncode == 0, done.stderr
    assert summary["state"] == "done"
    bad = [row for row in rows if row["event"] == "bad_step"]
    assert summary["bad_steps"] == len(bad) > 0
    assert {path.name for path in (found / "bad_steps").iterdir()} == {f"batch_{row['batch']:08d}" for row in bad}
    steps = [row["step"] for row in rows if row["event"] == "train"]
    assert steps[-1] == 130
    if policy == "skip":
        assert steps == list(range(1, 131))
    else:
        assert len(steps) > 130
        first = rows.index(bad[0])
        before = [row["step"] for row in rows[:first] if row["event"] == "train"]
        after = next(row["step"] for row in rows[first + 1 :] if row["event"] == "train")
        assert after == before[-1] // 20 * 20 + 1
