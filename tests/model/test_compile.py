"""Every option of conf/model and every preset compiles whole, once for each kind of block, and learns as it does eager.

For breadth the graphs are run as they were captured, forward and backward (torch's aot_eager): what breaks a graph or
compiles again shows there. A few go through the code generator too.
"""

import copy
from functools import partial

import pytest
import torch
from small_model import PRESET_SIZES, groups, small_decoder, small_preset

from atomiclm.cli import UserError
from atomiclm.model import NextToken
from atomiclm.model.block import Block
from atomiclm.training import Runtime

STEPS = 50
OPTIONS = [f"{group}={option}" for group, options in groups().items() for option in options]
ALTERNATING = ("lookahead", "nope_every_fourth", "local_global", "deepseek_v2_lite", "gemma2", "smollm3")
"""Those with two kinds of block."""


def build(name):
    return small_preset(name) if name in PRESET_SIZES else small_decoder(name)


def losses(model, steps=STEPS, *, documents=False, autocast=False, **runtime):
    """Of `steps` steps of gradient descent on noise, and evaluations between them."""
    torch.manual_seed(3)
    tokens = torch.randint(model.vocab_size, (3, 24))
    mask = torch.rand(3, 24) > 0.3 if documents else None
    ids = (torch.arange(24) // 7).expand(3, 24) if documents else None
    optimizer, objective, found = torch.optim.SGD(model.parameters(), lr=0.002), NextToken(), []
    runtime = Runtime(device="cpu", **runtime)
    with runtime.training(model.train()), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for step in range(steps):
            if step % 20 == 1:
                with torch.no_grad():  # of another length, and the last batch of another size
                    model.eval()(tokens[:2, :9])
                    model.train()
            loss = objective(model, tokens, tokens.roll(-1, 1), mask, ids)
            total = loss.total / tokens.numel() + sum(loss.auxiliary.values())
            total.backward()
            found.append(float(total.detach()))
            optimizer.step()
            optimizer.zero_grad()
            model.after_step()
    return found


def follows(model, monkeypatch, backend, kinds, tolerance, steps=STEPS, **settings):
    from torch._dynamo.utils import counters  # seconds, which collecting the tests shall not take

    torch.compiler.reset()
    counters.clear()
    same = copy.deepcopy(model)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend, fullgraph=True))
    compiled = losses(model, steps, compile=True, **settings)
    assert 1 <= counters["stats"]["unique_graphs"] <= kinds
    assert not counters["graph_break"]
    eager = losses(same, steps, **settings)
    assert compiled[:10] == pytest.approx(eager[:10], rel=tolerance)
    assert compiled == pytest.approx(eager, rel=max(tolerance, 1e-2))  # later, other roundings have grown
    for name, buffer in model.named_buffers():
        if name.endswith("load"):  # each token was counted once
            assert buffer.sum() == same.get_buffer(name).sum(), name


@pytest.mark.one_in(40)
@pytest.mark.parametrize("name", [*OPTIONS, *PRESET_SIZES])
def test_each_compiles_once_and_follows_eager(name, monkeypatch):
    kinds = 2 if any(kind in name for kind in ALTERNATING) else 1
    follows(build(name), monkeypatch, "aot_eager", kinds, 1e-3)


ROUTED = ("model/feedforward=moe_shared", "model.feedforward.router.bias_rate=0.01",
          "model.feedforward.balance_weight=0.01", "model.feedforward.router_z_weight=0.01")  # fmt: skip
"""Its bias moves by what was counted, once a step."""


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"documents": True}, {"autocast": True}], ids=str)
@pytest.mark.parametrize("name", [("model/attention=sliding",), ("model/lookahead=sequential",), ROUTED], ids=str)
@pytest.mark.parametrize("recompute", [False, True])
def test_with_recomputation_documents_and_autocast(name, settings, recompute, monkeypatch):
    tolerance = 2e-2 if settings.get("autocast") else 1e-3
    kinds = 2 if "lookahead" in name[0] else 1
    model = small_decoder(*name)
    follows(model, monkeypatch, "aot_eager", kinds, tolerance, checkpoint_activations=recompute, **settings)
    assert all(bias.any() for name, bias in model.named_buffers() if name.endswith("correction_bias"))


@pytest.mark.parametrize("autocast", [False, True])
def test_experts_of_any_width(autocast, monkeypatch):
    """torch's grouped product takes rows of whole 16 bytes, and matched sizes are any number."""
    model = small_decoder("model/feedforward=moe", "model.feedforward.hidden_dim=11", "model.num_layers=2")
    follows(model, monkeypatch, "aot_eager", 1, 2e-2 if autocast else 1e-3, steps=4, autocast=autocast)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model/block=pre", "qwen3_moe", "gemma2"])
def test_as_generated_code(name, monkeypatch):
    follows(build(name), monkeypatch, "inductor", 2 if name == "gemma2" else 1, 1e-3, 20)


def test_every_block_is_compiled_and_in_training_alone(monkeypatch):
    model, called = small_decoder("model/lookahead=sequential"), []
    monkeypatch.setattr(torch, "compile", lambda run, dynamic: lambda *given: called.append(given[0]) or run(*given))
    losses(model, 2, compile=True)  # an evaluation is between the two
    assert called == 2 * [module for module in model.modules() if isinstance(module, Block)]


def test_a_run_is_not_changed_by_those_before_it_in_the_process(monkeypatch):
    """Sizes are no symbols, and what is compiled is used again."""
    from torch._dynamo.utils import counters

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True))
    torch.compiler.reset()
    models = [small_decoder(f"model.dim={dim}", "model.num_layers=2") for dim in (16, 24, 16)]
    counters.clear()
    found = [losses(model, 3, compile=True) for model in models]
    assert found[0] == found[2]
    assert counters["stats"]["unique_graphs"] == 2


def test_without_a_compiler_the_fix_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"runtime\.compile=true .* no-such-compiler; install one"):
        Runtime(device="cpu", compile=True).prepare()
