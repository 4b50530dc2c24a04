"""Mixture of experts against five of transformers' blocks: outputs and every gradient, in float64."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers_float64 import Float64, to_float64

from atomiclm.model import GroupLimitedSoftmax, MixtureOfExperts, SigmoidTopK, SoftmaxTopK
from atomiclm.model.moe import load_balance_loss, router_z_loss

DIM, HIDDEN = 20, 28


def mixtral(experts, chosen, act):
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = MixtralConfig(
        hidden_size=DIM, intermediate_size=HIDDEN, num_local_experts=experts, num_experts_per_tok=chosen, hidden_act=act
    )
    return MixtralSparseMoeBlock, config


def qwen3(experts, chosen, act, normalize):
    from transformers import Qwen3MoeConfig
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

    config = Qwen3MoeConfig(
        hidden_size=DIM, moe_intermediate_size=HIDDEN, num_experts=experts, num_experts_per_tok=chosen, hidden_act=act,
        norm_topk_prob=normalize,
    )  # fmt: skip
    return Qwen3MoeSparseMoeBlock, config


def olmoe(experts, chosen, act):
    from transformers import OlmoeConfig
    from transformers.models.olmoe.modeling_olmoe import OlmoeSparseMoeBlock

    config = OlmoeConfig(
        hidden_size=DIM, intermediate_size=HIDDEN, num_experts=experts, num_experts_per_tok=chosen, hidden_act=act
    )
    return OlmoeSparseMoeBlock, config


def deepseek2(experts, chosen, act, shared, scale, groups=None, of_token=None):
    from transformers import DeepseekV2Config
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe

    config = DeepseekV2Config(
        hidden_size=DIM, moe_intermediate_size=HIDDEN, n_routed_experts=experts, num_experts_per_tok=chosen,
        hidden_act=act, n_shared_experts=shared, routed_scaling_factor=scale, n_group=groups, topk_group=of_token,
        topk_method="group_limited_greedy" if groups else "greedy", num_attention_heads=4,
    )  # fmt: skip
    return DeepseekV2Moe, config


def deepseek3(experts, chosen, act, shared, scale, groups, of_token, normalize=True):
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

    config = DeepseekV3Config(
        hidden_size=DIM, moe_intermediate_size=HIDDEN, n_routed_experts=experts, num_experts_per_tok=chosen,
        hidden_act=act, n_shared_experts=shared, routed_scaling_factor=scale, n_group=groups, topk_group=of_token,
        norm_topk_prob=normalize,
    )  # fmt: skip
    return DeepseekV3MoE, config


def grouped(router, groups, of_token, **arguments):
    return partial(router, num_groups=groups, groups_per_token=of_token, **arguments)


CASES = {
    "mixtral": (partial(mixtral, 8, 2, "silu"), 0, SoftmaxTopK, "silu"),
    "mixtral_odd": (partial(mixtral, 5, 3, "gelu"), 0, SoftmaxTopK, "gelu"),
    "mixtral_alone": (partial(mixtral, 1, 1, "silu"), 0, SoftmaxTopK, "silu"),
    "qwen3_normalized": (partial(qwen3, 16, 4, "silu", True), 0, SoftmaxTopK, "silu"),
    "qwen3_plain": (partial(qwen3, 16, 4, "silu", False), 0, partial(SoftmaxTopK, normalize=False), "silu"),
    "olmoe": (partial(olmoe, 9, 8, "silu"), 0, partial(SoftmaxTopK, normalize=False), "silu"),
    "olmoe_switch": (partial(olmoe, 6, 1, "relu"), 0, partial(SoftmaxTopK, normalize=False), "relu"),
    "deepseek2_greedy": (
        partial(deepseek2, 10, 3, "silu", 2, 1.5), 2, partial(SoftmaxTopK, normalize=False, scale=1.5), "silu",
    ),
    "deepseek2_groups": (
        partial(deepseek2, 12, 3, "silu", 1, 16.0, 4, 2), 1, grouped(GroupLimitedSoftmax, 4, 2, scale=16.0), "silu",
    ),
    "deepseek3_groups": (
        partial(deepseek3, 16, 3, "silu", 1, 2.5, 4, 2), 1, grouped(SigmoidTopK, 4, 2, scale=2.5), "silu",
    ),
    "deepseek3_one_group": (
        partial(deepseek3, 7, 4, "silu", 3, 1.0, 1, 1), 3, SigmoidTopK, "silu",
    ),
    "deepseek3_sums_kept": (
        partial(deepseek3, 9, 2, "silu", 1, 0.5, 3, 2, False), 1,
        grouped(SigmoidTopK, 3, 2, scale=0.5, normalize=False), "silu",
    ),
}  # fmt: skip


def reference_of(case):
    """Ours and transformers' block with the same random weights (and, where there is one, the same random bias)."""
    make, shared, router, activation = CASES[case]
    block, config = make()
    config._experts_implementation = "eager"
    theirs = to_float64(block(config))
    experts = len(theirs.experts.down_proj)
    ours = MixtureOfExperts(
        DIM, experts, config.num_experts_per_tok, HIDDEN, shared, router=router, activation=activation
    ).double()
    generator = torch.Generator().manual_seed(len(case))
    for parameter in ours.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 3)
    if isinstance(ours.router, SigmoidTopK):
        bias = torch.randn(experts, generator=generator, dtype=torch.float64) / 5
        ours.router.correction_bias.copy_(bias)
        theirs.gate.e_score_correction_bias.copy_(bias)
    with torch.no_grad():
        for name, value in layout(ours, lambda parameter: parameter.data).items():
            theirs.get_parameter(name).copy_(value)
    return ours, theirs


