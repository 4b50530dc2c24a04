"""The driver of the splitting kernel; `compiled/split.py` tells what it does, `patterns.py` what it must equal."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from atomiclm.tokenizer.compiled import load_kernel
from atomiclm.tokenizer.patterns import SplitPattern
from atomiclm.tokenizer.pretokens import RegexSplitter
from atomiclm.tokenizer.unicode_table import two_stages

type Ends = NDArray[np.int64]

BLOCK_PRETOKENS = 1 << 14
"""Pretokens that are cut at a time: few calls, and all of a block is still in the processor's cache when it is used."""


class CompiledSplitter:
    """Cuts bytes by a named pattern."""

    def __init__(self, pattern: SplitPattern) -> None:
        assert pattern.code is not None, "only named patterns have a kernel"
        self.pieces_in_doubt = pattern.pieces_in_doubt
        self._code = pattern.code
        self._split = load_kernel("split")
        self._stage1, self._stage2 = two_stages()

    def blocks(self, data: bytes) -> Iterator[tuple[int, Ends]]:
        """Where each block of pretokens begins, and where each of its pretokens ends; valid until the next block."""
        ends = np.empty(min(BLOCK_PRETOKENS, len(data)), np.int64)
        address = ends.ctypes.data
        start, size = 0, len(data)
        while start < size:
            count = self._split(data, size, start, self._code, self._stage1, self._stage2, address, len(ends))
            yield start, ends[:count]
            start = int(ends[count - 1])

    def cuts(self, data: bytes) -> Ends:
        """The ends of the pretokens of a whole text; see `pretokens.Splitter.cuts`."""
        blocks = [ends.copy() for _, ends in self.blocks(data)]
        return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.int64), *blocks])


class CustomSplitter(RegexSplitter):
    """The regular expression again, with the ends in arrays as kernels want them."""

    def blocks(self, data: bytes) -> Iterator[tuple[int, Ends]]:
        """See `CompiledSplitter.blocks`; here all pretokens are one block."""
        if data:
            yield 0, np.array(super().cuts(data), np.int64)
