"""Products on the kernels of an AMD processor against `F.linear`'s, on any processor that has oneDNN."""

from functools import partial

import pytest
import torch
from torch import nn

from atomiclm.model import Decoder, MultiHeadAttention, NextToken, NormalInit, components
from atomiclm.model.components import evaluating, quick_products
from atomiclm.training import Runtime

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


@pytest.fixture(autouse=True)
def slow_mkl(monkeypatch):
    monkeypatch.setattr(components, "mkl_is_slow", lambda: True)


@pytest.fixture
def called(monkeypatch):
    """The numbers of vectors that oneDNN multiplied."""
    counts, by_onednn = [], components._by_onednn

    def count(vectors, *rest):
        counts.append(vectors.shape[:-1].numel())
        return by_onednn(vectors, *rest)

    monkeypatch.setattr(components, "_by_onednn", count)
    return counts


def build(**changes):
    torch.manual_seed(0)
    attention = partial(MultiHeadAttention, num_heads=4, bias=True)
    settings = {"vocab_size": 52, "dim": 32, "num_layers": 2, "context_length": 16, "attention": attention}
    return Decoder(**settings | {"init": NormalInit(seed=1, std=0.3)} | changes)


TOKENS = torch.randint(52, (3, 17), generator=torch.Generator().manual_seed(0))


def gradients(model, objective, **runtime):
    model.zero_grad()
    with Runtime(device="cpu", **runtime).training(model):
        loss = objective(model, TOKENS[:, :-1], TOKENS[:, 1:], None, None)
        loss.total.backward()
    return {"loss": loss.total.detach()} | {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad
    }


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("chunk_tokens", [None, 20])
@pytest.mark.parametrize("tied", [False, True])
def test_losses_and_gradients_are_those_of_plain_products(tied, chunk_tokens, recomputed, called, monkeypatch):
    model, objective = build(tie_embeddings=tied), NextToken(chunk_tokens=chunk_tokens)
    model.layers[0].attention.key.weight.requires_grad_(False)
    quick = gradients(model, objective, checkpoint_activations=recomputed)
    heads = 1 if chunk_tokens is None else 0
    assert called.count(48) == (2 + recomputed) * 2 * 7 + 2 * heads  # seven matrices a layer, there and back
    assert called.count(20) == 2 * (1 - heads)
    monkeypatch.setattr(components, "mkl_is_slow", lambda: False)
    called.clear()
    plain = gradients(model, objective, checkpoint_activations=recomputed)
    assert not called
    torch.testing.assert_close(quick, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_scores_are_those_of_plain_products(rows, called):
    model = build().eval()
    tokens, last = TOKENS[:rows, :6], TOKENS[:rows, 6:7]
    with torch.no_grad():
        expected = model(TOKENS[:rows, :7])[:, -1:]
    with evaluating(model):
        cache = model.make_cache(rows, 7)
        model(tokens, cache)
        called.clear()
        scores = model(last, cache)
    assert len(called) == (15 if rows > 2 else 0)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_each_evaluation_sees_the_weights_of_its_moment():
    model = build()

    def scores():
        with evaluating(model):
            return model(TOKENS).clone()

    with quick_products(model):
        before = scores()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
        after = scores()
    with torch.no_grad():
        expected = model.eval()(TOKENS)
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-4)
    assert (before - after).abs().max() > 0.01
    assert not any("forward" in vars(module) or "linear" in vars(module) for module in model.modules())


def test_what_it_cannot_multiply_goes_to_torch(called):
    layer = nn.Linear(6, 4)
    with quick_products(layer):
        assert layer(torch.ones(0, 6)).shape == (0, 4)
        assert layer.double()(torch.ones(5, 6, dtype=torch.float64)).dtype == torch.float64
        with torch.autocast("cpu", torch.bfloat16):
            assert layer.float()(torch.ones(5, 6)).dtype == torch.bfloat16
        assert layer.to("meta")(torch.ones(5, 6, device="meta")).is_meta
    assert not called