def layout(ours, read):
    """What `read` gives of each of our parameters, in transformers' names and shapes."""
    values = {
        "gate.weight": read(ours.router.projection.weight),
        "experts.gate_up_proj": torch.cat([read(ours.experts.gate), read(ours.experts.up)], dim=1),
        "experts.down_proj": read(ours.experts.down),
    }
    if ours.shared is not None:
        for part in ("gate", "up", "down"):
            values[f"shared_experts.{part}_proj.weight"] = read(getattr(ours.shared, part).weight)
    return values


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_equal_transformers(case):
    ours, theirs = reference_of(case)
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(3, 11, DIM, generator=generator, dtype=torch.float64)
    direction = torch.randn(3, 11, DIM, generator=generator, dtype=torch.float64)
    results = []
    for module in (ours, theirs):
        leaf = hidden.clone().requires_grad_()
        with Float64() if module is theirs else nullcontext():
            output = module(leaf)
        (output * direction).sum().backward()
        results.append((output, leaf.grad))
    for mine, reference in zip(*results, strict=True):
        assert (mine - reference).abs().max() < 1e-10 * max(1.0, reference.abs().max().item())
    for name, gradient in layout(ours, lambda parameter: parameter.grad).items():
        reference = theirs.get_parameter(name).grad
        assert (gradient - reference).abs().max() < 1e-10 * max(1.0, reference.abs().max().item()), name
    if case != "mixtral_alone":
        assert ours.router.projection.weight.grad.abs().max() > 1e-4


@pytest.mark.parametrize("case", CASES)
def test_choices_and_weights_equal_transformers(case):
    ours, theirs = reference_of(case)
    hidden = torch.randn(50, DIM, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with Float64():
        logits, weights, experts = theirs.gate(hidden)
    routing = ours.router(hidden)
    # DeepSeek's experts come in no particular order.
    mine, reference = torch.zeros_like(logits), torch.zeros_like(logits)
    mine.scatter_(1, routing.experts, routing.weights)
    reference.scatter_(1, experts, weights)
    assert torch.equal(mine != 0, reference != 0)
    assert (mine - reference).abs().max() < 1e-12
    assert (routing.logits - logits).abs().max() < 1e-12


@pytest.mark.parametrize(("experts", "chosen"), [(8, 2), (5, 1), (6, 6)])
def test_balance_loss_equals_transformers(experts, chosen):
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    layer = MixtureOfExperts(
        DIM, experts, chosen, HIDDEN, router=partial(SoftmaxTopK, normalize=False), balance_weight=0.3
    )
    hidden = 3 * torch.randn(2, 40, DIM, generator=torch.Generator().manual_seed(0))
    layer(hidden)
    logits = layer.router.projection(hidden).flatten(0, 1)
    reference = load_balancing_loss_func((logits,), experts, chosen)
    loss = layer.auxiliary["load_balance"]
    assert loss.item() == pytest.approx(0.3 * reference.item(), rel=1e-6)
    mine, expected = (torch.autograd.grad(x, layer.router.projection.weight)[0] for x in (loss, 0.3 * reference))
    assert (mine - expected).abs().max() < 1e-6


def test_losses_are_their_equations():
    layer = MixtureOfExperts(DIM, 7, 3, HIDDEN, router=SigmoidTopK).double()
    layer.router.correction_bias.normal_(generator=torch.Generator().manual_seed(1))
    routing = layer.router(torch.randn(30, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    scores = [[1 / (1 + (-x).exp()) for x in row] for row in routing.logits]
    chosen = [sum(int(e in row) for row in routing.experts.tolist()) / 30 for e in range(7)]
    shares = [sum(row[e] / sum(row) for row in scores) / 30 for e in range(7)]
    expected = 7 * sum(f * p for f, p in zip(chosen, shares, strict=True))
    assert load_balance_loss(routing).item() == pytest.approx(expected.item(), rel=1e-12)
    expected = sum(sum(x.exp() for x in row).log() ** 2 for row in routing.logits) / 30
    assert router_z_loss(routing).item() == pytest.approx(expected.item(), rel=1e-12)


COSTS = {
    "plain": {},
    "shared": {"num_shared_experts": 2, "shared_hidden_dim": 12},
    "sigmoid": {"router": grouped(SigmoidTopK, 2, 1)},
    "unnormalized": {"router": partial(SoftmaxTopK, normalize=False), "activation": "relu"},
    "losses": {"balance_weight": 0.1, "router_z_weight": 0.1},
}


@pytest.mark.parametrize("variant", COSTS)
def test_costs_equal_what_torch_counts_and_keeps(variant):
    from torch.utils.flop_counter import FlopCounterMode

    layer = MixtureOfExperts(DIM, 6, 3, HIDDEN, **COSTS[variant])
    hidden = torch.randn(2, 64, DIM, requires_grad=True)
    parameters = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with FlopCounterMode(display=False) as forward, saved_tensors_hooks(note, lambda tensor: tensor):
        output = layer(hidden)
    with FlopCounterMode(display=False) as backward:
        output.sum().backward()
    assert forward.get_total_flops() == 128 * layer.flops_per_token(64)
    assert backward.get_total_flops() == 2 * forward.get_total_flops()
    elements = sum(size for size, _ in kept.values()) / 4
    # All but the loads, of which there is one number an expert, whatever the number of tokens.
    assert 0 <= elements / 128 - layer.activation_elements_per_token(64) < 0.1
    assert layer.flops_per_token(64) == layer.flops_per_token(1) == 2 * layer.num_active_parameters()
    routed = 3 * DIM * HIDDEN
    assert sum(p.numel() for p in layer.parameters()) == layer.num_active_parameters() + (6 - 3) * routed
