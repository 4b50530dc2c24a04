"""Laws of best-fit packing: nothing lost, nothing twice, nothing cut that fits, nothing seen of a neighbour."""

from functools import partial

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atomiclm.data import BestFit, PackedDataset, ShuffledWindows, TextDataset, TokenShard
from atomiclm.data.packing import best_fit
from atomiclm.model import Decoder, MultiHeadAttention, NormalInit

SEPARATOR = 0


@st.composite
def streams(draw):
    """(tokens, context_length): documents of unlike tokens, each after a separator."""
    lengths = draw(st.lists(st.integers(0, 40), min_size=1, max_size=30))
    tokens, following = [], 1
    for length in lengths:
        tokens += [SEPARATOR, *range(following, following + length)]
        following += length
    return np.array(tokens, dtype=np.uint16), draw(st.integers(1, 32))


def plain_best_fit(lengths, capacity):
    """Best-fit decreasing as one would say it: look at every row."""
    rows = [None] * len(lengths)
    left = []
    for piece in sorted(range(len(lengths)), key=lambda piece: (-lengths[piece], piece)):
        fitting = [space for space in left if space >= lengths[piece]]
        if fitting:
            # Of rows with equal space the one that came to it last, as a stack has it: no figure depends on which.
            row = max(index for index, space in enumerate(left) if space == min(fitting))
        else:
            left.append(capacity)
            row = len(left) - 1
        left[row] -= lengths[piece]
        rows[piece] = row
    return rows, left


@given(capacity=st.integers(1, 70), data=st.data())
@settings(deadline=None)
def test_rows_are_those_of_best_fit_decreasing(capacity, data):
    lengths = np.array(data.draw(st.lists(st.integers(1, capacity), max_size=60)), dtype=np.int64)
    rows = best_fit(lengths, capacity)
    filled = np.bincount(rows, weights=lengths) if len(rows) else np.empty(0)
    assert (filled <= capacity).all()
    expected, left = plain_best_fit(lengths.tolist(), capacity)
    assert sorted(capacity - filled) == sorted(left)
    assert len(set(rows.tolist())) == len(set(expected)) == len(left)
    if len(filled) > 1:  # a new row is begun only by what no other holds, so no two rows could be one
        assert sum(sorted(filled)[:2]) > capacity


@given(stream=streams(), seed=st.integers(0, 50), epoch=st.integers(0, 3), separate=st.booleans())
@settings(deadline=None)
def test_an_epoch_has_every_token_once_as_input_and_once_as_target(stream, seed, epoch, separate):
    tokens, context_length = stream
    dataset = PackedDataset(tokens, context_length, seed, SEPARATOR, separate)
    size = dataset.rows_per_epoch
    batch = dataset.batch(epoch, size)
    assert batch.inputs.shape == batch.targets.shape == batch.mask.shape == (size, context_length)
    followed = [*tokens[1:].tolist(), SEPARATOR]  # the last document ends as the others do
    pairs = zip(batch.inputs[batch.mask].tolist(), batch.targets[batch.mask].tolist(), strict=True)
    assert sorted(pairs) == sorted(zip(tokens.tolist(), followed, strict=True))
    assert (np.diff(batch.mask.astype(int), axis=1) <= 0).all()  # the filling is at the end
    assert (batch.inputs[~batch.mask] == SEPARATOR).all()
    assert batch.mask[:, 0].all()
    assert dataset.facts()["padding_share"] == 1 - batch.mask.mean()
    assert (batch.documents is None) != separate


