"""What attention costs, keeps, refuses, and which kernel it runs in."""

from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from atomiclm.model import (
    AttentionContext,
    CappedSoftmax,
    CausalMask,
    Decoder,
    HeadNorm,
    LatentAttention,
    LayerPattern,
    MultiHeadAttention,
    NoAttention,
    NoPosition,
    OutputGate,
    PlainHeadNorm,
    RotaryEmbedding,
    SinkSoftmax,
    Softmax,
    WidthNorm,
    attention_kernel,
    look,
    parameter_roles,
    record_weights,
    recording_weights,
)
from atomiclm.model.attention_kernels import _Quarters, attend
from atomiclm.model.attention_mask import Visible

CPU = torch.device("cpu")
DIM, ROWS, TIME = 32, 16, 24
GROUPED = partial(MultiHeadAttention, num_heads=4, num_kv_heads=2)
LATENT = partial(LatentAttention, num_heads=4, latent_dim=10, content_dim=6, rotary_dim=4, value_dim=7)
KINDS = {
    "multi_head": partial(MultiHeadAttention, num_heads=4),
    "grouped": GROUPED,
    "wide_heads_biases": partial(GROUPED, head_dim=12, bias=True),
    "window": partial(GROUPED, window=5),
    "head_norm": partial(GROUPED, query_key_norm=HeadNorm),
    "width_norm": partial(GROUPED, query_key_norm=WidthNorm),
    "plain_head_norm": partial(GROUPED, query_key_norm=PlainHeadNorm),
    "capped": partial(GROUPED, scores=partial(CappedSoftmax, cap=2.0)),
    "sink": partial(GROUPED, scores=SinkSoftmax),
    "gated": partial(GROUPED, gate=OutputGate),
    "gated_by_head": partial(GROUPED, gate=partial(OutputGate, granularity="headwise")),
    "latent": LATENT,
    "latent_wide_values": partial(LATENT, value_dim=14),
    "latent_equal_widths_query_latent": partial(LATENT, value_dim=10, query_latent_dim=9),
    "latent_capped": partial(LATENT, scores=partial(CappedSoftmax, cap=2.0)),
    "none": partial(NoAttention, num_heads=4),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def context_of(layer, time=TIME):
    return AttentionContext.build(RotaryEmbedding(layer.head_dim), CausalMask(time, time, CPU))


@every_kind
def test_flops_equal_torch_counter(kind):
    """Of the layer as it runs, forward and backward; the explicit kernel is made of products that the counter knows."""
    from torch.utils.flop_counter import FlopCounterMode

    layer = KINDS[kind](dim=DIM)
    hidden = torch.randn(ROWS, TIME, DIM, requires_grad=True)
    with attention_kernel("auto" if kind == "none" else "explicit"):
        with FlopCounterMode(display=False) as forward:
            total = layer(hidden * 1.0, context_of(layer)).sum()
        with FlopCounterMode(display=False) as backward:
            total.backward()
    assert forward.get_total_flops() == layer.flops_per_token(TIME) * ROWS * TIME
    assert backward.get_total_flops() == 2 * forward.get_total_flops()


@every_kind
def test_activations_are_what_autograd_keeps(kind):
    layer = KINDS[kind](dim=DIM)
    parameters = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage
        return tensor

    hidden = torch.randn(ROWS, TIME, DIM, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outcome = layer(hidden * 1.0, context_of(layer))
    assert outcome.shape == hidden.shape
    kept = sum(storage.nbytes() for storage in storages.values()) / 4 / (ROWS * TIME)
    assert layer.activation_elements_per_token(TIME) == pytest.approx(kept, rel=0.05)


@every_kind
@pytest.mark.parametrize("max_length", [3, 20])
def test_the_cache_is_as_large_as_it_says(kind, max_length):
    layer = KINDS[kind](dim=DIM)
    cache = layer.make_cache(ROWS, max_length, torch.bfloat16)
    allocated = sum(tensor.untyped_storage().nbytes() for tensor in cache.tensors)
    assert allocated == 2 * ROWS * layer.cache_elements(max_length)


def test_cache_of_a_window_stops_growing():
    layer = KINDS["window"](dim=DIM)
    assert [layer.cache_elements(length) for length in (1, 4, 5, 6, 1000)] == [32, 128, 160, 160, 160]
    local_global = Decoder(29, DIM, 6, 64, attention=partial(GROUPED, window=[8] * 5 + [None]))
    assert local_global.cache_bytes(64, 1) == 32 * (5 * 8 + 64)
    assert KINDS["latent"](dim=DIM).cache_elements(64) == 14 * 64


@pytest.mark.parametrize("window", [1, 5, 23, 24, 30, None])
def test_attended_keys_are_those_of_the_mask(window):
    layer = partial(GROUPED, window=window)(dim=DIM)
    assert layer.attended_keys(TIME) == pytest.approx(CausalMask(TIME, TIME, CPU).allowed(window).sum().item() / TIME)


def test_a_list_of_windows_repeats_over_the_layers():
    windows = [block.attention.layer_window for block in _layers(window=[3, 4, None], num_layers=5)]
    assert windows == [3, 4, None, 3, 4]
    assert [block.attention.layer_window for block in _layers(window=7, num_layers=2)] == [7, 7]


def _layers(num_layers, **options):
    return Decoder(29, DIM, num_layers, 16, attention=partial(GROUPED, **options)).blocks


def test_roles_and_counts_of_the_components():
    parts = {"query_key_norm": HeadNorm, "scores": SinkSoftmax, "gate": OutputGate}
    layer = GROUPED(dim=DIM, bias=True, output_bias=False, **parts)
    roles = parameter_roles(layer)
    assert roles == {
        "query.weight": "matrix",
        "query.bias": "bias",
        "key.weight": "matrix",
        "key.bias": "bias",
        "value.weight": "matrix",
        "value.bias": "bias",
        "query_key_norm.query": "gain",
        "query_key_norm.key": "gain",
        "scores.sink": "bias",
        "gate.projection.weight": "matrix",
        "output.weight": "residual",
    }
    assert sum(parameter.numel() for parameter in layer.parameters()) == 3 * 1024 + 1024 + 64 + 8 + 8 + 4
    assert not list(NoAttention(DIM, 4).parameters())


def test_a_layer_says_what_it_was_built_with():
    layer = GROUPED(dim=DIM, window=[3, None], scores=partial(CappedSoftmax, cap=5.0, scale=0.1), layer=3)
    said = (layer.num_kv_heads, layer.head_dim, layer.bias, layer.output_bias, layer.window, layer.layer)
    assert said == (2, 8, False, False, [3, None], 3)
    assert (layer.scores.cap, layer.scores.scale, layer.query_key_norm, layer.gate) == (5.0, 0.1, None, None)
    latent = LATENT(dim=DIM, query_latent_dim=9)
    assert (latent.head_dim, latent.rotary_dim, latent.query_latent_dim, latent.eps) == (4, 4, 9, 1e-6)


@pytest.mark.parametrize("kind", ["grouped", "window", "head_norm", "capped", "sink", "gated", "latent"])
def test_bfloat16_autocast_keeps_dtypes_together(kind):
    """Norms and rotations do not widen keys; a cache of autocast's dtype decodes what one pass computes."""
    model = Decoder(29, DIM, 2, 24, attention=KINDS[kind])
    tokens = torch.randint(29, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        whole = model(tokens)
        cache = model.make_cache(2, 16)
        assert {tensor.dtype for layer in cache.layers for tensor in layer.tensors} == {torch.bfloat16}
        with torch.no_grad():
            parts = torch.cat([model(part, cache) for part in tokens.split([6, 1, 1, 8], dim=1)], 1)
    assert (parts.float() - whole.float()).abs().max() < 0.05
    whole.float().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("scores", [Softmax, partial(CappedSoftmax, cap=2.0), SinkSoftmax])
def test_dropout_of_weights_in_training_only(scores):
    layer = GROUPED(dim=DIM, scores=scores, dropout=0.5)
    hidden, context = torch.randn(2, TIME, DIM), context_of(layer)
    with torch.random.fork_rng():
        assert not torch.equal(layer(hidden, context), layer(hidden, context))
        layer.eval()
        assert torch.equal(layer(hidden, context), layer(hidden, context))


def test_a_kernel_that_cannot_is_refused_and_the_choice_ends_with_the_block():
    layer = GROUPED(dim=DIM, scores=SinkSoftmax)
    hidden, context = torch.randn(2, TIME, DIM), context_of(layer)
    with (
        attention_kernel("sdpa"),
        pytest.raises(ValueError, match="kernel=sdpa cannot compute SinkSoftmax; use one of"),
    ):
        layer(hidden, context)
    dropping = GROUPED(dim=DIM, dropout=0.1)
    with attention_kernel("flex"), pytest.raises(ValueError, match="kernel=flex cannot drop"):
        dropping(hidden, context)
    unknown = "kernel='fast' is not known; give one of auto, explicit, sdpa, flex"
    with pytest.raises(ValueError, match=unknown), attention_kernel("fast"):
        pass
    layer(hidden, context)


def test_a_plain_softmax_runs_fused():
    """With no kernel of torch's allowed, the default fails and the explicit one does not notice."""
    layer = GROUPED(dim=DIM)
    hidden, context = torch.randn(2, TIME, DIM), context_of(layer)
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION]):
        with pytest.raises(RuntimeError):
            layer(hidden, context)
        with attention_kernel("explicit"):
            layer(hidden, context)


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("window", [None, 5])
def test_training_in_bfloat16_on_a_cpu_is_as_exact_as_the_fused_kernel(monkeypatch, window, documents):
    """Both beside the fused kernel in float64, with gradients; and beyond so many keys the fused one is taken."""
    rows = torch.arange(TIME).div(9, rounding_mode="floor").expand(2, -1) if documents else None
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(2, heads, TIME, 8, generator=generator) for heads in (4, 2, 2, 4)]
    fused = []
    sdpa = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: fused.append(1) or sdpa(*a, **k)
    )

    def found(kernel, dtype):
        *inputs, direction = [each.bfloat16().to(dtype) for each in given]
        inputs = [each.requires_grad_() for each in inputs]
        with attention_kernel(kernel):
            mixed = attend(
                *inputs, Visible(CausalMask(TIME, TIME, device=CPU, documents=rows), window, None, None), Softmax()
            )
        return [mixed.double(), *(g.double() for g in torch.autograd.grad(mixed, inputs, direction))]

    exact = found("sdpa", torch.float64)
    by_fused = found("sdpa", torch.bfloat16)
    fused.clear()
    for most_keys in (TIME, TIME - 1):  # beyond so many, a quarter of the queries at a time
        monkeypatch.setattr("atomiclm.model.attention_kernels._NARROW_KEYS", most_keys)
        auto = found("auto", torch.bfloat16)
        assert not fused
        for mine, other, true in zip(auto, by_fused, exact, strict=True):
            assert (mine - true).norm() < 1.5 * (other - true).norm() + 1e-3 * true.norm()
            assert 0 < (mine - true).norm() < 0.02 * true.norm()


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("time", [24, 27])
def test_a_quarter_of_the_queries_at_a_time_is_all_of_attention(time, with_bias):
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(2, heads, time, width, dtype=torch.float64, generator=generator, requires_grad=True)
        for heads, width in ((4, 8), (2, 8), (2, 6))
    ]
    direction = torch.randn(2, 4, time, 6, dtype=torch.float64, generator=generator)
    bias = torch.randn(4, time, time, dtype=torch.float64, generator=generator) if with_bias else None
    visible = Visible(CausalMask(time, time, device=CPU), None, None, bias)
    with attention_kernel("explicit"):
        expected = attend(*inputs, visible, Softmax(scale=0.3))
    mixed = _Quarters.apply(*inputs, visible.additive(torch.float64), 0.3)
    assert (mixed - expected).abs().max() < 1e-12
    for mine, true in zip(*(torch.autograd.grad(each, inputs, direction) for each in (mixed, expected)), strict=True):
        assert (mine - true).abs().max() < 1e-12


