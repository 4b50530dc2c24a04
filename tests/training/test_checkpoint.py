"""A checkpoint restores everything, or is not used."""

import random

import numpy as np
import pytest
import torch
from small_run import dataset, fresh_state, runtime, save, schedule, trainer, weights

from atomiclm.atomic_io import from_json, to_json
from atomiclm.training import Runtime, checkpoint
from atomiclm.training.checkpoint import DamagedCheckpoint, Snapshot, fingerprint
from atomiclm.training.hooks import Retention, prune
from atomiclm.training.state import OtherModel
from atomiclm.training.step import Diverged


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
    save(_trained(4), tmp_path, keep=2)
    resumed = fresh_state(seed=99, dropout=0.2)
    torch.rand(7)
    assert checkpoint.resume(resumed, tmp_path, _silent)
    assert resumed.step == 4
    trainer(10).fit(resumed, dataset(), schedule(), runtime())
    for name, weight in weights(whole).items():
        assert torch.equal(weight, weights(resumed)[name]), name
    for name, tensor in whole.optimizer_tensors():
        assert torch.equal(tensor, dict(resumed.optimizer_tensors())[name]), name


def test_all_random_generators_are_restored(tmp_path):
    state = _trained(2)
    random.seed(3)
    np.random.seed(3)
    save(state, tmp_path, keep=1)
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
        save(_trained(steps), tmp_path, keep=2)
        save(_trained(steps), tmp_path, keep=2)
    assert [path.name for path in checkpoint.checkpoints_in(tmp_path)] == ["step_00000003", "step_00000002"]
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "append"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, name, damage):
    save(_trained(2), tmp_path, keep=2)
    newest = save(_trained(3), tmp_path, keep=2)
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
    assert "step_00000003" in said[0]
    assert [path.name for path in checkpoint.checkpoints_in(tmp_path)] == ["step_00000002"]
    assert (tmp_path / "damaged_step_00000003").is_dir()


def test_when_all_are_damaged_training_does_not_silently_start_anew(tmp_path):
    path = save(_trained(2), tmp_path, keep=1)
    (path / "model.safetensors").write_bytes(b"")
    for _ in range(2):  # and neither does it when it is tried again
        with pytest.raises(DamagedCheckpoint, match="start"):
            checkpoint.resume(fresh_state(), tmp_path, _silent)


