"""The two primitives, on sequences small enough to check by eye."""

import pytest

from atomiclm.tokenizer import get_stats, merge


def test_get_stats_counts_every_adjacency() -> None:
    assert get_stats([]) == get_stats([1]) == {}
    assert get_stats([1, 2, 3, 1, 2]) == {(1, 2): 2, (2, 3): 1, (3, 1): 1}
    assert get_stats([7, 7, 7, 7]) == {(7, 7): 3}  # overlaps count, though only two can be merged


def test_get_stats_adds_with_weight() -> None:
    counts = get_stats([1, 2], weight=5)
    assert get_stats([1, 2, 3], counts, 2) is counts
    assert counts == {(1, 2): 7, (2, 3): 2}


@pytest.mark.parametrize(
    ("ids", "merged"),
    [
        ([], []),
        ([1], [1]),
        ([1, 2], [9]),
        ([2, 1], [2, 1]),
        ([1, 1, 2, 2, 1], [1, 9, 2, 1]),
        ([1, 2, 1, 2, 1], [9, 9, 1]),
    ],
)
def test_merge(ids: list[int], merged: list[int]) -> None:
    given = list(ids)
    assert merge(given, (1, 2), 9) == merged
    assert given == ids  # the argument is left as it was


def test_merge_takes_overlaps_from_the_left() -> None:
    assert [merge([5] * n, (5, 5), 6) for n in range(2, 6)] == [[6], [6, 5], [6, 6], [6, 6, 5]]
