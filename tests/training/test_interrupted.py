"""A stop that is asked for in the middle of something: nothing is lost and nothing is done twice."""

from functools import partial

import pytest
import torch
from small_run import dataset, fresh_mixture, fresh_state, runtime, save, schedule, trainer

from atomiclm.training import TrainState, checkpoint
from atomiclm.training.hooks import Validate
from atomiclm.training.step import Interrupted

STEPS = 8


class Switch:
    """A stop that is requested when it was asked about so many times."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def _whole(state: TrainState) -> TrainState:
    return trainer(STEPS, batch_size=6).fit(state, dataset(), schedule(), runtime(2))


@pytest.mark.one_in(6)
@pytest.mark.parametrize(
    ("make", "asks"),
    [(partial(fresh_state, dropout=0.2), 3), (fresh_mixture, 3), (partial(fresh_mixture, balance_weight=0.1), 5)],
    ids=["dense", "experts", "surveyed"],
)
@pytest.mark.parametrize("asked", [1, 2, 3, 4, 7, 11])
def test_stopped_between_micro_batches_the_step_is_given_up_whole(tmp_path, make, asks, asked):
    """Each step asks once before it begins and twice between its three micro-batches, and those of a survey."""
    whole, cut = _whole(make()), make()
    trainer(STEPS, batch_size=6).fit(cut, dataset(), schedule(), runtime(2), stop_requested=Switch(asked))
    assert cut.step == asked // asks
    assert all(parameter.grad is None for parameter in cut.model.parameters())
    save(cut, tmp_path, keep=1)
    resumed = make()
    checkpoint.resume(resumed, tmp_path, print)
    _whole(resumed)
    for name, tensor in whole.model_tensors():
        assert torch.equal(tensor, dict(resumed.model_tensors())[name]), name


class Rows:
    """Two validations a run; the `nth` is interrupted once."""

    def __init__(self, nth: int | None = None) -> None:
        self.rows: list[tuple[str, int]] = []
        self.nth = nth
        self.calls = 0

    def evaluate(self) -> dict[str, float]:
        self.calls += 1
        if self.calls == self.nth:
            raise Interrupted
        return {"validation/bits_per_byte": 1.0 / self.calls}

    def hooks(self) -> list:
        rows = self.rows

        class Note:
            def __init__(self, name: str) -> None:
                self.name = name

            def after_step(self, state, result, progress):
                rows.append((self.name, state.step))

        validate = Validate(lambda row: rows.append((row["event"], row["step"])), self.evaluate, 2)
        return [Note("before"), validate, Note("after")]


@pytest.mark.parametrize("nth", [1, 2])
def test_a_validation_that_is_cut_short_is_made_again_by_the_resumed_run_and_nothing_else_is(tmp_path, nth):
    whole, cut = Rows(), Rows(nth)
    trainer(STEPS).fit(fresh_state(), dataset(), schedule(), runtime(), whole.hooks())
    state = fresh_state()
    trainer(STEPS).fit(state, dataset(), schedule(), runtime(), cut.hooks(), lambda: cut.calls == nth)
    assert state.unfinished is not None
    assert state.unfinished.hook == 1
    save(state, tmp_path, keep=1)
    resumed = fresh_state(seed=4)
    checkpoint.resume(resumed, tmp_path, print)
    trainer(STEPS).fit(resumed, dataset(), schedule(), runtime(), cut.hooks())
    assert cut.rows == whole.rows
    assert resumed.unfinished is None
    # The checkpoint that was cut short gives way to the one that was not.
    save(resumed, tmp_path, keep=5)
    if nth == 2:
        assert checkpoint.read(tmp_path / f"step_{STEPS:08d}").scalars["unfinished"] is None
    assert not list(tmp_path.glob(".*"))


def test_a_stop_before_the_first_step_takes_none():
    state = trainer(STEPS).fit(fresh_state(), dataset(), schedule(), runtime(), stop_requested=lambda: True)
    assert state.step == 0
