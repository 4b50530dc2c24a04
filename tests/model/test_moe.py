"""What a mixture of experts refuses, reports, counts and saves."""

import copy
from functools import partial

import pytest
import torch

from atomiclm.model import (
    Decoder,
    GroupLimitedSoftmax,
    MixtureOfExperts,
    PartError,
    SequentialPrediction,
    SigmoidTopK,
    SoftmaxTopK,
    parameter_roles,
)

DIM = 16


def tokens_of(seed=0, time=10):
    return torch.randn(2, time, DIM, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_experts": 4, "experts_per_token": 5}, "experts_per_token=5 must be at most num_experts=4"),
        ({"num_experts": 0}, "num_experts=0"),
        ({"experts_per_token": 0}, "experts_per_token=0"),
        ({"hidden_dim": 0}, "hidden_dim=0"),
        ({"multiple_of": 0}, "multiple_of=0"),
        ({"num_shared_experts": -1}, "num_shared_experts=-1 must be at least 0"),
        ({"shared_hidden_dim": 8}, "set num_shared_experts"),
        ({"num_shared_experts": 1, "shared_hidden_dim": 0}, "hidden_dim=0"),
        ({"balance_weight": -0.1}, "balance_weight=-0.1 must be at least 0"),
        ({"router_z_weight": float("nan")}, "router_z_weight=nan must be at least 0"),
        ({"activation": "gleu"}, "activation=gleu must be one of gelu"),
        ({"experts_per_token": 1}, "set normalize=False"),
        ({"router": partial(SoftmaxTopK, scale=0.0)}, "scale=0.0 must be greater than 0"),
        ({"router": partial(SigmoidTopK, bias_rate=-1.0)}, "bias_rate=-1.0 must be at least 0"),
        ({"router": partial(SigmoidTopK, num_groups=3)}, "num_groups=3 must divide num_experts=8"),
        ({"router": partial(SigmoidTopK, num_groups=8, groups_per_token=4)}, "leaves one expert a group"),
        ({"router": partial(SigmoidTopK, num_groups=2, groups_per_token=3)}, "at most num_groups=2"),
        (
            {"experts_per_token": 3, "router": partial(GroupLimitedSoftmax, num_groups=4, groups_per_token=1)},
            "more than the 2 experts of groups_per_token=1",
        ),
        ({"router": GroupLimitedSoftmax}, "GroupLimitedSoftmax needs num_groups, groups_per_token"),
    ],
)
def test_refusals_name_the_argument_and_the_fix(arguments, message):
    with pytest.raises(ValueError, match=message):
        MixtureOfExperts(DIM, **arguments)


def test_a_refusal_of_the_router_names_its_place():
    with pytest.raises(PartError) as error:
        Decoder(32, DIM, 1, 8, feedforward=partial(MixtureOfExperts, router=partial(SigmoidTopK, num_groups=5)))
    assert error.value.path == "feedforward.router"


# Those of GroupLimitedSoftmax, which no file of conf/model has; tests/property/test_every_knob.py turns the others.
KNOBS = {
    "groups_per_token": (
        {"router": partial(GroupLimitedSoftmax, num_groups=4, groups_per_token=1)},
        {"router": partial(GroupLimitedSoftmax, num_groups=4, groups_per_token=2)},
    ),
    "num_groups": (
        {"router": partial(GroupLimitedSoftmax, num_groups=2, groups_per_token=1)},
        {"router": partial(GroupLimitedSoftmax, num_groups=4, groups_per_token=1)},
    ),
    "best_of_group_or_two_best": (
        {"router": partial(GroupLimitedSoftmax, num_groups=2, groups_per_token=1, normalize=True)},
        {"router": partial(SigmoidTopK, num_groups=2, groups_per_token=1)},
    ),
}


@pytest.mark.parametrize("knob", KNOBS)
def test_every_knob_moves_the_output(knob):
    outputs = []
    for arguments in KNOBS[knob]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layer = MixtureOfExperts(DIM, hidden_dim=24, **arguments)
            layer.router.projection.weight.data.normal_()
            outputs.append(layer(tokens_of()))
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3


