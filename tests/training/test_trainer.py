"""The loop: what it computes, and that watching it, cutting it or resuming it changes nothing."""

import numpy as np
import pytest
import torch
from small_run import CONTEXT_LENGTH, ORDER, dataset, fresh_state, runtime, schedule, trainer, weights

from atomiclm.training import Trainer
from atomiclm.training.step import Diverged, accumulate, clip_gradient


def test_it_learns():
    state = fresh_state()
    losses = []

    class Collect:
        def after_step(self, state, result, progress):
            losses.append(result.loss)

    trainer(60).fit(state, dataset(), schedule(), runtime(), [Collect()])
    assert losses[0] == pytest.approx(np.log(32), abs=0.2)
    assert losses[-1] < 1.2  # the stream's own entropy is ln 2
    assert (state.step, state.tokens) == (60, 60 * 4 * CONTEXT_LENGTH)
    assert state.flops == pytest.approx(3 * state.model.flops_per_token(CONTEXT_LENGTH) * state.tokens)


@pytest.mark.parametrize("micro_batch_size", [1, 3])
def test_accumulation_gives_the_gradient_of_the_whole_batch(micro_batch_size):
    inputs, targets = (torch.from_numpy(array) for array in dataset().batch(0, 6))
    whole, pieces = fresh_state().model.double(), fresh_state().model.double()
    loss = accumulate(whole, inputs, targets, None)
    split_loss = accumulate(pieces, inputs, targets, micro_batch_size)
    torch.testing.assert_close(split_loss, loss)
    for mine, other in zip(whole.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-9, atol=1e-12)


def test_clipping_equals_torch():
    mine, other = fresh_state().model, fresh_state().model
    inputs, targets = (torch.from_numpy(array) for array in dataset().batch(0, 2))
    for model in (mine, other):
        accumulate(model, inputs, targets, None)
    norm = clip_gradient(mine.parameters(), 0.1)
    torch.testing.assert_close(norm, torch.nn.utils.clip_grad_norm_(other.parameters(), 0.1))
    for a, b in zip(mine.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    assert float(clip_gradient(mine.parameters(), None)) == pytest.approx(0.1, rel=1e-4)


def test_the_schedule_multiplies_each_groups_own_peak():
    state = fresh_state()
    for group in state.optimizer.param_groups:
        group["initial_lr"] = 0.5 if group["role"] == "embedding" else 0.1
    trainer(1).fit(state, dataset(), schedule(), runtime())
    rates = {group["role"]: group["lr"] for group in state.optimizer.param_groups}
    assert rates["embedding"] == pytest.approx(0.5 / 3)
    assert rates["matrix"] == pytest.approx(0.1 / 3)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_stopping_after_any_step_and_going_on_takes_the_same_steps(dropout):
    whole = trainer(9).fit(fresh_state(dropout=dropout), dataset(), schedule(), runtime())
    state = fresh_state(dropout=dropout)
    for stop_at in (2, 3, 7):
        trainer(9).fit(state, dataset(), schedule(), runtime(), stop_requested=lambda at=stop_at: state.step >= at)
        assert state.step == stop_at
    trainer(9).fit(state, dataset(), schedule(), runtime())
    for name, weight in weights(whole).items():
        assert torch.equal(weight, weights(state)[name]), name


def test_a_hook_that_draws_random_numbers_of_its_own_changes_nothing():
    """Evaluation and sampling have generators of their own; this shows what the loop itself guarantees."""

    class Watch:
        def after_step(self, state, result, progress):
            state.model.eval()
            with torch.inference_mode():
                state.model(torch.zeros(1, 4, dtype=torch.int64))
            state.model.train()

    plain = trainer(5).fit(fresh_state(dropout=0.3), dataset(), schedule(), runtime())
    watched = trainer(5).fit(fresh_state(dropout=0.3), dataset(), schedule(), runtime(), [Watch()])
    for name, weight in weights(plain).items():
        assert torch.equal(weight, weights(watched)[name]), name


def test_a_loss_that_is_not_a_number_stops_the_run_before_the_weights_change():
    state = fresh_state()
    before = weights(state)
    with torch.no_grad():
        state.model.embedding.weight[3] = float("inf")
    before["embedding.weight"][3] = float("inf")
    with pytest.raises(Diverged, match="step 0"):
        trainer(3).fit(state, dataset(), schedule(), runtime())
    assert state.step == 0
    for name, weight in weights(state).items():
        assert torch.equal(weight, before[name]), name


def test_every_setting_of_the_trainer_changes_what_is_learned():
    def learned(**settings):
        arguments = {
            "batch_size": 4,
            "order": ORDER,
            "max_steps": 6,
            "precision": "float32",
            "gradient_clip": 1.0,
            **settings,
        }
        state = Trainer(**arguments).fit(fresh_state(), dataset(), schedule(), runtime())
        return state.model.embedding.weight.detach().clone()

    plain = learned()
    for settings in ({"batch_size": 3}, {"max_steps": 5}, {"gradient_clip": 0.05}, {"precision": "bfloat16"}):
        assert not torch.equal(plain, learned(**settings)), settings
    assert torch.equal(plain, learned())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0, "max_steps": 1}, "batch_size"),
        ({}, "no limit"),
        ({"max_tokens": -3}, "max_tokens"),
        ({"max_steps": 1, "gradient_clip": 0.0}, "gradient_clip"),
    ],
)
def test_bad_settings_name_the_argument(settings, message):
    with pytest.raises(ValueError, match=message):
        Trainer(**{"batch_size": 1, "order": ORDER, **settings})
