"""A checkpoint restores everything, or is not used."""

import random

import numpy as np
import pytest
import torch
from small_run import dataset, fresh_state, runtime, schedule, trainer, weights

from atomiclm.training import checkpoint
from atomiclm.training.checkpoint import DamagedCheckpoint


def _silent(text: str) -> None:
    pass


def _trained(steps: int, dropout: float = 0.2):
    return trainer(10).fit(
        state := fresh_state(dropout=dropout),
        dataset(),
        schedule(),
        runtime(),
        stop_requested=lambda: state.step >= steps,
    )


def test_a_run_resumed_from_disk_ends_bit_equal(tmp_path):
    whole = _trained(10)
    checkpoint.save(_trained(4), tmp_path, keep=2)
    resumed = fresh_state(seed=99, dropout=0.2)
    torch.rand(7)
    assert checkpoint.resume(resumed, tmp_path, _silent)
    assert resumed.step == 4
    trainer(10).fit(resumed, dataset(), schedule(), runtime())
    for name, weight in weights(whole).items():
        assert torch.equal(weight, weights(resumed)[name]), name
    for name, tensor in whole.optimizer_tensors().items():
        assert torch.equal(tensor, resumed.optimizer_tensors()[name]), name


def test_all_random_generators_are_restored(tmp_path):
    state = _trained(2)
    random.seed(3)
    np.random.seed(3)
    checkpoint.save(state, tmp_path, keep=1)
    expected = (random.random(), np.random.rand(), float(torch.rand(())))
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    checkpoint.resume(state, tmp_path, _silent)
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected


def test_nothing_to_resume_is_no_error(tmp_path):
    assert not checkpoint.resume(fresh_state(), tmp_path / "none", _silent)


def test_only_the_newest_are_kept_and_saving_a_step_twice_is_one(tmp_path):
    for steps in (1, 2, 3):
        checkpoint.save(_trained(steps), tmp_path, keep=2)
        checkpoint.save(_trained(steps), tmp_path, keep=2)
    assert [path.name for path in checkpoint.candidates(tmp_path)] == ["step_00000003", "step_00000002"]
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "append"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, name, damage):
    checkpoint.save(_trained(2), tmp_path, keep=2)
    newest = checkpoint.save(_trained(3), tmp_path, keep=2)
    file = newest / name
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "truncate":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "append":
        file.write_bytes(bytes(content) + b"x")
    else:
        file.unlink()
    said: list[str] = []
    state = fresh_state()
    assert checkpoint.resume(state, tmp_path, said.append)
    assert state.step == 2
    if (name, damage) != ("manifest.json", "delete"):  # without its manifest a folder never was a checkpoint
        assert "step_00000003" in said[0]


def test_when_all_are_damaged_training_does_not_silently_start_anew(tmp_path):
    path = checkpoint.save(_trained(2), tmp_path, keep=1)
    (path / "model.safetensors").write_bytes(b"")
    with pytest.raises(DamagedCheckpoint, match="start"):
        checkpoint.resume(fresh_state(), tmp_path, _silent)


def test_a_save_that_fails_leaves_the_previous_checkpoint_and_no_rubbish(tmp_path, monkeypatch):
    checkpoint.save(_trained(2), tmp_path, keep=1)
    monkeypatch.setattr(checkpoint, "_write_json", lambda path, content: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(_trained(3), tmp_path, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000002"]


def test_the_weights_of_another_model_are_refused_by_name(tmp_path):
    checkpoint.save(_trained(1), tmp_path, keep=1)
    other = fresh_state()
    other.model.blocks = other.model.blocks[:1]
    with pytest.raises(ValueError, match=r"blocks\.1\.\S+ is unknown"):
        checkpoint.resume(other, tmp_path, _silent)