def test_widths_follow_the_arguments():
    layer = MixtureOfExperts(96, 8, 2, num_shared_experts=2)
    assert (layer.hidden_dim, layer.experts.hidden_dim, layer.shared.hidden_dim) == (64, 64, 128)
    assert MixtureOfExperts(96, 8, 2, num_shared_experts=2, multiple_of=48).hidden_dim == 96
    assert MixtureOfExperts(96, 8, 2, 40, num_shared_experts=3, shared_hidden_dim=10).shared.hidden_dim == 30
    assert MixtureOfExperts(96, 8, 2, 40).shared is None


def test_losses_are_reported_in_training_only():
    layer = MixtureOfExperts(DIM, balance_weight=0.5, router_z_weight=0.25)
    assert layer.auxiliary == {}
    layer(tokens_of())
    once = {name: loss.item() for name, loss in layer.auxiliary.items()}
    assert set(once) == {"load_balance", "router_z"}
    layer.balance_weight, layer.router_z_weight = 1.0, 1.0
    layer(tokens_of())
    assert layer.auxiliary["load_balance"].item() == pytest.approx(2 * once["load_balance"])
    assert layer.auxiliary["router_z"].item() == pytest.approx(4 * once["router_z"])
    layer.after_step()
    assert layer.auxiliary == {}, "the graph is let go"
    layer(tokens_of())
    layer.eval()(tokens_of())
    assert layer.auxiliary == {}
    assert MixtureOfExperts(DIM)(tokens_of()) is not None
    silent = MixtureOfExperts(DIM)
    silent(tokens_of())
    assert silent.auxiliary == {}


def test_a_decoder_adds_up_the_layers_and_tells_the_routers_of_a_step():
    feedforward = partial(MixtureOfExperts, balance_weight=0.1, router=partial(SigmoidTopK, bias_rate=0.5))
    model = Decoder(32, DIM, 3, 8, feedforward=feedforward)
    tokens = torch.randint(32, (4, 8), generator=torch.Generator().manual_seed(0))
    model(tokens)
    parts = [block.feedforward.auxiliary["load_balance"] for block in model.blocks]
    total = model.auxiliary_losses()
    assert list(total) == ["load_balance"]
    assert total["load_balance"].item() == pytest.approx(sum(part.item() for part in parts))
    total["load_balance"].backward()
    assert all(block.feedforward.router.projection.weight.grad.abs().max() > 0 for block in model.blocks)
    model(tokens)
    loads = [block.feedforward.router.load.clone() for block in model.blocks]
    model.after_step()
    for block, load in zip(model.blocks, loads, strict=True):
        assert load.sum() == 2 * 4 * 8 * 2, "both passes of the step, two experts a token"
        bias = block.feedforward.router.correction_bias
        assert torch.equal(bias, 0.5 * (load.mean() - load).sign())
        assert torch.equal(block.feedforward.load, load / load.mean())
        assert block.feedforward.router.load.sum() == 0
    model.after_step()
    assert torch.equal(bias, 0.5 * (loads[-1].mean() - loads[-1]).sign()), "no tokens, no change"


def test_nothing_is_counted_outside_training_and_a_zero_rate_freezes_the_bias():
    layer = MixtureOfExperts(DIM, router=partial(SigmoidTopK, bias_rate=0.0))
    layer.eval()(tokens_of())
    assert layer.router.load.sum() == 0
    layer.train()(tokens_of())
    assert layer.router.load.sum() == 2 * 10 * 2
    layer.router.after_step()
    assert layer.router.correction_bias.abs().sum() == 0


