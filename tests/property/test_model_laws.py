"""Laws that every variant of the decoder keeps."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atomiclm.model import (
    Decoder,
    LayerNorm,
    LearnedPosition,
    MultiHeadAttention,
    NoPosition,
    NormalInit,
    RotaryEmbedding,
    SwiGLU,
)

VOCAB, CONTEXT = 37, 24
POSITIONS = {"rope": RotaryEmbedding, "learned": LearnedPosition, "none": NoPosition}
KV_HEADS = [4, 2, 1]
every_variant = pytest.mark.parametrize(
    ("position", "num_kv_heads"), [(name, heads) for name in POSITIONS for heads in KV_HEADS]
)


def build(position="rope", num_kv_heads=2, **changes):
    """A small model in float64 with weights large enough for everything in it to matter."""
    arguments = {
        "vocab_size": VOCAB,
        "dim": 32,
        "num_layers": 2,
        "context_length": CONTEXT,
        "attention": partial(MultiHeadAttention, num_heads=4, num_kv_heads=num_kv_heads),
        "position": POSITIONS.get(position, position),
        "init": NormalInit(seed=3, std=0.4),
    }
    return Decoder(**(arguments | changes)).double()


def draw(rows, time, seed=0):
    return torch.randint(VOCAB, (rows, time), generator=torch.Generator().manual_seed(seed))


@every_variant
@pytest.mark.parametrize("with_documents", [False, True])
@pytest.mark.parametrize("least_numbers", [0, 2**19])
@settings(max_examples=4, deadline=None, derandomize=True)
@given(cuts=st.sets(st.integers(1, 15), max_size=4), tail=st.integers(0, 6))
def test_cached_equals_uncached(position, num_kv_heads, with_documents, least_numbers, cuts, tail):
    """Whatever chunks the prefill comes in, and then token by token, in the kernel for large steps and another."""
    model = build(position, num_kv_heads)
    time = 16 + tail
    tokens = draw(3, time)
    documents = torch.tensor([[-1] * 3 + [0] * (time - 3), [0] * time, [0] * 9 + [7] * (time - 9)])
    documents = documents if with_documents else None
    whole = model(tokens, documents=documents)
    cache = model.make_cache(3, CONTEXT)
    edges = [0, *sorted(cuts), *range(16, time + 1)]
    parts = []
    for begin, end in pairwise(edges):
        part = None if documents is None else documents[:, begin:end]
        with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
            patch.setattr("atomiclm.model.attention_kernels._STEP_NUMBERS", least_numbers)
            parts.append(model(tokens[:, begin:end], cache, part))
        assert cache.length == end
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-11


@every_variant
def test_padding_on_the_left_changes_nothing(position, num_kv_heads):
    model = build(position, num_kv_heads)
    tokens = draw(1, 10)
    padded = torch.cat([draw(1, 7, seed=5), tokens], 1)
    documents = torch.tensor([[-1] * 7 + [0] * 10])
    assert (model(padded, documents=documents)[:, 7:] - model(tokens)).abs().max() < 1e-11


@every_variant
def test_equal_document_ids_are_no_documents(position, num_kv_heads):
    model = build(position, num_kv_heads)
    tokens = draw(2, 12)
    one = model(tokens, documents=torch.full((2, 12), 3))
    assert (one - model(tokens)).abs().max() < 1e-12


@every_variant
def test_rows_do_not_meet(position, num_kv_heads):
    model = build(position, num_kv_heads)
    tokens = draw(3, 10)
    changed = tokens.clone()
    changed[1] = (changed[1] + 3) % VOCAB
    before, after = model(tokens), model(changed)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(shift=st.integers(0, 4000), distance=st.integers(0, 200), theta=st.sampled_from([50.0, 10000.0]))
def test_rope_depends_on_differences_only(shift, distance, theta):
    rope = RotaryEmbedding(16, theta=theta)
    generator = torch.Generator().manual_seed(distance)
    query, key = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64, generator=generator)

    def score(query_position, key_position):
        turned = rope.rotate(query, rope.rotation(torch.tensor([query_position]), 8))
        return (turned * rope.rotate(key, rope.rotation(torch.tensor([key_position]), 8))).sum().item()

    # Angles are float32: at position 4000 they are good to 2e-4.
    assert score(shift + distance, shift) == pytest.approx(score(distance, 0), abs=1e-2)
    assert score(distance, 0) != pytest.approx(score(distance + 1, 0), abs=1e-6)


def test_rope_turns_and_does_not_stretch():
    rope = RotaryEmbedding(16)
    vectors = torch.randn(2, 3, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turned = rope.rotate(vectors, rope.rotation(torch.arange(5), 8))
    pairs = lambda tensor: tensor.unflatten(-1, (-1, 2)).norm(dim=-1)  # noqa: E731
    assert (pairs(turned) - pairs(vectors)).abs().max() < 1e-6
    assert torch.equal(turned[:, :, 0], vectors[:, :, 0]), "position 0 is not turned"
    # The first pair goes one radian a position, from the real towards the imaginary axis.
    unit = torch.zeros(1, 1, 2, 16, dtype=torch.float64)
    unit[..., 0] = 1
    expected = torch.tensor([1.0]).cos().item(), torch.tensor([1.0]).sin().item()
    assert rope.rotate(unit, rope.rotation(torch.arange(2), 8))[0, 0, 1, :2].tolist() == pytest.approx(
        expected, abs=1e-7
    )


def test_nope_sees_a_set_of_earlier_tokens():
    """Without positions the order of what came before does not matter in one layer; with any positions it does."""
    tokens = draw(1, 10)
    shuffled = tokens.clone()
    shuffled[0, :9] = tokens[0, :9].flip(0)
    for position in POSITIONS:
        model = build(position, num_layers=1)
        same = (model(tokens)[0, 9] - model(shuffled)[0, 9]).abs().max() < 1e-12
        assert same == (position == "none")


def test_as_many_key_value_heads_as_heads_is_multi_head_attention():
    tokens = draw(2, 9)
    default = build(attention=partial(MultiHeadAttention, num_heads=4))
    stated = build(attention=partial(MultiHeadAttention, num_heads=4, num_kv_heads=4))
    assert torch.equal(default(tokens), stated(tokens))


@pytest.mark.parametrize("num_kv_heads", [2, 1])
def test_grouped_heads_equal_multi_head_with_repeated_projections(num_kv_heads):
    """Query head h reads key/value head h // group, and no other."""
    grouped, full = build(num_kv_heads=num_kv_heads), build(num_kv_heads=4)
    state = grouped.state_dict()
    for name in state:
        if name.endswith(("key.weight", "value.weight")):
            heads = state[name].unflatten(0, (num_kv_heads, 8))
            state[name] = heads.repeat_interleave(4 // num_kv_heads, dim=0).flatten(0, 1)
    full.load_state_dict(state)
    tokens = draw(2, 9)
    assert (grouped(tokens) - full(tokens)).abs().max() < 1e-12


def test_biases_change_the_output():
    tokens = draw(2, 8)
    biased = {
        "attention": partial(MultiHeadAttention, num_heads=4, bias=True),
        "feedforward": partial(SwiGLU, bias=True),
        "norm": partial(LayerNorm, bias=True),
    }
    model = build(**biased)
    names = [name for name, _ in model.named_parameters() if name.endswith("bias")]
    assert len(names) == 2 * (4 + 3 + 2) + 1
    before = model(tokens)
    for name in names:
        parameter = model.get_parameter(name)
        assert torch.all(parameter == 0)
        # A key's bias shifts all scores of a query alike, unless rotation makes it depend on the distance, as here.
        with torch.no_grad():
            parameter[0] = 0.5
            assert (model(tokens) - before).abs().max() > 1e-6, name
            parameter[0] = 0.0


@pytest.mark.parametrize("where", ["all", "attention"])
def test_dropout_acts_in_training_only_and_follows_the_global_seed(where):
    changes = (
        {"dropout": 0.3}
        if where == "all"
        else {"attention": partial(MultiHeadAttention, num_heads=4, num_kv_heads=2, dropout=0.3)}
    )
    model, without = build(**changes), build()
    tokens = draw(2, 12)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = model(tokens)
        second = model(tokens)
        torch.manual_seed(0)
        again = model(tokens)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(model.eval()(tokens), without(tokens))


def test_a_single_dropout_value_reaches_all_three_places():
    model = build(dropout=0.25)
    assert model.dropout.p == 0.25
    assert [block.dropout.p for block in model.blocks] == [0.25, 0.25]
    assert [block.attention.dropout for block in model.blocks] == [0.25, 0.25]


@pytest.mark.parametrize("tie", [True, False])
def test_no_parameter_is_shared(tie):
    model = build(tie_embeddings=tie)
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    storages = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    assert len(names) == len(set(names)) == len(storages)
    assert ("head.weight" in names) != tie


def test_a_tied_head_is_the_embedding():
    model = build()
    tokens = draw(1, 5)
    before = model(tokens)
    unused = next(token for token in range(VOCAB) if token not in tokens)
    with torch.no_grad():
        model.embedding.weight[unused] += 1
    changed = (model(tokens) - before).abs().amax((0, 1))
    assert changed[unused] > 0.01
    assert torch.all(changed[torch.arange(VOCAB) != unused] < 1e-12)


def test_rope_goes_beyond_the_context_and_learned_positions_do_not():
    tokens = draw(1, CONTEXT + 5)
    assert build("rope")(tokens).shape == (1, CONTEXT + 5, VOCAB)
    assert build("none")(tokens).shape == (1, CONTEXT + 5, VOCAB)
    learned = build("learned")
    assert learned(tokens[:, :CONTEXT]).shape == (1, CONTEXT, VOCAB)
    with pytest.raises(ValueError, match="29 positions asked of LearnedPosition, which has 24"):
        learned(tokens)
    cache = learned.make_cache(1, CONTEXT + 5)
    learned(tokens[:, :CONTEXT], cache)
    with pytest.raises(ValueError, match="25 positions"):
        learned(tokens[:, :1], cache)
