"""Averaged weights: the right mean, judged everywhere, saved beside the weights in training, resumed bit-equal."""

import pytest
import torch
from small_run import ORDER, dataset, fresh_state, runtime, save, schedule, weights

from atomiclm.model import parameter_roles
from atomiclm.optim import SOAP, Adafactor, Lion, Muon, ScheduleFreeAdamW
from atomiclm.training import ExponentialAverage, Trainer, TrainState, checkpoint
from atomiclm.training.hooks import Sample, Validate

STEPS = 9


def _trainer(decay: float | None = None, max_steps: int = STEPS) -> Trainer:
    average = None if decay is None else ExponentialAverage(decay)
    return Trainer(batch_size=4, order=ORDER, max_steps=max_steps, precision="float32", weight_average=average)


def _state(optimizer=None, seed: int = 1, dropout: float = 0.2) -> TrainState:
    state = fresh_state(seed, dropout)
    if optimizer is None:
        return state
    return TrainState(state.model, optimizer(state.model.named_parameters(), parameter_roles(state.model), lr=1e-2))


class Collect:
    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def after_step(self, state, result, progress):
        self.seen.append(weights(state))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_the_average_is_the_normalised_exponential_mean(decay):
    collect = Collect()
    state = _trainer(decay).fit(_state(), dataset(), schedule(), runtime(), [collect])
    shares = torch.tensor([decay ** (STEPS - 1 - i) for i in range(STEPS)], dtype=torch.float64)
    for name, average in state.averages.items():
        history = torch.stack([seen[name].double() for seen in collect.seen])
        expected = torch.tensordot(shares / shares.sum(), history, dims=1)
        torch.testing.assert_close(average.double(), expected, rtol=1e-5, atol=1e-6, msg=name)


def test_it_is_judged_by_the_average_and_trained_on_as_before():
    state = _trainer(0.8).fit(_state(), dataset(), schedule(), runtime())
    before, average = weights(state), {name: value.clone() for name, value in state.averages.items()}
    with state.evaluated():
        for name, weight in weights(state).items():
            assert torch.equal(weight, average[name]), name
    for name, weight in weights(state).items():
        assert torch.equal(weight, before[name]), name


def test_an_evaluation_that_fails_leaves_the_weights_in_training():
    state = _trainer(0.8).fit(_state(), dataset(), schedule(), runtime())
    before = weights(state)
    with pytest.raises(RuntimeError, match="failed"), state.evaluated():
        raise RuntimeError("failed")
    assert all(torch.equal(weight, before[name]) for name, weight in weights(state).items())


@pytest.mark.parametrize(("optimizer", "decay"), [(None, 0.8), (ScheduleFreeAdamW, None)])
def test_validation_and_samples_see_the_judged_weights_and_disturb_nothing(optimizer, decay):
    seen = []
    state = _state(optimizer)

    def look():
        seen.append((weights(state), {name: value.clone() for name, value in state.judged_weights().items()}))
        return {}

    hooks = [Validate(lambda row: None, look, 3), Sample(lambda row: None, look, 3)]
    _trainer(decay).fit(state, dataset(), schedule(), runtime(), hooks)
    assert len(seen) == 6
    if optimizer is None:
        assert all(torch.equal(model[name], judged[name]) for model, judged in seen for name in judged)
    unwatched = _trainer(decay).fit(_state(optimizer), dataset(), schedule(), runtime())
    for name, weight in weights(unwatched).items():
        assert torch.equal(weight, weights(state)[name]), name
        assert not torch.equal(seen[-1][0][name], weight), name
        assert torch.equal(seen[-1][0][name], unwatched.judged_weights()[name]), name


OPTIMIZERS = [
    (None, 0.9), (ScheduleFreeAdamW, None), (Muon, None), (Muon, 0.5), (Lion, None), (SOAP, None), (Adafactor, None),
]  # fmt: skip


@pytest.mark.parametrize(("optimizer", "decay"), OPTIMIZERS)
def test_a_run_resumed_from_disk_ends_bit_equal(optimizer, decay, tmp_path):
    whole = _trainer(decay).fit(_state(optimizer), dataset(), schedule(), runtime())
    state = _state(optimizer)
    for stop_at in (2, 5):

        def stop(state=state, stop_at=stop_at):
            return state.step >= stop_at

        _trainer(decay).fit(state, dataset(), schedule(), runtime(), stop_requested=stop)
        save(state, tmp_path, keep=1)
        state = _state(optimizer, seed=99)
        torch.rand(3)
        assert checkpoint.resume(state, tmp_path, print)
        assert state.step == stop_at
    _trainer(decay).fit(state, dataset(), schedule(), runtime())
    for ours, theirs in (
        (weights(whole), weights(state)),
        (dict(whole.optimizer_tensors()), dict(state.optimizer_tensors())),
        (dict(whole.model_tensors()), dict(state.model_tensors())),
    ):
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert torch.equal(tensor, theirs[name]), name
    assert whole.scalars()["optimizer"] == state.scalars()["optimizer"]


@pytest.mark.parametrize(("optimizer", "decay"), [(None, 0.8), (ScheduleFreeAdamW, None)])
def test_what_a_checkpoint_offers_for_sampling_is_what_was_judged(optimizer, decay, tmp_path):
    state = _trainer(decay).fit(_state(optimizer), dataset(), schedule(), runtime())
    saved = checkpoint.read_model(save(state, tmp_path, keep=1))
    with state.evaluated():
        for name, weight in weights(state).items():
            assert torch.equal(weight, saved[name]), name
    assert any(not torch.equal(weight, saved[name]) for name, weight in weights(state).items())


def test_a_trainer_without_an_average_drops_one_and_one_with_it_begins_anew(tmp_path):
    state = _trainer(0.8, max_steps=4).fit(_state(), dataset(), schedule(), runtime())
    _trainer(None, max_steps=5).fit(state, dataset(), schedule(), runtime())
    assert (state.averages, state.averaged_steps) == ({}, 0)
    _trainer(0.8, max_steps=6).fit(state, dataset(), schedule(), runtime())
    assert state.averaged_steps == 1
    assert all(torch.equal(state.averages[name], weight) for name, weight in weights(state).items())


def test_two_averages_are_refused():
    with pytest.raises(ValueError, match=r"weight_average.*ScheduleFreeAdamW"):
        _trainer(0.9).fit(_state(ScheduleFreeAdamW), dataset(), schedule(), runtime())
    with pytest.raises(ValueError, match="decay"):
        ExponentialAverage(1.0)


@pytest.mark.one_in(5)
@pytest.mark.parametrize(("optimizer", "lr"), [(Muon, 0.02), (Lion, 0.01), (SOAP, 0.02), (Adafactor, 0.3),
                                              (ScheduleFreeAdamW, 0.02)])  # fmt: skip
def test_every_optimizer_learns(optimizer, lr):
    losses = []

    class Note:
        def after_step(self, state, result, progress):
            losses.append(result.loss)

    state = _state(optimizer, dropout=0.0)
    for group in state.optimizer.param_groups:
        group["initial_lr"] = lr
    _trainer(max_steps=60).fit(state, dataset(), schedule(), runtime(), [Note()])
    assert losses[0] == pytest.approx(3.47, abs=0.2)
    assert losses[-1] < 1.6, losses[-5:]  # the stream's own entropy is ln 2