def layouts_of_a_cache(dtype=torch.float64):
    """(3 rows, 2 heads, 9 of 14 slots, width 8), by how they lie in memory; the last two are no table of vectors."""
    numbers = torch.randn(3 * 2 * 14 * 9, generator=torch.Generator().manual_seed(0)).bfloat16().to(dtype)
    whole = numbers[: 3 * 2 * 14 * 8]
    return {
        "heads_first": whole.view(3, 2, 14, 8)[:, :, 2:11],
        "slots_first": whole.view(3, 14, 2, 8).transpose(1, 2)[:, :, 2:11],
        "one_for_all_heads": whole.view(3, 1, 28, 8)[:, :, :9].expand(-1, 2, -1, -1),
        "within_wider": numbers.view(3, 2, 14, 9)[:, :, 2:11, 1:],
        "features_first": whole.view(3, 2, 8, 14)[..., 2:11].mT,
    }


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("documents", [None, torch.tensor([[0] * 9, [1] * 4 + [0] * 5, [-1] * 3 + [0] * 6])])
@pytest.mark.parametrize("layout", layouts_of_a_cache())
@pytest.mark.parametrize("num_heads", [2, 4])
def test_a_large_step_of_decoding_is_the_same_function(monkeypatch, num_heads, layout, documents, with_bias):
    called = []
    for name in ("embedding_bag", "scaled_dot_product_attention"):
        function = getattr(torch.nn.functional, name)
        monkeypatch.setattr(
            torch.nn.functional, name, lambda *a, f=function, n=name, **k: called.append(n) or f(*a, **k)
        )

    def found(kernel, dtype):
        called.clear()
        generator = torch.Generator().manual_seed(1)
        query = torch.randn(3, num_heads, 1, 8, generator=generator).bfloat16().to(dtype)
        bias = torch.randn(num_heads, 1, 9, generator=generator) if with_bias else None
        value = layouts_of_a_cache(dtype)[layout]
        visible = Visible(CausalMask(1, 9, device=CPU, documents=documents), None, None, bias)
        with torch.no_grad(), attention_kernel(kernel):
            return attend(query, value.flip(2), value, visible, Softmax()).double()

    monkeypatch.setattr("atomiclm.model.attention_kernels._STEP_NUMBERS", 3 * 2 * 9 * 8)
    exact = found("auto", torch.float64)
    # Plain products where heads share keys, or where values are no table.
    is_table = num_heads == 2 and layout not in ("within_wider", "features_first")
    assert called == ["embedding_bag"] * is_table
    rounded = found("auto", torch.bfloat16)
    truth = found("explicit", torch.float64)
    assert (exact - truth).abs().max() < 1e-12
    assert 0 < (rounded - truth).norm() < 2**-7 * truth.norm()
    monkeypatch.setattr("atomiclm.model.attention_kernels._STEP_NUMBERS", 3 * 2 * 9 * 8 + 1)
    found("auto", torch.float64)
    assert called == ["scaled_dot_product_attention"]


