"""Feed-forward networks against transformers' and torch's own: outputs and every gradient, in float64."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from atomiclm.model import GEGLU, GLU, Bilinear, ClampedSwiGLU, FeedForward, GatedFeedForward, ReGLU, SwiGLU

DIM, HIDDEN = 24, 40
PLAIN = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "relu": "relu", "relu_squared": "relu2", "silu": "silu"}
GATED = {
    "swiglu": (SwiGLU, {}, "silu"),
    "geglu": (GEGLU, {}, "gelu"),
    "geglu_tanh": (GEGLU, {"activation": "gelu_tanh"}, "gelu_pytorch_tanh"),
    "reglu": (ReGLU, {}, "relu"),
    "glu": (GLU, {}, "sigmoid"),
    "bilinear": (Bilinear, {}, "linear"),
    "squared": (GatedFeedForward, {"activation": "relu_squared"}, "relu2"),
}


def check_equal(ours, theirs, names):
    """Copy our weights to the reference; outputs and gradients of input and weights must be the same."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = ours.double(), theirs.double()
    for parameter in ours.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 4)
    counterparts = dict(theirs.named_parameters())
    assert len(counterparts) == len(dict(ours.named_parameters()))
    for name, parameter in ours.named_parameters():
        part, kind = name.split(".")
        counterparts[f"{names[part]}.{kind}"].data.copy_(parameter.data)
    hidden = 3 * torch.randn(3, 5, DIM, generator=generator, dtype=torch.float64)
    direction = torch.randn(3, 5, DIM, generator=generator, dtype=torch.float64)
    results = []
    for module in (ours, theirs):
        leaf = hidden.clone().requires_grad_()
        output = module(leaf)
        (output * direction).sum().backward()
        results.append((output, leaf.grad))
    for mine, reference in zip(*results, strict=True):
        assert (mine - reference).abs().max() < 1e-10
    for name, parameter in ours.named_parameters():
        part, kind = name.split(".")
        assert (parameter.grad - counterparts[f"{names[part]}.{kind}"].grad).abs().max() < 1e-10, name


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", PLAIN)
def test_plain_network_equals_nemotron(activation, bias):
    from transformers import NemotronConfig
    from transformers.models.nemotron.modeling_nemotron import NemotronMLP

    config = NemotronConfig(hidden_size=DIM, intermediate_size=HIDDEN, hidden_act=PLAIN[activation], mlp_bias=bias)
    ours = FeedForward(DIM, HIDDEN, activation, bias)
    check_equal(ours, NemotronMLP(config), {"up": "up_proj", "down": "down_proj"})


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", GATED)
def test_gated_network_equals_llama(name, bias):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    ours, arguments, activation = GATED[name]
    config = LlamaConfig(
        hidden_size=DIM, intermediate_size=HIDDEN, hidden_act=activation, mlp_bias=bias, num_attention_heads=4
    )
    names = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
    check_equal(ours(DIM, HIDDEN, bias=bias, **arguments), LlamaMLP(config), names)


def test_gated_linear_unit_equals_torch():
    """torch's glu(a, b) is a * sigmoid(b)."""
    network = GLU(DIM, HIDDEN).double()
    hidden = torch.randn(7, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    halves = torch.cat([network.up(hidden), network.gate(hidden)], dim=-1)
    assert torch.allclose(network(hidden), network.down(F.glu(halves)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("alpha", "limit"), [(1.702, 7.0), (1.0, 0.8)])
def test_clamped_network_equals_an_expert_of_gpt_oss(alpha, limit):
    from transformers import GptOssConfig
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

    config = GptOssConfig(
        hidden_size=DIM, intermediate_size=HIDDEN, num_local_experts=1, swiglu_alpha=alpha, swiglu_limit=limit
    )
    config._experts_implementation = "eager"
    ours, theirs = (
        ClampedSwiGLU(DIM, HIDDEN, alpha=alpha, limit=limit, bias=True).double(),
        GptOssExperts(config).double(),
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(generator=generator)
        # There the columns of gate and up alternate, and a matrix has its inputs first.
        both = torch.stack([ours.gate.weight, ours.up.weight], dim=1).flatten(0, 1)
        theirs.gate_up_proj.copy_(both.T[None])
        theirs.gate_up_proj_bias.copy_(torch.stack([ours.gate.bias, ours.up.bias], dim=1).flatten()[None])
        theirs.down_proj.copy_(ours.down.weight.T[None])
        theirs.down_proj_bias.copy_(ours.down.bias[None])
    hidden = torch.randn(13, DIM, generator=generator, dtype=torch.float64).requires_grad_()
    nowhere, alone = torch.zeros(13, 1, dtype=torch.int64), torch.ones(13, 1, dtype=torch.float64)
    mine, reference = ours(hidden), theirs(hidden, nowhere, alone)
    assert (mine - reference).abs().max() < 1e-10
    (gradient,), (expected,) = (torch.autograd.grad(y.square().sum(), hidden) for y in (mine, reference))
    assert (gradient - expected).abs().max() < 1e-10 * expected.abs().max()
    assert (ours.gate(hidden) > limit).any(), "something was clamped"


def kept_for_backward(module, hidden):
    """float32 numbers that a forward pass leaves to autograd, every storage once, parameters not counted."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            # The tensor is held, so that no later storage gets the same address.
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        module(hidden)
    return sum(size for size, _ in kept.values()) / 4


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("network", [FeedForward, GatedFeedForward])
@pytest.mark.parametrize("activation", [*PLAIN, "sigmoid", "identity"])
def test_costs_equal_what_torch_counts_and_keeps(network, activation, bias):
    from torch.utils.flop_counter import FlopCounterMode

    module = network(DIM, HIDDEN, activation, bias=bias)
    hidden = torch.randn(2, 8, DIM, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        module(hidden)
    assert counter.get_total_flops() == 16 * module.flops_per_token(8)
    assert kept_for_backward(module, hidden) == 16 * module.activation_elements_per_token(8)


def test_costs_of_the_clamped_network():
    from torch.utils.flop_counter import FlopCounterMode

    module = ClampedSwiGLU(DIM, HIDDEN)
    hidden = torch.randn(2, 8, DIM, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        module(hidden)
    assert counter.get_total_flops() == 16 * module.flops_per_token(8)
    assert kept_for_backward(module, hidden) == 16 * module.activation_elements_per_token(8)
