"""The mask, value by value."""

import torch

from atomiclm.model import AttentionContext, CausalMask, NoPosition

CPU = torch.device("cpu")


def test_plain():
    mask = CausalMask(3, 3, CPU)
    assert mask.allowed().tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert mask.distances().tolist() == [[0, -1, -2], [1, 0, -1], [2, 1, 0]]


def test_queries_are_the_last_of_the_keys():
    mask = CausalMask(2, 4, CPU)
    assert mask.offset == 2
    assert mask.allowed().tolist() == [[True, True, True, False], [True, True, True, True]]


def test_documents_separate_and_may_come_back():
    mask = CausalMask(2, 5, CPU, torch.tensor([[1, 2, 1, 2, 1], [-1, -1, 0, 0, 0]]))
    assert mask.allowed().tolist() == [
        [[[False, True, False, True, False], [True, False, True, False, True]]],
        [[[False, False, True, True, False], [False, False, True, True, True]]],
    ]
    context = AttentionContext.build(NoPosition(), mask)
    assert context.positions.tolist() == [[1, 2], [1, 2]], "a token's place in its own document"


def test_no_mask_is_made_where_none_is_needed():
    build = lambda queries, keys: AttentionContext.build(NoPosition(), CausalMask(queries, keys, CPU))  # noqa: E731
    prefill, step, chunk = build(6, 6), build(1, 6), build(3, 6)
    assert (prefill.is_causal, prefill.attention_mask) == (True, None)
    assert (step.is_causal, step.attention_mask) == (False, None)
    assert not chunk.is_causal
    assert torch.equal(chunk.attention_mask, CausalMask(3, 6, CPU).allowed())
    assert chunk.positions.tolist() == [3, 4, 5]