def test_a_softmax_that_is_overridden_is_not_run_fused():
    class Uniform(Softmax):
        def weights(self, scores):
            return (scores > -torch.inf).to(scores.dtype) / (scores > -torch.inf).sum(-1, keepdim=True)

    class Renamed(Softmax):
        pass

    assert Uniform.kernels == ("explicit",)
    assert Renamed.kernels == Softmax.kernels
    hidden = torch.randn(2, TIME, DIM, generator=torch.Generator().manual_seed(0))
    layer = GROUPED(dim=DIM, scores=Uniform)
    value = layer.value(hidden).unflatten(-1, (2, -1)).repeat_interleave(2, 2).flatten(2)
    mean = value.cumsum(1) / torch.arange(1, TIME + 1)[:, None]
    assert (layer(hidden, context_of(layer)) - layer.output(mean)).abs().max() < 1e-5


REFUSALS = {
    "window=0: 0 is less than 1": {"attention": partial(GROUPED, window=0)},
    "window=\\[4, 0\\]: 0 is less": {"attention": partial(GROUPED, window=[4, 0])},
    "window=\\[\\] says nothing": {"attention": partial(GROUPED, window=[])},
    "attention.scores: cap=0.0 must be greater": {
        "attention": partial(GROUPED, scores=partial(CappedSoftmax, cap=0.0))
    },
    "attention.scores: scale=-1.0 must": {"attention": partial(GROUPED, scores=partial(Softmax, scale=-1.0))},
    "attention.query_key_norm: eps=0.0": {"attention": partial(GROUPED, query_key_norm=partial(HeadNorm, eps=0.0))},
    "attention.gate: granularity=full must be one of elementwise, headwise": {
        "attention": partial(GROUPED, gate=partial(OutputGate, granularity="full"))
    },
    "attention: latent_dim=0 must be": {"attention": partial(LATENT, latent_dim=0)},
    "attention: query_latent_dim=0 must be": {"attention": partial(LATENT, query_latent_dim=0)},
    "attention.components.local: window=0": {
        "attention": LayerPattern({"local": partial(GROUPED, window=0)}, ["local"])
    },
}


