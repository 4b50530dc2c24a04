"""Laws of the sampling orders."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomiclm.data import RandomWindows, ShuffledWindows
from atomiclm.data.order import NUM_ROUNDS, derived_uint64, permuted

orders = st.sampled_from([ShuffledWindows, RandomWindows])
seeds = st.integers(-(2**40), 2**40)


@st.composite
def streams(draw):
    """(num_tokens, context_length) with at least one sample."""
    context_length = draw(st.integers(1, 40))
    return draw(st.integers(context_length + 1, 1500)), context_length


@given(size=st.integers(1, 3000), seed=seeds)
@settings(deadline=None)
def test_a_permutation_permutes(size, seed):
    image = permuted(np.arange(size), size, derived_uint64(NUM_ROUNDS, "test", seed))
    assert sorted(image.tolist()) == list(range(size))


@given(seed=seeds, stream=streams(), epoch=st.integers(0, 5))
@settings(deadline=None)
def test_an_epoch_visits_every_window_exactly_once(seed, stream, epoch):
    num_tokens, context_length = stream
    order = ShuffledWindows(seed)
    size = order.windows_per_epoch(num_tokens, context_length)
    starts = np.sort(order.starts(epoch * size, size, num_tokens, context_length))
    assert (np.diff(starts) == context_length).all()  # side by side: nothing twice, nothing skipped between them
    assert starts[0] >= 0
    assert starts[-1] + context_length + 1 <= num_tokens
    assert num_tokens - 1 - size * context_length < 2 * context_length  # all but the ends is visited


@given(
    order=orders,
    seed=seeds,
    stream=streams(),
    first=st.integers(0, 10**9),
    parts=st.lists(st.integers(0, 30), max_size=8),
)
@settings(deadline=None)
def test_a_sample_depends_on_seed_and_index_alone(order, seed, stream, first, parts):
    whole = order(seed).starts(first, sum(parts), *stream)
    places = first + np.concatenate([[0], np.cumsum(parts)]).astype(int)
    pieces = [order(seed).starts(int(place), part, *stream) for place, part in zip(places, parts, strict=False)]
    np.testing.assert_array_equal(whole, np.concatenate([*pieces, np.empty(0, dtype=np.int64)]))
    assert whole.dtype == np.int64
    if len(whole):
        assert whole.min() >= 0
        assert whole.max() + stream[1] + 1 <= stream[0]


@pytest.mark.parametrize("order", [ShuffledWindows, RandomWindows])
def test_numpys_global_random_state_is_neither_read_nor_moved(order):
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    first = order(1).starts(0, 50, 1000, 8)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.random.seed(1)
    np.testing.assert_array_equal(order(1).starts(0, 50, 1000, 8), first)
