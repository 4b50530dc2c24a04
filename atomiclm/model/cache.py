"""Keys and values of the tokens already seen: each new token costs one step and not a whole pass."""

from collections.abc import Sequence

import torch
from torch import Tensor


class LayerCache:
    """The cache of one layer: tensors (batch, heads, max_length, width), allocated once and filled from the front."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def select(self, rows: Tensor) -> None:
        """Go on with those rows (int64) alone, in their order."""
        self.tensors = tuple(tensor[rows] for tensor in self.tensors)

    def write(self, offset: int, *new: Tensor) -> tuple[Tensor, ...]:
        """Store (batch, heads, time, width) from slot ``offset`` on; views of all slots filled so far."""
        end = offset + new[0].shape[2]
        for stored, values in zip(self.tensors, new, strict=True):
            stored[:, :, offset:end] = values
        return tuple(stored[:, :, :end] for stored in self.tensors)

    def slots(self, offset: int, num_new: int, device: torch.device) -> Tensor | None:
        """(keys,) int64: the tokens that ``write`` of ``num_new`` at ``offset`` returns; None is all, in order."""
        return None


class WindowCache(LayerCache):
    """The last tokens only, as many as its tensors have room for: token t is in slot ``t % size``.

    Source: the rolling buffer cache of Mistral 7B (Jiang et al. 2023, arXiv 2310.06825, section 2).
    """

    @property
    def size(self) -> int:
        return self.tensors[0].shape[2]

    def write(self, offset: int, *new: Tensor) -> tuple[Tensor, ...]:
        """Store (batch, heads, time, width); the tokens that ``slots`` names, as far back as the first query sees."""
        time, device = new[0].shape[2], new[0].device
        if offset + time <= self.size:
            return super().write(offset, *new)
        if time == 1:
            slot = torch.arange(offset, offset + 1, device=device) % self.size  # as a number it would be compiled in
            for stored, values in zip(self.tensors, new, strict=True):
                stored[:, :, slot] = values.to(stored.dtype)
            return self.tensors
        # The first of several queries sees tokens that the last ones are about to overwrite: copy before writing.
        before = torch.arange(self._begin(offset), offset, device=device) % self.size
        newest = min(time, self.size)
        after = torch.arange(offset + time - newest, offset + time, device=device) % self.size
        returned = []
        for stored, values in zip(self.tensors, new, strict=True):
            values = values.to(stored.dtype)
            returned.append(torch.cat([stored[:, :, before], values], 2))
            stored[:, :, after] = values[:, :, time - newest :]
        return tuple(returned)

    def slots(self, offset: int, num_new: int, device: torch.device) -> Tensor | None:
        """All while they fit; then for one token the latest of each slot, else the first query's window and the new."""
        end = offset + num_new
        if end <= self.size:
            return None
        if num_new == 1:
            return offset - (offset - torch.arange(self.size, device=device)) % self.size
        return torch.arange(self._begin(offset), end, device=device)

    def _begin(self, offset: int) -> int:
        """The earliest token that a query at ``offset`` sees."""
        return max(0, offset - self.size + 1)


class KVCache:
    """The caches of all layers, how far they are filled, and which document each cached token belongs to.

    ``length`` counts filled slots, the same in every row: shorter rows are padded on the left with tokens of document
    -1.
    """

    def __init__(self, layers: Sequence[LayerCache], batch_size: int, max_length: int, device: torch.device) -> None:
        self.layers = list(layers)
        self.batch_size = batch_size
        self.max_length = max_length
        self.length = 0
        self._documents = torch.zeros(batch_size, max_length, dtype=torch.int64, device=device)
        self._has_documents = False

    @property
    def num_bytes(self) -> int:
        """Bytes of the layers' tensors (the document ids, 8 bytes a slot, come on top)."""
        return sum(tensor.nbytes for layer in self.layers for tensor in layer.tensors)

    def select(self, rows: Tensor) -> None:
        """Go on with those rows (int64) alone, in their order: the memory of the others is free."""
        for layer in self.layers:
            layer.select(rows)
        self._documents = self._documents[rows]
        self.batch_size = len(rows)

    def add_documents(self, documents: Tensor | None, batch_size: int, num_new: int) -> Tensor | None:
        """Record the documents (None: 0) of the next ``num_new`` tokens: those of all keys, None while there are none.

        Raises ValueError when the tokens do not fit.
        """
        end = self.length + num_new
        if batch_size != self.batch_size:
            raise ValueError(f"{batch_size} rows of tokens for a cache of {self.batch_size}; make a cache of that size")
        if end > self.max_length:
            raise ValueError(
                f"{num_new} more tokens do not fit the cache: {self.length} of max_length={self.max_length} slots are "
                "taken; make a longer cache"
            )
        self._documents[:, self.length : end] = 0 if documents is None else documents
        self._has_documents |= documents is not None
        return self._documents[:, :end] if self._has_documents else None