@pytest.mark.parametrize("message", REFUSALS)
def test_mistakes_are_refused_with_their_place(message):
    with pytest.raises(ValueError, match=message):
        Decoder(29, DIM, 1, 16, **REFUSALS[message])


class CountedAttention(MultiHeadAttention):
    """Attends twice in a pass and adds what it got."""

    def forward(self, hidden, context, cache=None):
        return super().forward(hidden, context, cache) + super().forward(-hidden, context, cache)


class OwnMean(torch.nn.Module):
    """No subclass of ours, without ``attend`` and without weights: a running mean."""

    def __init__(self, dim):
        super().__init__()
        self.num_heads, self.head_dim = 1, dim

    def forward(self, hidden, context, cache=None):
        return hidden.cumsum(1) / torch.arange(1, hidden.shape[1] + 1)[:, None]

    def make_cache(self, batch_size, max_length, dtype): ...
    def cache_elements(self, length): ...
    def attended_keys(self, length): ...
    def flops_per_token(self, context_length): ...
    def activation_elements_per_token(self, context_length): ...


class OwnWeights(OwnMean):
    """The same by weights, which it offers."""

    def forward(self, hidden, context, cache=None):
        weights = torch.ones(len(hidden), 1, hidden.shape[1], hidden.shape[1]).tril()
        weights = weights / weights.sum(-1, keepdim=True)
        record_weights(weights)
        return (weights @ hidden[:, None])[:, 0]


