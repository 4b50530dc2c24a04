"""The keys that the queries of a layer see, in the form that each attention kernel asks for."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from atomiclm.model.mask import CausalMask

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

FLEX_BLOCK = 128
"""What FlexAttention skips is whole blocks of this many queries and keys."""


class Visible:
    """What is seen through one window in one forward pass; layers with the same window share it.

    Each form is made when it is first asked for, and at most once.

    mask     the queries and keys of the pass
    window   slots that a query sees, its own the first; None is all
    slots    (keys,) int64 slot of each key that the layer brings, or None: all keys of the pass in order
    bias     added to the scores, broadcastable to (batch, heads, queries, keys of the pass); None is none
    """

    def __init__(self, mask: CausalMask, window: int | None, slots: Tensor | None, bias: Tensor | None) -> None:
        self.mask = mask
        # A window as long as the text is no window, and should not cost a mask.
        self.window = None if window is None or window >= mask.num_keys else window
        self.slots = slots
        self.bias = bias if bias is None or slots is None else bias[..., slots]
        self._additive: dict[torch.dtype, Tensor] = {}
        self._blocks: BlockMask | None = None

    @property
    def num_keys(self) -> int:
        """Keys that the layer brings."""
        return self.mask.num_keys if self.slots is None else len(self.slots)

    @property
    def is_causal(self) -> bool:
        """Whether plain causality from the first token says it all."""
        return self.mask.offset == 0 and self.window is None and self.mask.documents is None and self.bias is None

    @property
    def is_everything(self) -> bool:
        """Whether a single query sees every key there is, so that there is nothing to mask or add."""
        within = self.window is None or self.num_keys <= self.window
        return self.mask.num_queries == 1 and within and self.mask.documents is None and self.bias is None

    def additive(self, dtype: torch.dtype) -> Tensor:
        """(..., queries, keys) to add to scores: the bias, or 0, where a query sees a key, and -inf where not.

        Shared by the layers, where a boolean mask would be turned into one of these in each of them.
        """
        if dtype not in self._additive:
            allowed = self.mask.allowed(self.window, self.slots)
            zero = torch.zeros((), dtype=dtype, device=allowed.device)
            self._additive[dtype] = torch.where(allowed, zero if self.bias is None else self.bias.to(dtype), -torch.inf)
        return self._additive[dtype]

    def blocks(self) -> "BlockMask":
        """The blocks of queries and keys that FlexAttention need not skip.

        Told from the least and greatest slot and document of each block, where torch's `create_block_mask` makes the
        whole (batch, queries, keys) mask and more of its size. Where documents come back, a block may be kept in which
        nothing is seen; the kernel asks `_sees` of every pair in it.
        """
        if self._blocks is None:
            from torch.nn.attention.flex_attention import BlockMask

            some, every = self._seen_blocks()
            self._blocks = BlockMask.from_kv_blocks(
                *_ordered(some & ~every),
                *_ordered(every),
                BLOCK_SIZE=FLEX_BLOCK,
                mask_mod=self._sees(),
                seq_lengths=(self.mask.num_queries, self.num_keys),
            )
        return self._blocks

    def _seen_blocks(self) -> tuple[Tensor, Tensor]:
        """(batch or 1, 1, blocks of queries, blocks of keys): whether something, and everything, of a block is seen."""
        slots = torch.arange(self.mask.num_keys, device=self.mask.device)
        query_slots, key_slots = slots[self.mask.offset :], slots if self.slots is None else self.slots
        (first_query, last_query), (first_key, last_key) = _bounds(query_slots), _bounds(key_slots)
        least, greatest = first_query[:, None] - last_key, last_query[:, None] - first_key
        some, every = greatest >= 0, (least >= 0) & _complete(query_slots)[:, None] & _complete(key_slots)
        if self.window is not None:
            some, every = some & (least < self.window), every & (greatest < self.window)
        if self.mask.documents is None:
            return some[None, None], every[None, None]
        documents = self.mask.documents
        low_query, high_query = (bound[:, :, None] for bound in _bounds(documents[:, self.mask.offset :]))
        low_key, high_key = (bound[:, None] for bound in _bounds(documents[:, key_slots]))
        some = some & (low_query <= high_key) & (low_key <= high_query)
        every = every & (low_query == high_key) & (low_key == high_query)
        return some[:, None], every[:, None]

    def _sees(self) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
        """``CausalMask.allowed``, asked of one query and one key; FlexAttention takes functions, not methods."""
        offset, window, slots, documents = self.mask.offset, self.window, self.slots, self.mask.documents

        def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            query_slot = query + offset
            key_slot = key if slots is None else slots[key]
            seen = query_slot >= key_slot
            if window is not None:
                seen = seen & (query_slot - key_slot < window)
            if documents is not None:
                seen = seen & (documents[batch, query_slot] == documents[batch, key_slot])
            return seen

        return sees


def _bounds(values: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest of each block, (..., n) to (..., blocks)."""
    places = torch.arange(-(-values.shape[-1] // FLEX_BLOCK) * FLEX_BLOCK, device=values.device)
    blocks = values[..., places.clamp(max=values.shape[-1] - 1).view(-1, FLEX_BLOCK)]
    return blocks.amin(-1), blocks.amax(-1)


def _complete(values: Tensor) -> Tensor:
    """Which blocks of (n,) have all their places."""
    ends = torch.arange(0, values.shape[-1], FLEX_BLOCK, device=values.device) + FLEX_BLOCK
    return ends <= values.shape[-1]


def _ordered(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of each row are meant, and their numbers, those that are meant first."""
    return blocks.sum(-1, dtype=torch.int32), blocks.byte().argsort(dim=-1, descending=True, stable=True).int()
