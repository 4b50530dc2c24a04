"""Laws that every kind of attention keeps, with every position scheme, window, cache and packing of documents.

The combinations are generated; ``test_the_combinations`` prints how many there are.
"""

from functools import partial
from itertools import pairwise, product

import pytest
import torch

from atomiclm.model import (
    Alibi,
    CappedSoftmax,
    Decoder,
    HeadNorm,
    LatentAttention,
    LayerPattern,
    LearnedPosition,
    MultiHeadAttention,
    NoAttention,
    NoPosition,
    NormalInit,
    OutputGate,
    PlainHeadNorm,
    RotaryEmbedding,
    SinkSoftmax,
    WidthNorm,
    attention_kernel,
    look,
)

VOCAB, CONTEXT, TIME, DIM, LAYERS = 31, 24, 18, 32, 2
GROUPED = partial(MultiHeadAttention, num_heads=4, num_kv_heads=2)
LATENT = partial(LatentAttention, num_heads=4, latent_dim=10, content_dim=6, rotary_dim=4, value_dim=7)
ATTENTIONS = {
    "grouped": GROUPED,
    "multi_query_biases": partial(MultiHeadAttention, num_heads=4, num_kv_heads=1, bias=True),
    "head_norm": partial(GROUPED, query_key_norm=HeadNorm),
    "width_norm": partial(GROUPED, query_key_norm=WidthNorm),
    "plain_head_norm": partial(GROUPED, query_key_norm=PlainHeadNorm),
    "capped": partial(GROUPED, scores=partial(CappedSoftmax, cap=1.0)),
    "sink": partial(GROUPED, scores=SinkSoftmax),
    "gated": partial(GROUPED, gate=OutputGate),
    "gated_by_head": partial(GROUPED, gate=partial(OutputGate, granularity="headwise")),
    "everything": partial(
        GROUPED, head_dim=6, bias=True, query_key_norm=HeadNorm, scores=SinkSoftmax, gate=OutputGate, output_bias=False
    ),
    "latent": LATENT,
    "latent_of_queries": partial(LATENT, query_latent_dim=9, scores=partial(CappedSoftmax, cap=1.0), bias=True),
}
WINDOWS = {"all": None, "window": 4, "one_token": 1, "local_global": [4, None], "longer_than_the_text": CONTEXT}
POSITIONS = {"rope": RotaryEmbedding, "alibi": Alibi, "none": NoPosition, "learned": LearnedPosition}
DOCUMENTS = {
    "one_document": None,
    "documents": torch.tensor([[-1] * 2 + [0] * 16, [3] * 9 + [1] * 5 + [2] * 4]),
}
COMBINATIONS = [
    (attention, position, window)
    for attention, position, window in product(ATTENTIONS, POSITIONS, WINDOWS)
    if window == "all" or not attention.startswith("latent")
]
every_combination = pytest.mark.parametrize(("attention", "position", "window"), COMBINATIONS)
both_packings = pytest.mark.parametrize("documents", DOCUMENTS.values(), ids=DOCUMENTS)


def build(attention="grouped", position="rope", window="all", **changes):
    """A small model in float64 whose every part matters: no parameter is zero."""
    made = ATTENTIONS.get(attention, attention)
    if window != "all":
        made = partial(made, window=WINDOWS[window])
    arguments = {"attention": made, "position": POSITIONS[position], "init": NormalInit(seed=3, std=0.4)}
    model = Decoder(VOCAB, DIM, LAYERS, CONTEXT, **(arguments | changes)).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def draw(time=TIME, rows=2, seed=0):
    return torch.randint(VOCAB, (rows, time), generator=torch.Generator().manual_seed(seed))


def visible(documents, window, layers=LAYERS):
    """(rows, queries, keys): what a token can reach in all layers together, by definition."""
    windows = WINDOWS[window] if isinstance(WINDOWS[window], list) else [WINDOWS[window]]
    reach = torch.eye(TIME, dtype=torch.bool).expand(2, -1, -1)
    for layer in range(layers):
        reach = (_sees(documents, windows[layer % len(windows)]).double() @ reach.double()) > 0
    return reach


@pytest.mark.one_in(15)
@every_combination
@both_packings
def test_what_a_token_feels_is_exactly_what_it_may_see(attention, position, window, documents):
    """The gradient with respect to what was fed at a place: zero where the definition says so, not zero elsewhere."""
    model, fed = build(attention, position, window), []

    def as_leaf(module, arguments, output):
        fed.append(output.detach().requires_grad_())
        return fed[0]

    model.embedding.register_forward_hook(as_leaf)
    logits = model(draw(), documents=documents)
    reach = visible(documents, window)
    for query in (0, 4, 9, 17):
        (gradient,) = torch.autograd.grad(logits[:, query].square().sum(), fed[0], retain_graph=True)
        felt = gradient.abs().amax(-1)
        assert torch.all(felt[~reach[:, query]] == 0), query
        assert torch.all(felt[reach[:, query]] > 1e-12), query


# FlexAttention is unfused on the CPU, and says so.
unfused = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@pytest.mark.parametrize("attention", ATTENTIONS)
@both_packings
def test_the_explicit_kernel_agrees_with_the_default(attention, documents):
    model, tokens = build(attention, "alibi", "all" if attention.startswith("latent") else "local_global"), draw()
    default = model(tokens, documents=documents)
    with attention_kernel("explicit"):
        assert (model(tokens, documents=documents) - default).abs().max() < 1e-10


