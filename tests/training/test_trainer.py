"""The loop: what it computes, and that watching it, cutting it or resuming it changes nothing."""

import numpy as np
import pytest
import torch
from small_run import CONTEXT_LENGTH, CPU, ORDER, dataset, fresh_state, loss_of, runtime, schedule, trainer, weights

from atomiclm.data import Batch
from atomiclm.model import NextToken
from atomiclm.training import ExponentialAverage, Runtime, Trainer
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


def test_a_device_is_waited_for_once_a_step_and_meanwhile_the_next_batch_is_made(monkeypatch):
    events, batches = [], dataset()

    class Watched:
        context_length = batches.context_length

        def batch(self, step, batch_size):
            events.append(step)
            return batches.batch(step, batch_size)

    read = Runtime.read
    monkeypatch.setattr(Runtime, "read", lambda *given: events.append("read") or read(*given))
    for name in ("__float__", "__bool__", "item"):
        method = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda *given, name=name, method=method: events.append(name) or method(*given)
        )
    state = trainer(3, batch_size=2).fit(fresh_state(), Watched(), schedule(), runtime(micro_batch_size=1))
    assert events == [0, 1, "read", 2, "read", "read"]
    monkeypatch.undo()
    same = trainer(3, batch_size=2).fit(fresh_state(), batches, schedule(), runtime(micro_batch_size=1))
    assert all(torch.equal(value, weights(same)[name]) for name, value in weights(state).items())


@pytest.mark.parametrize("micro_batch_size", [1, 3])
@pytest.mark.parametrize("counted", ["all", "some", "few"])
def test_accumulation_gives_the_gradient_of_the_whole_batch(micro_batch_size, counted):
    """Also where the pieces have very different numbers of targets that count: some have none."""
    batch = dataset().batch(0, 6)
    generator = np.random.default_rng(0)
    masks = {
        "all": None,
        "some": generator.random((6, CONTEXT_LENGTH)) < np.array([[0.9], [0.1], [0.5], [0.0], [0.3], [1.0]]),
        "few": np.arange(6 * CONTEXT_LENGTH).reshape(6, CONTEXT_LENGTH) % 37 == 1,
    }
    batch = Batch(batch.inputs, batch.targets, masks[counted])
    whole, pieces = fresh_state().model.double(), fresh_state().model.double()
    mean = accumulate(loss_of(whole, z_loss=0.01), batch, None, CPU)
    split = accumulate(loss_of(pieces, z_loss=0.01), batch, micro_batch_size, CPU)
    torch.testing.assert_close(split.nats, mean.nats)
    torch.testing.assert_close(split.terms, mean.terms)
    assert split.targets == mean.targets == (96 if masks[counted] is None else masks[counted].sum())
    logits = whole(torch.from_numpy(batch.inputs))
    targets = torch.from_numpy(batch.targets)
    mask = torch.ones_like(targets, dtype=torch.bool) if batch.mask is None else torch.from_numpy(batch.mask)
    expected = torch.nn.functional.cross_entropy(logits[mask], targets[mask])
    torch.testing.assert_close(mean.nats.double(), expected, rtol=1e-6, atol=0)
    for mine, other in zip(whole.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-9, atol=1e-12)


def test_the_gradient_is_that_of_the_mean_over_counted_targets():
    batch = dataset().batch(0, 4)
    mask = np.zeros_like(batch.targets, dtype=bool)
    mask[:, 5:9] = True
    mine, other = fresh_state().model.double(), fresh_state().model.double()
    accumulate(loss_of(mine), Batch(batch.inputs, batch.targets, mask), 3, CPU)
    logits = other(torch.from_numpy(batch.inputs))[:, 5:9]
    torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.from_numpy(batch.targets)[:, 5:9].flatten()
    ).backward()
    for a, b in zip(mine.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-11)


def test_a_batch_in_which_nothing_counts_is_refused():
    batch = dataset().batch(0, 2)
    with pytest.raises(ValueError, match="no target"):
        accumulate(loss_of(fresh_state().model), Batch(batch.inputs, batch.targets, batch.targets < 0), None, CPU)


