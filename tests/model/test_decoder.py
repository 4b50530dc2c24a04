"""What the decoder accepts, refuses and hands out."""

from functools import partial

import pytest
import torch
from torch import nn

from atomiclm.model import (
    Alibi,
    Attention,
    Decoder,
    FeedForward,
    LayerNorm,
    LayerPattern,
    LearnedPosition,
    MultiHeadAttention,
    NoAttention,
    NoPosition,
    Norm,
    ParallelPrediction,
    PartError,
    PositionPattern,
    QueryKeyNorm,
    RMSNorm,
    RotaryEmbedding,
    SwiGLU,
    cross_entropy,
    parameter_roles,
)


def small(**changes):
    return Decoder(**({"vocab_size": 50, "dim": 32, "num_layers": 2, "context_length": 16} | changes))


def test_plain_arguments_are_enough():
    model = Decoder(vocab_size=512, dim=128, num_layers=2, context_length=64)
    assert model(torch.zeros(2, 64, dtype=torch.int64)).shape == (2, 64, 512)
    stated = Decoder(
        vocab_size=512,
        dim=128,
        num_layers=4,
        context_length=256,
        attention=partial(MultiHeadAttention, num_heads=8, num_kv_heads=2),
        feedforward=SwiGLU,
        norm=RMSNorm,
        position=partial(RotaryEmbedding, theta=10000.0),
    )
    assert stated(torch.zeros(1, 3, dtype=torch.int64)).shape == (1, 3, 512)
    assert stated.blocks[3].attention.num_kv_heads == 2


def test_hidden_then_logits_is_forward():
    model = small()
    tokens = torch.arange(10)[None]
    hidden = model.hidden(tokens)
    assert hidden.shape == (1, 10, 32)
    assert torch.equal(model.logits(hidden), model(tokens))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.zeros(4, dtype=torch.int64), r"tokens of shape \(4,\): need \(batch, time\)"),
        (torch.zeros(2, 0, dtype=torch.int64), r"tokens of shape \(2, 0\).*at least one token"),
        (torch.tensor([[3, 50]]), "token ids from 3 to 50, but vocab_size=50 allows 0 to 49"),
        (torch.tensor([[-1, 2]]), "token ids from -1 to 2"),
    ],
)
def test_bad_tokens_are_refused(tokens, message):
    with pytest.raises(ValueError, match=message):
        small()(tokens)


def test_documents_must_fit_tokens():
    with pytest.raises(ValueError, match=r"documents \(2,\) must have the shape of tokens \(1, 2\)"):
        small()(torch.zeros(1, 2, dtype=torch.int64), documents=torch.zeros(2, dtype=torch.int64))


def test_a_full_cache_refuses_and_stays_usable():
    model = small()
    cache = model.make_cache(2, 4)
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    model(tokens, cache)
    with pytest.raises(ValueError, match="2 more tokens do not fit the cache: 3 of max_length=4 slots are taken"):
        model(tokens[:, :2], cache)
    with pytest.raises(ValueError, match="1 rows of tokens for a cache of 2"):
        model(tokens[:1, :1], cache)
    assert cache.length == 3
    assert model(tokens[:, :1], cache).shape == (2, 1, 50)


def test_documents_given_late_leave_the_earlier_tokens_in_document_0():
    model = small().double()
    tokens = torch.arange(8)[None]
    documents = torch.tensor([[0, 0, 0, 0, 5, 5, 0, 0]])
    whole = model(tokens, documents=documents)
    cache = model.make_cache(1, 8)
    first = model(tokens[:, :4], cache)
    second = model(tokens[:, 4:6], cache, documents[:, 4:6])
    third = model(tokens[:, 6:], cache)  # back to document 0, now with documents in the cache
    assert (torch.cat([first, second, third], 1) - whole).abs().max() < 1e-11


def test_cache_follows_dtype_and_autocast():
    model = small()
    assert model.make_cache(1, 4).layers[0].tensors[0].dtype == torch.float32
    assert model.double().make_cache(1, 4).layers[0].tensors[0].dtype == torch.float64
    model = model.float()
    tokens = torch.arange(8)[None]
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        cache = model.make_cache(1, 8)
        assert cache.layers[0].tensors[0].dtype == torch.bfloat16
        parts = torch.cat([model(tokens[:, :5], cache), model(tokens[:, 5:], cache)], 1)
        whole = model(tokens)
    assert (parts.float() - whole.float()).abs().max() < 0.02
    assert model(tokens).sub(whole).abs().max() < 0.05


def test_bfloat16_weights_run():
    model = small().bfloat16()
    logits = model(torch.arange(12)[None])
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()


def test_roles():
    model = small(
        attention=partial(MultiHeadAttention, num_heads=4, bias=True),
        feedforward=FeedForward,
        norm=LayerNorm,
        position=LearnedPosition,
        tie_embeddings=False,
    )
    roles = parameter_roles(model)
    assert list(roles) == [name for name, _ in model.named_parameters()]
    first = {name.removeprefix("blocks.0."): role for name, role in roles.items() if name.startswith("blocks.0.")}
    assert first == {
        "attention_norm.weight": "gain",
        "attention_norm.bias": "bias",
        "attention.query.weight": "matrix",
        "attention.query.bias": "bias",
        "attention.key.weight": "matrix",
        "attention.key.bias": "bias",
        "attention.value.weight": "matrix",
        "attention.value.bias": "bias",
        "attention.output.weight": "residual",
        "attention.output.bias": "bias",
        "feedforward_norm.weight": "gain",
        "feedforward_norm.bias": "bias",
        "feedforward.up.weight": "matrix",
        "feedforward.down.weight": "residual",
    }
    outside = {name: role for name, role in roles.items() if not name.startswith("blocks.")}
    assert outside == {
        "embedding.weight": "embedding",
        "position.embedding.weight": "embedding",
        "norm.weight": "gain",
        "norm.bias": "bias",
        "head.weight": "head",
    }