@pytest.mark.one_in(5)
@pytest.mark.parametrize(
    ("attention", "position", "documents"),
    [
        ("grouped", "rope", None),
        ("grouped", "alibi", DOCUMENTS["documents"]),
        ("sink", "alibi", DOCUMENTS["documents"]),
        ("capped", "rope", DOCUMENTS["documents"]),
        ("latent", "rope", None),
    ],
)
@unfused
def test_flex_agrees_with_the_explicit_kernel(attention, position, documents):
    model, tokens = build(attention, position, "all" if attention == "latent" else "local_global"), draw()
    outcomes = []
    with torch.no_grad():
        for kernel in ("explicit", "flex"):
            with attention_kernel(kernel):
                outcomes.append(model(tokens, documents=documents))
    assert (outcomes[0] - outcomes[1]).abs().max() < 1e-10


@pytest.mark.slow
@unfused
def test_flex_reads_a_rolling_cache_and_documents():
    model, tokens, documents = build("sink", "alibi", "window"), draw(), DOCUMENTS["documents"]
    whole, cache, parts = model(tokens, documents=documents), model.make_cache(2, CONTEXT), []
    with torch.no_grad(), attention_kernel("flex"):
        for begin, end in pairwise([0, 7, 8, 14, TIME]):
            parts.append(model(tokens[:, begin:end], cache, documents[:, begin:end]))
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-10


def test_limits_in_which_options_vanish():
    tokens, plain = draw(), build()
    state = plain.state_dict()

    def difference(**options):
        model = build(partial(GROUPED, **options))
        model.load_state_dict(state, strict=False)
        for name, parameter in model.named_parameters():
            if name.endswith("sink"):
                torch.nn.init.constant_(parameter, -1e3)
        with torch.no_grad():
            return (model(tokens) - plain(tokens)).abs().max()

    assert difference(window=TIME) == 0
    assert difference(window=TIME - 1) > 1e-6
    assert difference(scores=partial(CappedSoftmax, cap=1e6)) < 1e-8
    assert difference(scores=SinkSoftmax) < 1e-12


def test_without_attention_nothing_but_the_token_itself_is_felt():
    model, tokens = build(partial(NoAttention, num_heads=4)), draw()
    changed = tokens.clone()
    changed[:, 9] = (changed[:, 9] + 1) % VOCAB
    before, after = model(tokens), model(changed)
    rest = torch.arange(TIME) != 9
    assert torch.equal(before[:, rest], after[:, rest])
    assert not torch.equal(before[:, 9], after[:, 9])
    before.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert torch.all(model.blocks[0].attention_norm.weight.grad == 0)


def test_layers_of_several_kinds_share_one_pass():
    pattern = LayerPattern({"latent": LATENT, "local": partial(GROUPED, head_dim=4, window=3)}, ["latent", "local"])
    model, tokens = build(pattern), draw()
    whole, cache = model(tokens), model.make_cache(2, TIME)
    with torch.no_grad():
        parts = [model(part, cache) for part in tokens.split([5, 1, 1, 6, 5], dim=1)]
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-11


@pytest.mark.one_in(15)
@every_combination
@both_packings
def test_the_weights_of_a_look_are_those_of_the_pass(attention, position, window, documents):
    model = build(attention, position, window)
    tokens = draw()
    entered = []
    hooks = [block.attention.register_forward_hook(lambda *call: entered.append(call)) for block in model.blocks]
    seen = look(model, tokens, documents)
    for hook in hooks:
        hook.remove()
    assert torch.allclose(seen.logits, model(tokens, documents=documents), atol=1e-12)
    assert torch.equal(seen.logits, model.logits(model.norm(seen.hidden[-1])))
    for layer, (module, (hidden, *_), output) in enumerate(entered):
        weights = seen.attention[layer]
        assert weights.shape == (2, 4, TIME, TIME)
        size = WINDOWS[window][layer % 2] if isinstance(WINDOWS[window], list) else WINDOWS[window]
        assert torch.equal(weights > 0, _sees(documents, size)[:, None].expand_as(weights))
        sums = weights.sum(-1)
        if hasattr(module.scores, "sink"):  # whose own share can be too small for the sum to show it
            assert (sums < 1 + 1e-12).all()
            assert (sums < 1 - 1e-6).any()
        else:
            assert torch.allclose(sums, torch.ones_like(sums))
        if isinstance(module, MultiHeadAttention):
            values = module.value(hidden).unflatten(-1, (module.num_kv_heads, -1)).transpose(1, 2)
            mixed = weights @ values.repeat_interleave(4 // module.num_kv_heads, 1)
            gated = mixed if module.gate is None else module.gate(hidden, mixed)
            assert torch.allclose(module.output(gated.transpose(1, 2).flatten(2)), output, atol=1e-12)


def _sees(documents, window):
    """(rows, queries, keys): what a token sees in one layer, by definition."""
    slots = torch.arange(TIME)
    distance = slots[:, None] - slots
    documents = torch.zeros(2, TIME, dtype=torch.int64) if documents is None else documents
    return (distance >= 0) & (distance < (window or TIME)) & (documents[:, :, None] == documents[:, None, :])