def test_look_at_attention_of_other_kinds():
    ours = partial(MultiHeadAttention, num_heads=4)
    kinds = {"ours": ours, "none": NoAttention, "twice": partial(CountedAttention, num_heads=4)}
    kinds |= {"mean": OwnMean, "weights": OwnWeights}
    attention = LayerPattern(kinds, list(kinds))
    model = Decoder(11, 32, 5, 8, attention=attention, dropout=0.5, position=NoPosition)
    tokens = torch.tensor([[1, 2, 3]])
    seen = look(model, tokens)
    shapes = [None if weights is None else tuple(weights.shape) for weights in seen.attention]
    assert shapes == [(1, 4, 3, 3), None, (1, 8, 3, 3), None, (1, 1, 3, 3)]
    assert not seen.logits.requires_grad
    assert not any(tensor.is_inference() for tensor in seen.hidden), "a probe could not be trained on them"
    assert model.training, "looking changes nothing"
    with pytest.raises(ValueError, match="token ids"):
        look(model, tokens + 20)
    assert model.training
    assert not any(block._forward_hooks for block in model.blocks)
    torch.testing.assert_close(model.eval()(tokens), seen.logits)


def test_recorded_weights_have_gradients():
    model = Decoder(vocab_size=11, dim=32, num_layers=2, context_length=8)
    with recording_weights() as recorded:
        logits = model(torch.tensor([[1, 2, 3]]))
    first, last = torch.autograd.grad(logits[0, -1, 4], recorded)
    assert first.shape == last.shape == (1, 4, 3, 3)
    assert first[0, :, 2].all()
    assert last[0, :, 2].all()
    assert not last[0, :, :2].any(), "earlier tokens act on the last one's scores through earlier layers only"
