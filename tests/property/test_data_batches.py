"""Laws of batches."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from atomiclm.data import RandomWindows, ShuffledWindows, TextDataset, ValidationWindows

orders = st.sampled_from([ShuffledWindows, RandomWindows])


@given(
    num_tokens=st.integers(2, 700),
    context_length=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    kind=st.sampled_from("HI"),
)
@settings(deadline=None)
def test_every_token_but_the_first_is_a_validation_target_exactly_once(num_tokens, context_length, batch_size, kind):
    tokens = (np.arange(num_tokens) * 7 + 3).astype(kind)
    batches = list(ValidationWindows(tokens, context_length, batch_size))
    targets = np.concatenate([batch.targets[batch.mask] for batch in batches])
    np.testing.assert_array_equal(targets, tokens[1:])
    inputs = np.concatenate([batch.inputs[batch.mask] for batch in batches])
    np.testing.assert_array_equal(inputs, tokens[:-1])
    for batch in batches:
        rows, target_rows, mask = batch.inputs, batch.targets, batch.mask
        assert rows.shape == target_rows.shape == mask.shape == (len(rows), context_length)
        assert 1 <= len(rows) <= batch_size
        assert mask[:, 0].all()  # no row is filling only
        assert (rows.dtype, target_rows.dtype, mask.dtype) == (np.int64, np.int64, np.bool_)
        assert (rows[~mask] == 0).all()


@given(order=orders, seed=st.integers(0, 99), step=st.integers(0, 1000), batch_size=st.integers(1, 8))
@settings(deadline=None)
def test_batches_are_windows_and_any_grouping_gives_the_same_samples(order, seed, step, batch_size):
    tokens = np.random.default_rng(0).integers(0, 60_000, 999).astype(np.uint16)
    dataset = TextDataset(tokens, 17, order(seed))
    batch = dataset.batch(step, batch_size)
    inputs, targets = batch.inputs, batch.targets
    assert inputs.shape == targets.shape == (batch_size, 17)
    assert inputs.dtype == targets.dtype == np.int64
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    starts = order(seed).starts(step * batch_size, batch_size, 999, 17)
    np.testing.assert_array_equal(inputs[:, 0], tokens[starts])
    np.testing.assert_array_equal(targets[:, -1], tokens[starts + 17])
    singles = [dataset.batch(step * batch_size + row, 1).inputs for row in range(batch_size)]
    np.testing.assert_array_equal(inputs, np.concatenate(singles))
