"""A study runs every cell; a failing one stops no other, is named at the end, and makes the exit status non-zero."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from cli import TINY, corpus, run

from atomiclm.sweep import read_ledger

EXPLODING = '''
from torch import nn


class Exploding(nn.Module):
    """A norm that fails as a bug in a user's own component would."""

    def __init__(self, dim: int, eps: float = 1e-6, gain: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(__import__("torch").ones(dim))

    def forward(self, hidden):
        raise RuntimeError("the planted bug")
'''


def _summaries(folder: Path, name: str) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob(f"outputs/{name}/*/summary.json")}


@pytest.fixture(scope="module", params=["auto", "2"], ids=["one after another", "side by side"])
def swept(tmp_path_factory, request):
    """The sweep, and trust in the norm for as long as the tests of it run."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ATOMICLM_TRUST", "exploding")
        yield _swept(tmp_path_factory, f"runtime.parallel={request.param}")


def _swept(tmp_path_factory, parallel):
    """Two arms of the shipped study at 4 steps, each with a norm that works and one that fails."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "exploding.py").write_text(EXPLODING)
    arguments = (
        "-m", "experiments=gqa_ratio", "data=text", f"data.path={corpus(folder).name}", *TINY,
        "model.attention.num_heads=8", "arm=kv8,kv1", "study.seeds=[1,2]", "trainer.max_steps=4",
        "trainer.batch_size=2", "tracking=default", parallel,
        "model.norm._target_=atomiclm.model.RMSNorm,exploding.Exploding",
    )  # fmt: skip
    return folder, arguments, run(folder, "train", *arguments, timeout=300)


@pytest.mark.slow
def test_every_cell_runs_and_the_failures_are_told_at_the_end(swept):
    folder, _, done = swept
    assert done.returncode == 1, done.stdout + done.stderr
    assert "4 of 8 cells failed" in done.stderr
    assert done.stderr.count("RuntimeError: the planted bug") >= 4
    assert "atomiclm train experiments=gqa_ratio" in done.stderr, "each with the command that runs it alone"
    states = [summary["state"] for summary in _summaries(folder, "gqa_ratio").values()]
    assert sorted(states) == ["done"] * 4 + ["failed"] * 4


@pytest.mark.slow
def test_each_run_is_called_as_its_sweep_planned_it_by_what_is_swept_first(swept):
    folder, _, _ = swept
    cells = read_ledger(folder / "outputs" / "gqa_ratio").cells
    assert {cell.run_id for cell in cells} == set(_summaries(folder, "gqa_ratio"))
    failing = [cell for cell in cells if cell.arm.endswith("Exploding")]
    assert all(cell.run_id.startswith(f"{cell.arm.split()[0]}-norm=Exploding-") for cell in failing), failing


@pytest.mark.slow
def test_each_cell_is_one_run_of_the_mirror(swept):
    folder, _, _ = swept
    for cell in _summaries(folder, "gqa_ratio"):
        files = list((folder / "outputs" / "gqa_ratio" / cell / "wandb").glob("offline-run-*/run-*.wandb"))
        assert len(files) == 1, cell
        assert files[0].stem.startswith(f"run-{cell.rpartition('-')[2]}-"), "W&B's id begins with the run's digest"


@pytest.mark.slow
def test_compare_prints_arms_and_says_what_failed(swept):
    folder, _, _ = swept
    done = run(folder, "compare", "outputs/gqa_ratio")
    assert done.returncode == 1
    assert "kv8" in done.stdout
    assert "the planted bug" in done.stdout
    table = run(folder, "compare", "outputs/gqa_ratio", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(table.stdout)))
    assert len(rows) >= 2, table.stdout


@pytest.mark.slow
def test_the_same_command_skips_what_is_done_and_retries_what_failed(swept):
    folder, arguments, _ = swept
    before = {path: path.stat().st_mtime_ns for path in folder.glob("outputs/gqa_ratio/*Norm*/metrics.jsonl")}
    (folder / "exploding.py").write_text(EXPLODING.replace('raise RuntimeError("the planted bug")', "return hidden"))
    again = run(folder, "train", *arguments, timeout=300)
    assert again.returncode == 0, again.stderr
    assert len(re.findall(r"^ *\d of 8  kv", again.stdout, re.MULTILINE)) == 4, "those that are done are not even begun"
    assert {summary["state"] for summary in _summaries(folder, "gqa_ratio").values()} == {"done"}
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.slow
def test_a_cell_run_alone_is_the_sweeps_cell(swept):
    folder, arguments, _ = swept
    cells = set(_summaries(folder, "gqa_ratio"))
    alone = [a for a in arguments if a != "-m" and not a.startswith(("study.seeds", "model.norm", "arm"))]
    done = run(folder, "train", *alone, "seed=2", "arm=kv1")
    assert done.returncode == 0, done.stderr
    assert "done already" in done.stdout
    assert set(_summaries(folder, "gqa_ratio")) == cells


@pytest.mark.slow
def test_another_text_under_the_same_name_is_refused(swept):
    folder, arguments, _ = swept
    text = folder / "corpus.txt"
    original = text.read_text()
    text.write_text(original + "one more line\n")
    again = run(folder, "train", *arguments)
    text.write_text(original)
    assert again.returncode == 2, again.stdout + again.stderr
    assert "was trained on another text" in again.stderr


@pytest.mark.slow
def test_a_study_takes_over_what_another_has_trained(swept):
    folder, arguments, _ = swept
    own = [a for a in arguments if not a.startswith(("arm", "model.norm"))]
    done = run(folder, "train", *own, "arm=kv8", "name=second")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("copied from outputs/gqa_ratio") == 2
    assert " of 2  " not in done.stdout
    for summary in _summaries(folder, "second").values():
        assert (summary["name"], summary["state"]) == ("second", "done")
    (sampled,) = {path.name for path in (folder / "outputs" / "second").glob("kv8*seed=1*")}
    assert run(folder, "generate", f"outputs/second/{sampled}", "--max-tokens", "3").returncode == 0