MIXED = LayerPattern(
    {"wide": partial(MultiHeadAttention, num_heads=4), "narrow": partial(MultiHeadAttention, num_heads=16)},
    ["wide", "narrow"],
)


@pytest.mark.parametrize(
    ("position", "told", "own"),
    [(RotaryEmbedding, "head_dim=8", "head_dim=2"), (Alibi, "num_heads=4", "num_heads=16")],
)
def test_layers_whose_heads_a_position_scheme_does_not_fit_are_refused(position, told, own):
    """A head of one pair of features would be turned as if it had the others' pairs."""
    with pytest.raises(PartError, match=f"position: .* was built for {told}, but the attention of layer 1 has {own}"):
        small(attention=MIXED, position=position)
    later = LayerPattern(MIXED.components, ["narrow"], first=["wide"] * 3)
    with pytest.raises(PartError, match="attention of layer 3 has"):
        small(num_layers=3, attention=later, position=position, lookahead=ParallelPrediction)


def test_layers_of_different_heads_go_with_schemes_of_their_own_or_none():
    schemes = {"wide": RotaryEmbedding, "narrow": partial(RotaryEmbedding, head_dim=2)}
    for position in (partial(PositionPattern, schemes=schemes, pattern=["wide", "narrow"]), NoPosition):
        assert small(attention=MIXED, position=position)(torch.arange(9)[None]).isfinite().all()
    control = LayerPattern(
        {"none": NoAttention, "full": partial(MultiHeadAttention, num_heads=4)}, ["none"], first=["full"]
    )
    small(attention=control, position=RotaryEmbedding)


def test_a_scheme_that_no_layer_has_is_not_built():
    schemes = {"learned": LearnedPosition, "rope": RotaryEmbedding}
    model = small(position=partial(PositionPattern, schemes=schemes, pattern=["rope"]))
    assert not list(model.position.parameters())
    assert model(torch.zeros(1, 17, dtype=torch.int64)).shape == (1, 17, 50), "and its last position is none of theirs"


def test_state_survives_a_round_trip():
    first, second = small(tie_embeddings=True), small(tie_embeddings=True)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.1)
    second.load_state_dict(first.state_dict(), strict=True)
    tokens = torch.arange(9)[None]
    assert torch.equal(first(tokens), second(tokens))


def test_an_untied_head_starts_apart_from_the_embedding():
    model = small(tie_embeddings=False)
    assert not torch.equal(model.head.weight, model.embedding.weight)


def test_it_learns_a_short_text_by_heart():
    model = small()
    text = torch.randint(50, (1, 17), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = cross_entropy(model(text[:, :-1]), text[:, 1:]) / 16
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


class _Headless(Attention):
    """All but `head_dim`."""

    def __init__(self, dim):
        super().__init__()
        self.num_heads = 2

    def forward(self, hidden, context, cache=None):
        return hidden

    def make_cache(self, batch_size, max_length, dtype):
        raise NotImplementedError

    def cache_elements(self, length):
        return 0

    def flops_per_token(self, context_length):
        return 0


class _HalfDone(Attention):
    """Leaves methods abstract."""

    def __init__(self, dim):
        super().__init__()


class _HalfDoneNorm(QueryKeyNorm):
    """Leaves a method abstract, of a class whose metaclass lets that pass."""

    def __init__(self):
        super().__init__()

    def forward(self, query, key):
        return query, key


class _Stranger(nn.Module):
    """Derives from no class of ours."""

    def __init__(self, dim=8):
        super().__init__()


@pytest.mark.parametrize(("parts", "place", "members"), [
    ({"attention": _Headless}, "attention: _Headless lacks members of Attention", ["head_dim: Width of the vectors"]),
    ({"attention": _HalfDone}, "attention: _HalfDone lacks members of Attention",
     ["flops_per_token: Forward FLOPs", "forward: Attend", "make_cache: Room for", "cache_elements: Numbers that"]),
    ({"attention": _Stranger}, "attention: _Stranger lacks", ["num_heads: Heads,", "attended_keys: "]),
    ({"attention": LayerPattern({"a": _Stranger}, ["a"])}, "attention: _Stranger lacks", ["num_heads: Heads,"]),
    ({"attention": partial(MultiHeadAttention, num_heads=2, query_key_norm=_HalfDoneNorm)},
     "attention.query_key_norm: _HalfDoneNorm lacks members of QueryKeyNorm", ["saved_per_token: Numbers"]),
    ({"position": _Stranger}, "position: _Stranger lacks members of Position", ["max_length: Number", "bias: Added"]),
    ({"position": partial(PositionPattern, schemes={"a": _Stranger}, pattern=["a"])}, "position.schemes.a: ",
     ["embed: Token"]),
    ({"feedforward": _Stranger}, "feedforward: _Stranger lacks members of Accounted", ["flops_per_token: Forward"]),
    ({"norm": Norm}, "norm: Norm lacks members of Norm", ["forward: Normalise"]),
    ({"head": _Stranger}, "head: _Stranger lacks", ["flops_per_token: Forward"]),
    ({"block": _Stranger}, "block: _Stranger lacks members of Block", ["attention: The layer's", "forward: Run"]),
    ({"lookahead": _Stranger}, "lookahead: _Stranger lacks members of Lookahead", ["layers: The blocks"]),
])  # fmt: skip
def test_a_part_that_lacks_members_is_told_which_and_what_they_mean(parts, place, members):
    with pytest.raises(PartError) as raised:
        small(**parts)
    told = str(raised.value)
    assert told.startswith(place)
    for member in members:
        assert f"\n      {member}" in told