def test_a_save_that_fails_leaves_the_previous_checkpoint_and_no_rubbish(tmp_path, monkeypatch):
    save(_trained(2), tmp_path, keep=1)

    def full(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        save(_trained(3), tmp_path, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000002"]


def test_the_weights_of_another_model_are_refused_by_name(tmp_path):
    save(_trained(1), tmp_path, keep=1)
    other = fresh_state()
    other.model.blocks = other.model.blocks[:1]
    with pytest.raises(ValueError, match=r"blocks\.1\.\S+ is unknown"):
        checkpoint.resume(other, tmp_path, _silent)


def test_a_checkpoint_that_is_damaged_is_written_anew_when_its_step_comes_again(tmp_path):
    save(_trained(2), tmp_path, keep=2)
    path = save(_trained(3), tmp_path, keep=2)
    (path / "state.json").write_bytes(b"{}")
    assert save(_trained(3), tmp_path, keep=2) == path
    assert checkpoint.read(path).scalars["step"] == 3


def test_weights_that_are_no_numbers_take_no_good_checkpoints_place(tmp_path):
    save(_trained(2), tmp_path, keep=1)
    state = _trained(3)
    with torch.no_grad():
        next(iter(state.model.parameters())).view(-1)[5] = float("nan")
    with pytest.raises(Diverged, match="step 3"):
        save(state, tmp_path, keep=1)
    assert [path.name for path in checkpoint.checkpoints_in(tmp_path)] == ["step_00000002"]


def test_format_2_is_read_as_what_it_was(tmp_path):
    """Version 2 knew no steps over bad batches, no unfinished hooks, no positions in the record."""
    path = save(_trained(4), tmp_path, keep=1)
    new = {"batch", "skipped", "bad_steps", "recent_losses", "unfinished", "validated", "best", "record_rows"}
    scalars = {key: value for key, value in from_json((path / "state.json").read_bytes()).items() if key not in new}
    content = to_json(scalars)
    (path / "state.json").write_bytes(content)
    manifest = from_json((path / "manifest.json").read_bytes())
    files = {**manifest["files"], "state.json": fingerprint(content)}
    (path / "manifest.json").write_bytes(to_json({"format": 2, "step": 4, "files": files}))
    whole, resumed = _trained(10), fresh_state(seed=7, dropout=0.2)
    found = checkpoint.resume(resumed, tmp_path, _silent)
    assert found is not None
    assert found.scalars["record_rows"] is None
    trainer(10).fit(resumed, dataset(), schedule(), runtime())
    for name, weight in weights(whole).items():
        assert torch.equal(weight, weights(resumed)[name]), name


@pytest.mark.parametrize("version", [1, 4, None, "3"])
def test_a_format_of_another_version_is_named(tmp_path, version):
    path = save(_trained(1), tmp_path, keep=1)
    manifest = from_json((path / "manifest.json").read_bytes())
    (path / "manifest.json").write_bytes(to_json({**manifest, "format": version}))
    with pytest.raises(DamagedCheckpoint, match=r"format .* reads 2 to 3"):
        checkpoint.read(path)


def test_optimizer_state_of_another_model_is_refused_by_name(tmp_path):
    state = _trained(2)
    state.optimizer.param_groups[0]["names"][0] = "nobody"
    save(state, tmp_path, keep=1)
    with pytest.raises(OtherModel, match="nobody is unknown"):
        checkpoint.resume(fresh_state(), tmp_path, _silent)


def test_the_best_and_the_points_to_rewind_to_stay_beside_the_newest(tmp_path):
    scores = {1: 3.0, 2: 1.5, 3: 2.0, 5: 1.7}
    for step in range(1, 9):
        about = {"bits_per_byte": scores[step]} if step in scores else {}
        about["rewind_point"] = step in (1, 3, 4)
        checkpoint.write(Snapshot.take(_trained(step), about), tmp_path)
        prune(tmp_path, Retention(newest=1, best=True))
    steps = [checkpoint.stored_step(path) for path in checkpoint.checkpoints_in(tmp_path)]
    assert steps == [8, 4, 3, 2]  # the newest, two points, the best


def test_a_rewound_run_leaves_nothing_of_the_way_it_left(tmp_path):
    for step in (2, 4, 6):
        checkpoint.write(Snapshot.take(_trained(step), {"rewind_point": step == 4}), tmp_path)
    state = fresh_state()
    checkpoint.rewind(state, tmp_path, _silent)
    assert state.step == 4
    assert [checkpoint.stored_step(path) for path in checkpoint.checkpoints_in(tmp_path)] == [4, 2]


def test_a_replacement_that_is_killed_half_way_brings_the_old_one_back(tmp_path):
    path = save(_trained(2), tmp_path, keep=1)
    path.rename(tmp_path / ".replaced-step_00000002")
    (tmp_path / ".tmp-step_00000002").mkdir()
    state = fresh_state()
    assert checkpoint.resume(state, tmp_path, _silent)
    assert state.step == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000002"]


def test_a_score_that_is_no_number_is_never_the_best(tmp_path):
    for step, score in ((1, 1.5), (2, float("nan")), (3, float("inf"))):
        checkpoint.write(Snapshot.take(_trained(step), {"bits_per_byte": score}), tmp_path)
        prune(tmp_path, Retention(newest=1, best=True))
    assert [checkpoint.stored_step(path) for path in checkpoint.checkpoints_in(tmp_path)] == [3, 1]


def test_a_checkpoint_becomes_a_rewind_point_when_it_is_to_be_one(tmp_path):
    checkpoint.write(Snapshot.take(_trained(2)), tmp_path)
    path = checkpoint.write(Snapshot.take(_trained(2), {"rewind_point": True}), tmp_path)
    assert checkpoint.read_manifest(path)["rewind_point"]
    checkpoint.write(Snapshot.take(_trained(2)), tmp_path)
    assert checkpoint.read_manifest(path)["rewind_point"]
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000002"]


def test_a_rewind_point_with_a_damaged_manifest_is_told_and_kept_aside(tmp_path):
    for step in (2, 4):
        path = checkpoint.write(Snapshot.take(_trained(step), {"rewind_point": True}), tmp_path)
    (path / "manifest.json").write_bytes((path / "manifest.json").read_bytes() + b" x")
    state, said = fresh_state(), []
    checkpoint.rewind(state, tmp_path, said.append)
    assert state.step == 2
    assert "step_00000004" in said[0]
    assert (tmp_path / "damaged_step_00000004").is_dir()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_resumed_on_a_gpu_ends_bit_equal(tmp_path):
    machine = Runtime(device="cuda")
    machine.prepare()

    def trained(state, steps):
        return trainer(10).fit(state, dataset(), schedule(), machine, stop_requested=lambda: state.step >= steps)

    def fresh(seed):
        state = fresh_state(seed=seed, dropout=0.2)
        state.model.to("cuda")
        return state

    whole = trained(fresh(1), 10)
    save(trained(fresh(1), 4), tmp_path, keep=1)
    resumed = fresh(5)
    torch.rand(7, device="cuda")
    assert checkpoint.resume(resumed, tmp_path, _silent)
    trained(resumed, 10)
    for name, tensor in [*whole.model_tensors(), *whole.optimizer_tensors()]:
        assert torch.equal(tensor, dict([*resumed.model_tensors(), *resumed.optimizer_tensors()])[name]), name
