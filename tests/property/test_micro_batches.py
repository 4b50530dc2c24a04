"""How a batch is cut into micro-batches changes nothing that is learned or reported, whatever option is chosen.

The list is made from the options of conf/model, so an option added there is in it.
"""

import functools
from functools import partial

import numpy as np
import pytest
import torch
from small_model import groups, model_node

from atomiclm.config.build import build
from atomiclm.data import Batch, ShuffledWindows
from atomiclm.model import NextToken, NormalInit
from atomiclm.optim import Constant
from atomiclm.training import Runtime, Trainer, TrainState
from atomiclm.training.step import accumulate

ROWS, CONTEXT, STEPS = 8, 24, 2
CPU = torch.device("cpu")
EXPERTS = ["model/feedforward=moe", "model.feedforward.balance_weight=0.5", "model.feedforward.router_z_weight=0.3"]
QUICK = ("model/feedforward", "model/lookahead")
OPTIONS = [
    pytest.param([f"{group}={name}"], marks=() if group in QUICK else pytest.mark.slow, id=f"{group}={name}")
    for group, names in groups().items()
    if group != "model/init"
    for name in names
]
COMBINATIONS = [
    EXPERTS,
    [*EXPERTS, "model/lookahead=sequential", "model.lookahead.depth=2"],
    ["model/feedforward=moe_shared", "model.feedforward.balance_weight=0.5", "model.feedforward.router.bias_rate=0.1"],
]
OBJECTIVES = [NextToken(), NextToken(z_loss=0.1, chunk_tokens=7)]


class Rows:
    """Batches whose rows have very different numbers of targets that count, one of them none, and documents."""

    context_length = CONTEXT

    def batch(self, step, batch_size):
        generator = np.random.default_rng(step)
        text = generator.integers(61, size=(batch_size, CONTEXT + 1))
        counted = np.array([0.9, 0.1, 0.5, 0.0, 0.3, 1.0, 0.05, 0.7])[:, None]
        return Batch(
            text[:, :-1],
            text[:, 1:],
            generator.random((batch_size, CONTEXT)) < counted,
            np.cumsum(generator.random((batch_size, CONTEXT)) < 0.1, 1),
        )


composed = functools.cache(model_node)


def decoder(overrides):
    """In float64, with weights large enough for everything to matter."""
    model = build(composed("model.num_layers=2", *overrides))
    NormalInit(seed=2, std=0.2)(model)
    return model.double()


def learned(overrides, objective, micro_batch_size, **machine):
    """All tensors after steps of plain gradient descent, and what was reported of them."""
    model, reported = decoder(overrides), []

    class Collect:
        def after_step(self, state, result, progress):
            reported.append({"loss": result.loss, "norm": result.gradient_norm, **result.terms})

    state = TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1))
    trainer = Trainer(ROWS, ShuffledWindows(seed=0), max_steps=STEPS, gradient_clip=None, objective=objective)
    runtime = Runtime(device="cpu", micro_batch_size=micro_batch_size, **machine)
    trainer.fit(state, Rows(), Constant(), runtime, [Collect()])
    buffers = {name: buffer for name, buffer in model.named_buffers()}
    return {name: tensor.detach() for name, tensor in (dict(model.named_parameters()) | buffers).items()}, reported


def assert_same(one, other):
    (tensors, reported), (other_tensors, other_reported) = one, other
    for name, tensor in tensors.items():
        difference = (tensor - other_tensors[name]).abs().max()
        assert difference <= 1e-11 * max(1.0, tensor.abs().max()), name
    for figures, other_figures in zip(reported, other_reported, strict=True):
        # Reported figures are summed in float32.
        assert figures == pytest.approx(other_figures, rel=1e-5)


@pytest.mark.one_in(18)
@pytest.mark.parametrize("overrides", [*OPTIONS, *(pytest.param(part, id=" ".join(part)) for part in COMBINATIONS)])
def test_the_size_of_a_micro_batch_changes_nothing(overrides):
    for objective in OBJECTIVES if overrides in COMBINATIONS else OBJECTIVES[1:]:
        whole = learned(overrides, objective, None)
        for micro_batch_size in (1, 2, 4):
            assert_same(learned(overrides, objective, micro_batch_size), whole)


def test_nor_with_blocks_computed_twice():
    whole = learned(EXPERTS, NextToken(), None)
    assert_same(learned(EXPERTS, NextToken(), 2, checkpoint_activations=True), whole)


def test_terms_of_experts_are_means_over_all_tokens():
    """Against the whole batch in one pass without a trainer: the balance loss of pieces is that of the batch."""
    batch, model = Rows().batch(0, ROWS), decoder(EXPERTS)
    tokens, documents = torch.from_numpy(batch.inputs), torch.from_numpy(batch.documents)
    model.train()(tokens, documents=documents)
    expected = {name: loss.item() for name, loss in model.auxiliary_losses().items()}
    model.discard_step()
    cut = accumulate(partial(NextToken(), model), batch, 2, CPU, after_survey=model.after_survey)
    assert {name: term.item() for name, term in cut.terms.items()} == pytest.approx(expected, rel=1e-12)
    assert set(expected) == {"load_balance", "router_z"}


@pytest.mark.parametrize(("option", "passes"), [("moe", 8), ("moe_shared", 4)])
def test_a_survey_is_made_where_it_is_needed_and_drops_what_the_pass_will_drop(option, passes):
    model = decoder([f"model/feedforward={option}", "model.dropout=0.3"])
    routers = [block.feedforward.router for block in model.train().blocks]
    surveyed, embedded = [], []
    model.embedding.register_forward_hook(lambda *_: embedded.append(torch.is_grad_enabled()))

    def after_survey():
        model.after_survey()
        surveyed.extend(router.batch_load for router in routers)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        asked = after_survey if model.needs_survey else None
        accumulate(partial(NextToken(), model), Rows().batch(0, ROWS), 2, CPU, after_survey=asked)
    assert len(embedded) == passes
    assert all(embedded[-4:])
    assert not any(embedded[:-4])
    for router, load in zip(routers, surveyed, strict=False):
        assert torch.equal(router.load, load)
    model.after_step()
    assert all(router.batch_load is None for router in routers)
