"""Saving beside training: what is on disk is one moment of the run, and a failure is said, not fatal."""

import os
import threading

import pytest
import torch
from small_run import dataset, fresh_state, runtime, schedule, trainer, weights

from atomiclm.training import checkpoint
from atomiclm.training.hooks import Retention, SaveCheckpoints
from atomiclm.training.step import Diverged


class Rows(list):
    """A record that notes when it was forced to disk."""

    synced: int = 0

    @property
    def rows(self) -> int:
        return sum(row["event"] != "checkpoint" for row in self)

    def sync(self) -> None:
        self.synced = self.rows


def _saver(folder, rows, said, every_seconds=0.0, rewind_every_steps=None, best=False) -> SaveCheckpoints:
    return SaveCheckpoints(
        rows.append, said.append, folder, Retention(50, best), every_seconds, rewind_every_steps, rows, {"threads": 1}
    )


def _fit(state, saver, steps=6, hooks=()):
    trainer(steps).fit(state, dataset(), schedule(), runtime(), [*hooks, saver])
    saver.wait()


def test_a_checkpoint_holds_the_moment_it_was_taken_at_though_training_went_on(tmp_path, monkeypatch):
    """The disk answers only when training is over."""
    rows, said = Rows(), []
    saver = _saver(tmp_path, rows, said, every_seconds=None, rewind_every_steps=2)
    state, gate = fresh_state(dropout=0.1), threading.Event()
    fsync = os.fsync
    monkeypatch.setattr("os.fsync", lambda descriptor: (gate.wait(60), fsync(descriptor))[1])
    seen = {}

    class Look:
        def after_step(self, state, result, progress):
            if state.step == 2:
                seen.update(weights(state))
            if state.step == 3:
                assert not list(tmp_path.glob("step_*")), "the save ended before the disk answered"
                gate.set()

    _fit(state, saver, hooks=[Look()])
    found = checkpoint.read_model(tmp_path / "step_00000002")
    assert all(torch.equal(weight, found[name]) for name, weight in seen.items())
    assert not torch.equal(seen["embedding.weight"], weights(state)["embedding.weight"])


def test_a_busy_writer_lets_the_clock_wait_but_not_the_end(tmp_path, monkeypatch):
    rows, said = Rows(), []
    gate = threading.Event()
    fsync = os.fsync
    monkeypatch.setattr("os.fsync", lambda descriptor: (gate.wait(60), fsync(descriptor))[1])

    class Open:
        def after_step(self, state, result, progress):
            if state.step == 5:
                gate.set()

    _fit(fresh_state(), _saver(tmp_path, rows, said), hooks=[Open()])
    steps = [row["step"] for row in rows]
    assert steps[0] == 1
    assert steps[-1] == 6
    assert not {2, 3, 4} & set(steps)


def test_a_full_disk_is_said_and_training_goes_on(tmp_path, monkeypatch):
    rows, said = Rows(), []
    state = fresh_state()
    saver = _saver(tmp_path, rows, said)
    full = {"is": True}
    fsync = os.fsync

    def maybe_full(descriptor):
        if full["is"]:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", maybe_full)

    class Free:
        def after_step(self, state, result, progress):
            saver.wait()
            full["is"] = state.step < 4

    _fit(state, saver, hooks=[Free()])
    assert state.step == 6
    assert said
    assert all("No space left" in line and "the one before stays" in line for line in said)
    assert [row["step"] for row in rows] == [4, 5, 6]
    assert not list(tmp_path.glob(".*"))


def test_a_rewind_point_must_be_written(tmp_path, monkeypatch):
    """Without it a later rewind would lead to an older one, and the run be another one."""
    fsync, calls = os.fsync, []

    def full_later(descriptor):
        calls.append(descriptor)
        if len(calls) > 20:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", full_later)
    saver = _saver(tmp_path, Rows(), [], every_seconds=None, rewind_every_steps=2)
    with pytest.raises(OSError, match="No space"):
        _fit(fresh_state(), saver, steps=12)


def test_older_checkpoints_that_cannot_be_removed_are_said_and_the_new_one_counts(tmp_path, monkeypatch):
    def stuck(folder, retention):
        raise OSError(13, "Permission denied")

    monkeypatch.setattr("atomiclm.training.hooks.prune", stuck)
    rows, said = Rows(), []
    _fit(fresh_state(), _saver(tmp_path, rows, said))
    assert [row["step"] for row in rows][-1] == 6
    assert all("older checkpoints were not removed" in line for line in said)
    assert said


def test_the_end_does_not_pass_over_a_full_disk(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        _fit(fresh_state(), _saver(tmp_path, Rows(), []))


def test_weights_that_are_no_numbers_at_the_end_are_a_divergence(tmp_path):
    class Spoil:
        def after_step(self, state, result, progress):
            if progress >= 1:
                with torch.no_grad():
                    state.model.embedding.weight[0, 0] = torch.inf

    with pytest.raises(Diverged, match="step 6"):
        _fit(fresh_state(), _saver(tmp_path, Rows(), [], every_seconds=None), hooks=[Spoil()])
    assert checkpoint.checkpoints_in(tmp_path) == []


def test_the_record_is_on_disk_before_a_checkpoint_that_counts_its_rows(tmp_path):
    rows = Rows()
    saver = _saver(tmp_path, rows, [])

    class Note:
        def after_step(self, state, result, progress):
            rows.append({"event": "train", "step": state.step})

    _fit(fresh_state(), saver, hooks=[Note()])
    for path in checkpoint.checkpoints_in(tmp_path):
        content = checkpoint.read(path)
        assert content.scalars["record_rows"] == content.scalars["step"]
        assert content.manifest["conditions"] == {"threads": 1}
    assert rows.synced == 6


def test_the_best_is_saved_when_it_is_the_best(tmp_path):
    scores = {2: 3.0, 4: 1.0, 5: 2.0}

    class Score:
        def after_step(self, state, result, progress):
            if state.step in scores:
                state.score({"validation/bits_per_byte": scores[state.step]})

    rows, state = Rows(), fresh_state()
    saver = SaveCheckpoints(rows.append, print, tmp_path, Retention(1, True), None, None, rows, {})
    _fit(state, saver, hooks=[Score()])
    assert [checkpoint.stored_step(path) for path in checkpoint.checkpoints_in(tmp_path)] == [6, 4]
    assert state.best == (4, 1.0)