@given(stream=streams())
@settings(deadline=None)
def test_documents_that_fit_are_whole_and_longer_ones_lose_nothing_but_context(stream):
    tokens, context_length = stream
    dataset = PackedDataset(tokens, context_length, 0, SEPARATOR, separate_documents=True)
    batch = dataset.rows(np.arange(dataset.rows_per_epoch))
    pieces = []
    for inputs, targets, mask, documents in zip(batch.inputs, batch.targets, batch.mask, batch.documents, strict=True):
        for document in dict.fromkeys(documents[mask].tolist()):
            here = documents == document
            assert (np.diff(np.flatnonzero(here)) == 1).all()
            np.testing.assert_array_equal(inputs[here][1:], targets[here][:-1])
            pieces.append(inputs[here].tolist())
        assert not set(documents[mask]) & set(documents[~mask])
    expected = []
    for document in np.split(tokens, np.flatnonzero(tokens == SEPARATOR))[1:]:
        expected += [document[cut : cut + context_length].tolist() for cut in range(0, len(document), context_length)]
    assert sorted(pieces) == sorted(expected)


@given(stream=streams(), seed=st.integers(0, 9), step=st.integers(0, 40), batch_size=st.integers(1, 7))
@settings(deadline=None)
def test_a_row_depends_on_seed_and_index_alone(stream, seed, step, batch_size):
    tokens, context_length = stream
    batch = PackedDataset(tokens, context_length, seed, SEPARATOR).batch(step, batch_size)
    again = PackedDataset(tokens, context_length, seed, SEPARATOR)
    singles = [again.batch(step * batch_size + row, 1) for row in range(batch_size)]
    for name in ("inputs", "targets", "mask"):
        np.testing.assert_array_equal(getattr(batch, name), np.concatenate([getattr(one, name) for one in singles]))


@given(stream=streams(), data=st.data())
@settings(deadline=None)
def test_only_what_counts_is_a_target(stream, data):
    tokens, context_length = stream
    counted = np.array(data.draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens))))
    counted[tokens == SEPARATOR] = False
    packed = PackedDataset(tokens, context_length, 0, SEPARATOR, counted=counted)
    batch = packed.rows(np.arange(packed.rows_per_epoch))
    assert sorted(batch.targets[batch.mask].tolist()) == tokens[counted].tolist()
    if len(tokens) > context_length:
        batch = TextDataset(tokens, context_length, ShuffledWindows(0), counted=counted).batch(0, 5)
        expected = np.isin(batch.targets, tokens[counted])
        np.testing.assert_array_equal(batch.mask, expected)


@given(seed=st.integers(0, 5), kind=st.sampled_from([BestFit, ShuffledWindows]), data=st.data())
@settings(deadline=None, max_examples=25)
def test_another_documents_change_leaves_logits_bit_equal_through_real_batches(seed, kind, data):
    generator = np.random.default_rng(seed)
    documents = [[SEPARATOR, *generator.integers(1, 20, length)] for length in generator.integers(1, 14, 40)]
    tokens = np.concatenate(documents).astype(np.uint16)
    shard = TokenShard(tokens, len(tokens) - 40, 40, SEPARATOR)
    dataset = kind(seed).dataset(shard, 24, separate_documents=True, answers_only=False)
    batch = dataset.batch(data.draw(st.integers(0, 9)), 4)
    model = Decoder(
        20, 16, 2, 24, attention=partial(MultiHeadAttention, num_heads=2), init=NormalInit(seed=seed)
    ).eval()
    changed = batch.inputs.copy()
    row = data.draw(st.integers(0, 3))
    document = batch.documents[row, data.draw(st.integers(0, 23))]
    there = (batch.documents[row] == document) & (batch.inputs[row] != SEPARATOR)
    changed[row, there] = changed[row, there] % 19 + 1
    with torch.no_grad():
        before, after = (
            model(torch.from_numpy(inputs), documents=torch.from_numpy(batch.documents))
            for inputs in (batch.inputs, changed)
        )
    elsewhere = np.ones_like(batch.mask if batch.mask is not None else batch.inputs, dtype=bool)
    elsewhere[row] = batch.documents[row] != document
    assert torch.equal(before[elsewhere], after[elsewhere])
    assert not there.any() or not torch.equal(before, after)
