"""Which keys a query sees: causality, documents, windows and caches, in the form each kernel asks for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

FLEX_BLOCK = 128
"""FlexAttention skips whole blocks of this many queries and keys."""


@dataclass(frozen=True)
class CausalMask:
    """The queries of one forward pass and the keys they meet: cached ones first, then their own.

    num_queries   tokens of this pass
    num_keys      cached tokens plus num_queries; query i sits in slot num_keys - num_queries + i
    documents     (batch, num_keys) document of every key, or None when every row is one document
    offset        slot of the first query: the number of keys cached before it
    """

    num_queries: int
    num_keys: int
    device: torch.device
    documents: Tensor | None = None
    offset: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "offset", self.num_keys - self.num_queries)

    def distances(self) -> Tensor:
        """(queries, keys) int64: slots from key to query; 0 is the token itself, negative lies in the future."""
        keys = torch.arange(self.num_keys, device=self.device)
        return keys[self.offset :, None] - keys

    def sees(self, window: int | None = None, slots: Tensor | None = None) -> Callable[..., Tensor]:
        """Whether a query sees a key, as a function of (batch, head, query, key), what FlexAttention asks for.

        A query sees itself and what came before it in its own document.

        window   a query sees ``0 <= distance < window`` slots back (Mistral, arXiv 2310.06825; Gemma 2)
        slots    (keys,) int64 slots of the keys in question; None is all of them in order
        """
        offset, documents = self.offset, self.documents

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

    def allowed(self, window: int | None = None, slots: Tensor | None = None) -> Tensor:
        """Boolean (queries, keys), or (batch, 1, queries, keys) with documents: True where a query sees a key."""
        rows = 1 if self.documents is None else len(self.documents)
        batch = torch.arange(rows, device=self.device)[:, None, None, None]
        queries = torch.arange(self.num_queries, device=self.device)[:, None]
        keys = torch.arange(self.num_keys if slots is None else len(slots), device=self.device)
        return self.sees(window, slots)(batch, batch, queries, keys)


class Visible:
    """What is seen through one window in one forward pass; layers with the same window share it.

    mask            the queries and keys of the pass
    window          slots that a query sees, its own the first; None is all
    slots           (keys,) int64 slot of each key that the layer brings, or None: all keys of the pass in order
    bias            added to the scores, broadcastable to (batch, heads, queries, keys of the pass); None is none
    num_keys        keys that the layer brings
    is_causal       whether plain causality from the first token says it all
    is_everything   whether a single query sees every key there is, so that there is nothing to mask or add
    """

    def __init__(self, mask: CausalMask, window: int | None, slots: Tensor | None, bias: Tensor | None) -> None:
        self.mask = mask
        # A window as long as the text is no window, and should not cost a mask.
        self.window = None if window is None or window >= mask.num_keys else window
        self.slots = slots
        self.bias = bias if bias is None or slots is None else bias[..., slots]
        self.num_keys = mask.num_keys if slots is None else len(slots)
        plain = mask.documents is None and bias is None
        self.is_causal = plain and mask.num_queries > 1 and mask.offset == 0 and self.window is None
        self.is_everything = plain and mask.num_queries == 1 and (self.window is None or self.num_keys <= self.window)
        self._additive: dict[torch.dtype, Tensor] = {}
        self._blocks: BlockMask | None = None

    def additive(self, dtype: torch.dtype) -> Tensor:
        """(..., queries, keys) to add to scores: the bias or 0 where a query sees a key, else -inf; made once."""
        if dtype not in self._additive:
            allowed = self.mask.allowed(self.window, self.slots)
            zero = torch.zeros((), dtype=dtype, device=allowed.device)
            self._additive[dtype] = torch.where(allowed, zero if self.bias is None else self.bias.to(dtype), -torch.inf)
        return self._additive[dtype]

    def blocks(self) -> "BlockMask":
        """The blocks of queries and keys that FlexAttention need not skip; made once.

        Found from the least and greatest slot and document of each block: torch's `create_block_mask` makes the whole
        (batch, queries, keys) mask and more. A block may be computed in which nothing is seen; the kernel asks `_sees`
        of every pair.
        """
        if self._blocks is None:
            from torch.nn.attention.flex_attention import BlockMask

            some, every = self._seen_blocks()
            self._blocks = BlockMask.from_kv_blocks(
                *_ordered(some & ~every),
                *_ordered(every),
                BLOCK_SIZE=FLEX_BLOCK,
                mask_mod=self.mask.sees(self.window, self.slots),
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


def _bounds(values: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest of each block, (..., n) to (..., blocks)."""
    indices = torch.arange(-(-values.shape[-1] // FLEX_BLOCK) * FLEX_BLOCK, device=values.device)
    blocks = values[..., indices.clamp(max=values.shape[-1] - 1).view(-1, FLEX_BLOCK)]
    return blocks.amin(-1), blocks.amax(-1)


def _complete(values: Tensor) -> Tensor:
    """Which blocks of (n,) are full."""
    ends = torch.arange(0, values.shape[-1], FLEX_BLOCK, device=values.device) + FLEX_BLOCK
    return ends <= values.shape[-1]


def _ordered(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of each row are True, and the numbers of all blocks, those first."""
    return blocks.sum(-1, dtype=torch.int32), blocks.byte().argsort(dim=-1, descending=True, stable=True).int()
