"""Sampling orders: fixed numbers, and what is random about them."""

import numpy as np
import pytest

from atomiclm.data import RandomWindows, ShuffledWindows
from atomiclm.data.order import NUM_ROUNDS, derived_uint64, permuted

ORDERS = [ShuffledWindows, RandomWindows]


def chi_square(counts):
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("order", ORDERS)
def test_another_seed_is_another_order(order):
    rows = [order(seed).starts(0, 100, 10_000, 16) for seed in (0, 1, 2, -1, 2**70)]
    assert len({row.tobytes() for row in rows}) == len(rows)


def test_shuffled_epochs_differ_in_order_and_offset():
    order = ShuffledWindows(5)
    size = order.windows_per_epoch(10_000, 16)
    epochs = [order.starts(epoch * size, size, 10_000, 16) for epoch in range(20)]
    assert len({row.tobytes() for row in epochs}) == 20
    assert len({int(row.min()) for row in epochs}) > 8  # offsets lie in 0 .. 31
    assert len({int(np.argmin(row)) for row in epochs}) > 15


@pytest.mark.slow
def test_the_position_of_every_window_in_its_epoch_is_uniform():
    """Over 2000 seeds each of 5 windows comes equally often at each of 5 places.

    Rows and columns add up to 2000, so 4/5 of the sum over cells is chi-square with 16 degrees of freedom.
    """
    counts = np.zeros((5, 5))
    for seed in range(2000):
        image = permuted(np.arange(5), 5, derived_uint64(NUM_ROUNDS, "test", seed))
        counts[np.arange(5), image] += 1
    assert 0.8 * chi_square(counts) < 39.3  # exceeded once in 1000 by fair permutations


def test_neighbours_in_the_text_are_no_neighbours_in_the_order():
    image = permuted(np.arange(100_000), 100_000, derived_uint64(NUM_ROUNDS, "test", 0))
    assert abs(np.corrcoef(np.arange(100_000), image)[0, 1]) < 0.02
    assert abs(np.corrcoef(image[:-1], image[1:])[0, 1]) < 0.02
    assert (np.abs(np.diff(image)) == 1).sum() < 12  # two on average


def test_offsets_of_shuffled_epochs_are_uniform_and_reach_both_ends():
    """N = 100, T = 8: 11 windows, offsets 0 .. 11, so that both ends are used; 11 degrees of freedom."""
    order = ShuffledWindows(3)
    assert order.windows_per_epoch(100, 8) == 11
    starts = order.starts(0, 11 * 2000, 100, 8).reshape(2000, 11)
    offsets = starts.min(axis=1)
    assert chi_square(np.bincount(offsets, minlength=12).astype(float)) < 31.3
    assert offsets.min() == 0
    assert (starts.max() + 8 + 1) == 100


def test_random_starts_are_uniform_over_all_that_fit():
    """100 starts fit, 0 .. 99, so that the last target can be the last token; chi-square has mean 99 and sd 14."""
    counts = [np.bincount(RandomWindows(seed).starts(0, 20_000, 110, 10), minlength=100) for seed in range(100)]
    assert {len(count) for count in counts} == {100}
    assert np.mean([chi_square(count.astype(float)) for count in counts]) == pytest.approx(99, abs=4 * 1.4)


@pytest.mark.parametrize("order", ORDERS)
def test_the_shortest_stream_has_one_sample_and_a_shorter_one_is_refused(order):
    assert order(0).starts(0, 5, 9, 8).tolist() == [0] * 5
    with pytest.raises(
        ValueError, match="context_length=8 needs 9 tokens, the corpus has 8; set a context_length of at most 7"
    ):
        order(0).starts(0, 1, 8, 8)
    with pytest.raises(ValueError, match="context_length must be at least 1"):
        order(0).starts(0, 1, 8, 0)


SHUFFLED = [6, 56, 656, 267, 367, 537]
RANDOM = [104610106525, 89722134483, 83988477821, 303986881765, 784915249283, 227167632229]


def test_the_orders_never_change():
    """Written down once: another NumPy, machine or refactoring must not move anybody's data."""
    assert ShuffledWindows(1234).starts(95, 6, 1000, 10).tolist() == SHUFFLED
    assert RandomWindows(1234).starts(1, 6, 1_000_000_000_000, 10).tolist() == RANDOM


def test_a_corpus_of_a_trillion_tokens_costs_no_more():
    starts = ShuffledWindows(0).starts(10**8, 64, 10**12, 1024)
    assert len(np.unique(starts)) == 64
    assert starts.max() > 10**11