def test_the_bias_is_saved_and_the_counts_are_not():
    layer = MixtureOfExperts(DIM, router=SigmoidTopK)
    layer.router.correction_bias.normal_(generator=torch.Generator().manual_seed(0))
    state = layer.state_dict()
    assert set(state) == {
        "router.projection.weight", "router.correction_bias", "experts.gate", "experts.up", "experts.down",
    }  # fmt: skip
    other = MixtureOfExperts(DIM, router=SigmoidTopK)
    other.load_state_dict(state)
    assert torch.equal(other(tokens_of()), layer(tokens_of()))
    assert set(MixtureOfExperts(DIM).state_dict()) == set(state) - {"router.correction_bias"}


def test_roles_and_first_weights():
    model = Decoder(32, DIM, 2, 8, feedforward=partial(MixtureOfExperts, num_shared_experts=1))
    roles = parameter_roles(model)
    prefix = "blocks.1.feedforward"
    assert {name: roles[f"{prefix}.{name}"] for name in ("experts.gate", "experts.up", "experts.down")} == {
        "experts.gate": "matrix", "experts.up": "matrix", "experts.down": "residual",
    }  # fmt: skip
    assert roles[f"{prefix}.router.projection.weight"] == "matrix"
    assert roles[f"{prefix}.shared.down.weight"] == "residual"
    down, up = (model.get_parameter(f"{prefix}.experts.{part}") for part in ("down", "up"))
    assert (up.std() / down.std()).item() == pytest.approx(2.0, rel=0.1), "1 / sqrt(2 num_layers)"
    # By itself, it starts like nn.Linear.
    alone = MixtureOfExperts(DIM, hidden_dim=64).experts
    assert alone.up.abs().max().item() == pytest.approx(DIM**-0.5, rel=0.01)
    assert alone.down.abs().max().item() == pytest.approx(64**-0.5, rel=0.01)


@pytest.mark.parametrize("router", [SoftmaxTopK, SigmoidTopK])
def test_routing_stays_in_float32_under_autocast(router):
    layer = MixtureOfExperts(DIM, router=router, num_shared_experts=1, balance_weight=1.0)
    hidden = tokens_of().flatten(0, 1)
    expected = layer.router(hidden)
    with torch.autocast("cpu", torch.bfloat16):
        routing = layer.router(hidden)
        low = layer(hidden)
    assert torch.equal(routing.logits, expected.logits)
    assert torch.equal(routing.experts, expected.experts)
    assert routing.weights.dtype == layer.auxiliary["load_balance"].dtype == torch.float32
    assert low.dtype == torch.bfloat16, "as a dense network gives"
    assert 0 < (low - layer(hidden)).abs().max() < 0.02
    low.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_a_decoder_knows_how_many_parameters_a_token_meets():
    experts = partial(MixtureOfExperts, num_experts=6, num_shared_experts=1)
    model = Decoder(32, DIM, 3, 8, feedforward=experts)
    layer = model.blocks[0].feedforward
    everything = sum(parameter.numel() for parameter in layer.parameters())
    assert layer.num_active_parameters() == everything - 4 * 3 * DIM * layer.hidden_dim
    assert model.num_parameters() - model.num_active_parameters() == 3 * (everything - layer.num_active_parameters())
    ahead = Decoder(32, DIM, 3, 8, feedforward=experts, lookahead=SequentialPrediction)
    assert ahead.num_parameters() > model.num_parameters()
    assert ahead.num_active_parameters() == model.num_active_parameters(), "it predicts nothing outside training"


def test_an_expert_without_tokens_has_a_gradient_of_zero():
    layer = MixtureOfExperts(DIM, 8, 2)
    layer(tokens_of(time=1)[:1]).sum().backward()
    used = layer.experts.down.grad.abs().amax((1, 2)) > 0
    assert used.sum() == 2
    assert layer.experts.gate.grad.shape == layer.experts.gate.shape


def test_a_layer_can_be_copied_after_a_step():
    layer = MixtureOfExperts(DIM, balance_weight=0.1)
    layer(tokens_of()).sum().backward()
    layer.after_step()
    assert torch.equal(copy.deepcopy(layer)(tokens_of()), layer(tokens_of()))
