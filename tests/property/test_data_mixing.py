"""Laws of mixing: which source a sample is of depends on seed and number alone, and shares are the weights."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from atomiclm.data import MixedDataset, ShuffledWindows, TextDataset
from atomiclm.data.order import BLOCK_SAMPLES


def constant(value, order=None):
    """A dataset whose tokens say which source they are of: value, value + 1, ..."""
    return TextDataset(np.arange(value, value + 101, dtype=np.uint16), 4, order or ShuffledWindows(3))


weights = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5)


def mixed(shares, seed):
    return MixedDataset([constant(1000 * number) for number in range(len(shares))], shares, seed)


@given(shares=weights, seed=st.integers(0, 2**40), blocks=st.integers(1, 4))
@settings(deadline=None, max_examples=50)
def test_after_whole_blocks_every_source_has_its_share_to_within_one_sample(shares, seed, blocks):
    count = blocks * BLOCK_SAMPLES
    sources, ranks = mixed(shares, seed).dealt(0, count)
    expected = np.array(shares) / sum(shares) * count
    assert np.abs(np.bincount(sources, minlength=len(shares)) - expected).max() <= 1 + 1e-6
    for source in range(len(shares)):  # each source is gone through sample by sample, none twice
        np.testing.assert_array_equal(ranks[sources == source], np.arange((sources == source).sum()))


@given(shares=weights, seed=st.integers(0, 99), count=st.integers(50, 3000))
@settings(deadline=None, max_examples=50)
def test_shares_are_within_sampling_error_at_any_time(shares, seed, count):
    sources, _ = mixed(shares, seed).dealt(0, count)
    probability = np.array(shares) / sum(shares)
    error = np.abs(np.bincount(sources, minlength=len(shares)) - probability * count)
    assert (error <= 5 * np.sqrt(count * probability * (1 - probability)) + 1.5).all()


@given(shares=weights, seed=st.integers(0, 99), first=st.integers(0, 10**9), parts=st.lists(st.integers(1, 40)))
@settings(deadline=None, max_examples=50)
def test_what_is_dealt_depends_on_seed_and_index_alone(shares, seed, first, parts):
    whole = mixed(shares, seed).dealt(first, sum(parts))
    place = first
    pieces = []
    for part in parts:
        pieces.append(mixed(shares, seed).dealt(place, part))
        place += part
    for number in range(2):
        joined = np.concatenate([piece[number] for piece in pieces] or [np.empty(0, dtype=np.int64)])
        np.testing.assert_array_equal(whole[number], joined)


@given(seed=st.integers(0, 99), step=st.integers(0, 3000), batch_size=st.integers(1, 9))
@settings(deadline=None, max_examples=50)
def test_a_row_is_the_sources_own_next_sample_whatever_the_batch_size(seed, step, batch_size):
    dataset = mixed([0.5, 0.2, 0.3], seed)
    batch = dataset.batch(step, batch_size)
    sources, ranks = dataset.dealt(step * batch_size, batch_size)
    for row, (source, rank) in enumerate(zip(sources.tolist(), ranks.tolist(), strict=True)):
        own = constant(1000 * source).samples(rank, 1)
        np.testing.assert_array_equal(batch.inputs[row], own.inputs[0])
        np.testing.assert_array_equal(batch.targets[row], own.targets[0])
    assert batch.mask is None
    assert batch.documents is None


def test_each_source_has_epochs_of_its_own():
    """A small source is repeated, each time in another order, while the large one is not."""
    small = TextDataset(np.arange(101, dtype=np.uint16), 4, ShuffledWindows(3))
    large = TextDataset(np.arange(1000, 50_000, dtype=np.uint16), 4, ShuffledWindows(3))
    batch = MixedDataset([small, large], [1.0, 1.0], 0).samples(0, 2 * 24 * 4)
    starts = batch.inputs[:, 0]
    epochs = starts[starts < 1000][: 24 * 3].reshape(3, 24)
    assert all(len(set(epoch.tolist())) == 24 for epoch in epochs)
    assert len({epoch.tobytes() for epoch in epochs}) == 3
    assert len(set(starts[starts >= 1000].tolist())) == (starts >= 1000).sum()


def test_a_mask_of_one_source_counts_all_of_another():
    tokens = np.arange(101, dtype=np.uint16)
    answers = TextDataset(tokens, 4, ShuffledWindows(0), separator=7, counted=tokens % 2 == 0)
    plain = TextDataset(tokens + 1000, 4, ShuffledWindows(0), separator=7)
    batch = MixedDataset([answers, plain], [1.0, 1.0], 0).samples(0, 40)
    of_plain = batch.inputs[:, 0] >= 1000
    assert 0 < of_plain.sum() < 40
    assert batch.mask[of_plain].all()
    np.testing.assert_array_equal(batch.mask[~of_plain], batch.targets[~of_plain] % 2 == 0)
    assert batch.documents is not None


def test_the_dealing_never_changes():
    """Written down once: another NumPy, machine or refactoring must not move anybody's data."""
    sources, ranks = mixed([0.6, 0.4], 1234).dealt(4090, 12)
    assert (sources.tolist(), ranks.tolist()) == DEALT


def test_other_seeds_deal_otherwise():
    assert len({mixed([0.5, 0.5], seed).dealt(0, 100)[0].tobytes() for seed in range(5)}) == 5


DEALT = ([0, 0, 0, 1, 1, 1, 1, 0, 1, 1, 0, 1], [2454, 2455, 2456, 1636, 1637, 1638, 1639, 2457, 1640, 1641, 2458, 1642])