def test_clipping_equals_torch():
    mine, other = fresh_state().model, fresh_state().model
    for model in (mine, other):
        accumulate(loss_of(model), dataset().batch(0, 2), None, CPU)
    norm = clip_gradient([each.grad for each in mine.parameters()], 0.1)
    torch.testing.assert_close(norm, torch.nn.utils.clip_grad_norm_(other.parameters(), 0.1))
    for a, b in zip(mine.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    assert float(clip_gradient([each.grad for each in mine.parameters()], None)) == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize("limit", [None, 0.1])
def test_clipping_without_gradients_has_the_norm_0(limit):
    assert float(clip_gradient([], limit)) == 0.0


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
    changes = (
        {"batch_size": 3},
        {"max_steps": 5},
        {"gradient_clip": 0.05},
        {"precision": "bfloat16"},
        {"objective": NextToken(z_loss=0.1)},
    )
    for settings in changes:
        assert not torch.equal(plain, learned(**settings)), settings
    assert torch.equal(plain, learned())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0, "max_steps": 1}, "batch_size"),
        ({}, "no limit"),
        ({"max_tokens": -3}, "max_tokens"),
        ({"max_steps": 1, "gradient_clip": 0.0}, "gradient_clip"),
        ({"max_steps": 1, "branch_from": ""}, "branch_from"),
    ],
)
def test_bad_settings_name_the_argument(settings, message):
    with pytest.raises(ValueError, match=message):
        Trainer(**{"batch_size": 1, "order": ORDER, **settings})


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_recomputing_activations_changes_not_a_bit(dropout, micro_batch_size):
    def learned(checkpoint_activations):
        machine = Runtime(
            device="cpu", micro_batch_size=micro_batch_size, checkpoint_activations=checkpoint_activations
        )
        return weights(trainer(4).fit(fresh_state(dropout=dropout), dataset(), schedule(), machine))

    kept, recomputed = learned(False), learned(True)
    for name, weight in kept.items():
        assert torch.equal(weight, recomputed[name]), name


def test_recomputing_activations_keeps_less_and_leaves_the_model_as_it_was():
    model = fresh_state().model
    batch = dataset().batch(0, 4)

    def kept_bytes(machine):
        kept = []
        noting = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t)
        with noting, machine.training(model):
            loss_of(model)(torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets), None, None)
        return sum(kept)

    plain = kept_bytes(Runtime(device="cpu"))
    assert kept_bytes(Runtime(device="cpu", checkpoint_activations=True)) < 0.6 * plain
    assert all("forward" not in vars(block) for block in model.blocks)


def test_terms_of_the_loss_and_the_model_are_told_of_each_step():
    results, after = [], []

    class Collect:
        def after_step(self, state, result, progress):
            results.append(result)

    state = fresh_state()
    state.model.after_step = lambda: after.append(state.step)
    settings = {"batch_size": 4, "order": ORDER, "max_steps": 3, "precision": "float32"}
    Trainer(**settings, objective=NextToken(z_loss=0.01)).fit(state, dataset(), schedule(), runtime(), [Collect()])
    assert after == [0, 1, 2]
    # A fresh model's logits are near 0, so that log Z is near ln 32.
    assert results[0].terms["z_loss"] == pytest.approx(0.01 * np.log(32) ** 2, rel=0.05)
    assert results[0].loss == pytest.approx(np.log(32), abs=0.2)
    assert results[0].targets == results[0].tokens == 4 * CONTEXT_LENGTH


def test_an_average_of_the_weights_changes_nothing_but_what_is_judged():
    plain = trainer(6).fit(fresh_state(), dataset(), schedule(), runtime())
    averaging = Trainer(
        batch_size=4, order=ORDER, max_steps=6, precision="float32", weight_average=ExponentialAverage(0.5)
    )
    averaged = averaging.fit(fresh_state(), dataset(), schedule(), runtime())
    for name, weight in weights(plain).items():
        assert torch.equal(weight, weights(averaged)[name]), name
        assert not torch.equal(averaged.averages[name], weight), name
    assert averaged.averaged_steps == 6
