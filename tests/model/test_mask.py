"""The mask, value by value."""

import pytest
import torch
from torch.nn.attention.flex_attention import BlockMask
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from atomiclm.model import AttentionContext, CausalMask, NoPosition, WindowCache
from atomiclm.model.attention_mask import Visible

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


def test_a_window_sees_itself_and_what_is_near():
    assert CausalMask(4, 4, CPU).allowed(window=2).tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [False, True, True, False],
        [False, False, True, True],
    ]
    assert torch.equal(CausalMask(4, 4, CPU).allowed(window=1), torch.eye(4, dtype=torch.bool))


def test_keys_of_a_rolling_cache_are_told_by_their_slots():
    mask = CausalMask(1, 6, CPU, torch.tensor([[0, 0, 0, 1, 1, 1]]))
    slots = torch.tensor([3, 4, 5, 2])
    assert mask.allowed(window=4, slots=slots).tolist() == [[[[True, True, True, False]]]]


def test_no_mask_is_made_where_none_is_needed():
    def seen(queries, keys, window=None):
        return AttentionContext.build(NoPosition(), CausalMask(queries, keys, CPU)).visible(window)

    prefill, step, chunk = seen(6, 6), seen(1, 6), seen(3, 6)
    assert (prefill.is_causal, prefill.is_everything) == (True, False)
    assert (step.is_causal, step.is_everything) == (False, True)
    assert (chunk.is_causal, chunk.is_everything) == (False, False)
    assert (seen(6, 6, window=6).is_causal, seen(6, 6, window=5).is_causal) == (True, False)
    assert (seen(1, 6, window=6).is_everything, seen(1, 6, window=5).is_everything) == (True, False)
    added = chunk.additive(torch.float64)
    assert torch.equal(added == 0, CausalMask(3, 6, CPU).allowed())
    assert torch.all(added[added != 0] == -torch.inf)
    assert chunk.additive(torch.float64) is added, "made once for all layers"


SORTED = torch.tensor([0] * 100 + [1] * 28 + [2] * 300 + [3] * 72).repeat(2, 1)
SORTED[1] = 0


@pytest.mark.parametrize(
    ("queries", "keys", "window", "documents", "slots", "exact"),
    [
        (500, 500, None, None, None, True),
        (512, 512, 128, None, None, True),
        (500, 500, 129, None, None, True),
        (500, 500, 1, None, None, True),
        (130, 500, 200, None, None, True),
        (1, 500, None, None, None, True),
        (500, 500, None, SORTED, None, True),
        (500, 500, 140, SORTED, None, True),
        (200, 500, None, SORTED, None, True),
        (500, 500, None, torch.arange(500).remainder(3).repeat(2, 1), None, False),
        (200, 500, 220, SORTED, torch.arange(80, 500).roll(70), False),
    ],
)
def test_blocks_hold_what_is_seen_and_whole_blocks_nothing_else(queries, keys, window, documents, slots, exact):
    mask = CausalMask(queries, keys, CPU, documents)
    visible = Visible(mask, window, slots, None)
    blocks = visible.blocks()
    allowed = mask.allowed(window, slots).expand(1 if documents is None else 2, 1, queries, visible.num_keys)
    padded = torch.nn.functional.pad(allowed, (0, -visible.num_keys % 128, 0, -queries % 128))
    tiles = padded.unflatten(-1, (-1, 128)).unflatten(-3, (-1, 128)).transpose(-3, -2)
    some, every = tiles.any(-1).any(-1), tiles.all(-1).all(-1)
    whole = BlockMask.from_kv_blocks(blocks.full_kv_num_blocks, blocks.full_kv_indices).to_dense().bool()
    kept = blocks.to_dense().bool()
    assert blocks.shape == (len(allowed), 1, queries, visible.num_keys)
    assert torch.all(kept | ~some), "nothing that is seen is skipped"
    assert torch.all(every | ~whole), "no mask is asked for in a whole block"
    assert not exact or (torch.equal(kept, some) and torch.equal(whole, every))


def test_blocks_are_told_without_the_mask_of_all_pairs():
    """8 texts of 2,048 tokens: 34 million pairs."""
    documents = torch.arange(2048).div(300, rounding_mode="floor").repeat(8, 1)
    sizes = []

    class Noting(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), settings=None):
            result = function(*arguments, **(settings or {}))
            sizes.extend(each.numel() for each in tree_leaves(result) if isinstance(each, torch.Tensor))
            return result

    with Noting():
        Visible(CausalMask(2048, 2048, CPU, documents), 512, None, None).blocks()
    assert max(sizes) == documents.numel()


def test_layers_of_one_window_share_what_they_see():
    context = AttentionContext.build(NoPosition(), CausalMask(6, 6, CPU))
    assert context.visible(3) is context.visible(3)
    assert context.visible(3) is not context.visible(4)
    assert context.positions.tolist() == [0, 1, 2, 3, 4, 5]


def test_places_in_documents_are_counted_in_any_order():
    documents = torch.randint(-1, 3, (4, 40), generator=torch.Generator().manual_seed(0))
    context = AttentionContext.build(NoPosition(), CausalMask(30, 40, CPU, documents))
    expected = CausalMask(30, 40, CPU, documents).allowed().sum(-1)[:, 0] - 1
    assert torch.equal(context.positions, expected)


def test_a_rolling_cache_hands_out_the_window_of_its_first_query():
    cache = WindowCache(torch.zeros(1, 1, 3, 1))
    handed = []
    begin = 0
    for size in (2, 1, 1, 1, 4, 2, 1):
        tokens = torch.arange(begin, begin + size, dtype=torch.float32).view(1, 1, -1, 1)
        slots = cache.slots(begin, size, CPU)
        (values,) = cache.write(begin, tokens)
        values = values.flatten().tolist()
        assert slots is None or slots.tolist() == values, "a token says where it stands"
        handed.append(sorted(int(value) for value in values))
        begin += size
    assert handed == [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5, 6, 7, 8], [7, 8, 9, 10], [9, 10, 11]]
