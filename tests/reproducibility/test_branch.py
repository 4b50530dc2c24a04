"""A run that branches from a trunk's checkpoint is the run that was planned so from the start, to the last bit."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from cli import TINY, corpus

from atomiclm.cli import UserError
from atomiclm.config.compose import compose
from atomiclm.train import train
from atomiclm.training import checkpoint

TRUNK, DECAY = 6, 4
WSD = ("schedule=wsd", "schedule.decay_fraction=null", f"schedule.decay_steps={DECAY}")


def _train(folder: Path, name: str, *more: str) -> Path:
    """Train in this process as the command would; return the run folder."""
    train(compose([
        "data=text", f"data.path={folder / 'corpus.txt'}", *TINY, "model.dropout=0.1", "schedule.warmup_steps=2",
        f"output_dir={folder / 'outputs'}", f"cache_dir={folder / 'cache'}", f"name={name}", "evaluation.samples=0",
        "runtime.checkpoint_every_seconds=0", "runtime.log_every_steps=2", "runtime.num_threads=1", *more,
    ]))  # fmt: skip
    (found,) = [path for path in (folder / "outputs" / name).iterdir() if path.is_dir()]
    return found


def _from(path: Path) -> str:
    return f"trainer.branch_from='{path}'"  # quoted: names of runs have = in them


def _steps(count: int) -> str:
    return f"trainer.max_steps={count}"


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("branching")
    corpus(folder)
    threads = torch.get_num_threads()
    yield _train(folder, "trunk", "schedule=constant", _steps(TRUNK))
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def branch(trunk):
    return _train(trunk.parents[2], "branch", *WSD, _steps(TRUNK + DECAY), _from(trunk))


def _state(run: Path) -> tuple[dict, dict, dict]:
    content = checkpoint.read(checkpoint.checkpoints_in(run / "checkpoints")[0])
    measured = ("seconds", "interval", "latest", "record_rows", "best")
    scalars = {key: value for key, value in content.scalars.items() if key not in measured}
    return scalars, content.model, content.optimizer


def _rows(run: Path, event: str) -> list[dict]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clock = ("seconds", "train/tokens_per_second", "train/flops_utilization")
    return [{k: v for k, v in row.items() if k not in clock} for row in rows if row["event"] == event]


def test_trunk_and_decay_are_the_run_planned_so_from_the_start(trunk, branch):
    whole = _train(trunk.parents[2], "whole", *WSD, _steps(TRUNK + DECAY))
    (scalars, *tensors), (wanted, *wanted_tensors) = _state(branch), _state(whole)
    assert scalars == wanted
    for found, expected in zip(tensors, wanted_tensors, strict=True):
        assert found.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    assert _rows(branch, "train") == [row for row in _rows(whole, "train") if row["step"] > TRUNK]
    assert _rows(branch, "validation")[-1]["validation/loss"] == _rows(whole, "validation")[-1]["validation/loss"]
    assert branch.name[-8:] != whole.name[-8:]
    assert [row["step"] for row in _rows(branch, "branch")] == [TRUNK]


def test_a_branch_needs_its_trunk_only_to_begin(trunk, branch):
    folder = trunk.parents[2]
    final = _state(branch)
    newest = checkpoint.checkpoints_in(branch / "checkpoints")[0]
    shutil.rmtree(newest)
    summary = json.loads((branch / "summary.json").read_text())
    (branch / "summary.json").write_text(json.dumps({**summary, "state": "interrupted"}))
    moved = trunk.rename(trunk.parent / "elsewhere")
    try:
        arguments = (*WSD, _steps(TRUNK + DECAY), _from(trunk))
        assert _train(folder, "branch", *arguments) == branch
    finally:
        moved.rename(trunk)
    assert newest.is_dir()
    assert all(torch.equal(tensor, final[1][name]) for name, tensor in _state(branch)[1].items())
    assert len(_rows(branch, "branch")) == 1


def _made(trunk: Path) -> set[Path]:
    """Tokenizers and shards in the cache."""
    return {path for kind in ("tokenizers", "shards") for path in (trunk.parents[2] / "cache" / kind).iterdir()}


def test_a_run_begun_on_another_text_is_refused_before_anything_is_made_of_it(trunk):
    text = trunk.parents[2] / "corpus.txt"
    original, made = text.read_bytes(), _made(trunk)
    text.write_bytes(original.replace(b"cat", b"cow"))
    try:
        with pytest.raises(UserError, match="was trained on another text"):
            _train(trunk.parents[2], "trunk", "schedule=constant", _steps(TRUNK))
        assert _made(trunk) == made
    finally:
        text.write_bytes(original)


REFUSED = {
    "another model": (["model.dim=48"], "not this model's"),
    "another tokenizer": (["tokenizer.vocab_size=290"], "tokenizer is another one"),
    "other data": (["data.validation_fraction=0.2"], "data.validation_fraction was 0.1"),
    "another batch size": (["trainer.batch_size=2"], "trainer.batch_size was 4"),
    "another order": (["seed=2"], "trainer.order.seed was 1"),
    "another optimizer": (["optim=lion"], "optim was AdamW"),
    "nothing left to do": ([_steps(TRUNK)], "step 6, and the budget ends there"),
    "no such run": (["trainer.branch_from=nothing"], "'nothing'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_go_on_is_refused_with_the_reason_before_anything_is_written(trunk, case):
    more, reason = REFUSED[case]
    arguments = [*WSD, _steps(TRUNK + DECAY), _from(trunk), *more]
    made = _made(trunk)
    with pytest.raises(UserError, match=r"trainer\.branch_from") as refusal:
        _train(trunk.parents[2], "refused", *arguments)
    assert reason in str(refusal.value)
    assert _made(trunk) == made or case == "another tokenizer"  # its merges are known once it is trained
    assert not (trunk.parents[1] / "refused").exists()


def test_another_text_is_refused_before_anything_is_made_of_it(trunk):
    text = trunk.parents[2] / "corpus.txt"
    original, made = text.read_bytes(), _made(trunk)
    text.write_bytes(original.replace(b"cat", b"cow"))
    try:
        with pytest.raises(UserError, match="another text"):
            _train(trunk.parents[2], "refused", *WSD, _steps(TRUNK + DECAY), _from(trunk))
        assert _made(trunk) == made
    finally:
        text.write_bytes(original)


def test_a_trunk_can_be_named_by_its_id(trunk):
    run = _train(trunk.parents[2], "by_id", *WSD, _steps(TRUNK + 1), f"trainer.branch_from='{trunk.name[-8:]}'")
    assert _rows(run, "branch")[0]["trunk"] == str(trunk / "checkpoints" / f"step_{TRUNK:08d}")


def test_a_trunk_that_has_not_ended_must_be_named_by_a_checkpoint(trunk):
    folder = trunk.parents[2]
    summary = (trunk / "summary.json").read_text()
    (trunk / "summary.json").write_text(summary.replace('"done"', '"interrupted"'))
    try:
        with pytest.raises(UserError, match=r"name one of its checkpoints: step_00000006"):
            _train(folder, "refused", *WSD, _steps(TRUNK + DECAY), _from(trunk))
        named = trunk / "checkpoints" / f"step_{TRUNK:08d}"
        run = _train(folder, "named", *WSD, _steps(TRUNK + 1), _from(named))
    finally:
        (trunk / "summary.json").write_text(summary)
    assert _rows(run, "branch")[0]["trunk"] == str(named)
