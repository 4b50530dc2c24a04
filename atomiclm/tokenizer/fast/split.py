"""Text cut into pretokens: what `SplitPattern.split` does, on bytes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from atomiclm.tokenizer.fast.kernel import Kernel, inline
from atomiclm.tokenizer.fast.language import WINDOW, Int64s, UInt8s, int64, load64, uint64
from atomiclm.tokenizer.fast.pretoken_end import gpt2_end, gpt4_end, o200k_end
from atomiclm.tokenizer.fast.window import gpt2_begins, gpt4_begins, o200k_begins, write_ends
from atomiclm.tokenizer.patterns import CL100K, GPT2, GPT4, O200K
from atomiclm.tokenizer.pretokenize import RegexSplitter
from atomiclm.tokenizer.unicode_table import two_stages

type Ends = NDArray[np.int64]

BLOCK_PRETOKENS = 1 << 14
"""Pretokens that are cut at a time: few calls, and all of a block is still in the processor's cache when it is used."""

NOT_ASCII = 0x8080808080808080
"""The bit of each of eight bytes that is zero in ASCII."""


@inline
def pretokens_begin(pattern: int64, data: UInt8s, position: int64, size: int64) -> uint64:
    """Where pretokens begin in the window at `position`, as far as it can tell."""
    if pattern in (GPT4, CL100K):
        return gpt4_begins(data, position, size)
    if pattern == O200K:
        return o200k_begins(data, position, size)
    if pattern == GPT2:
        return gpt2_begins(data, position, size)
    return uint64(0)


@inline
def pretoken_end(pattern: int64, data: UInt8s, position: int64, size: int64, stage1: UInt8s, stage2: UInt8s) -> int64:
    """Where the pretoken that begins at `position` ends."""
    if pattern in (GPT4, CL100K):
        return gpt4_end(data, position, size, int64(pattern == CL100K), stage1, stage2)
    if pattern == O200K:
        return o200k_end(data, position, size, stage1, stage2)
    if pattern == GPT2:
        return gpt2_end(data, position, size, stage1, stage2)
    return size


@Kernel
def split(
    data: UInt8s,
    size: int64,
    start: int64,
    pattern: int64,
    stage1: UInt8s,
    stage2: UInt8s,
    ends: Int64s,
    capacity: int64,
) -> int64:
    """Cut `data[start:size]` into pretokens.

    Args:
        data: the text, UTF-8 or not.
        size: where the text ends.
        start: where a pretoken begins.
        pattern: a code of `patterns.py`.
        stage1: the first table of `unicode_table.two_stages`.
        stage2: the second.
        ends: filled with the offset in `data` at which each pretoken ends.
        capacity: how many ends there is room for. All of `data` is looked at, so stopping here moves no cut.

    Returns:
        How many ends were written; the last of them is `size` if and only if the text is done.
    """
    count = int64(0)
    position = start
    while position < size and count < capacity:
        # A window pays off when it holds a few pretokens, so not where other scripts are written.
        if position + WINDOW <= size and count + WINDOW <= capacity and not load64(data, position) & uint64(NOT_ASCII):
            known = count
            count = write_ends(pretokens_begin(pattern, data, position, size), position, ends, count)
            if count > known:
                position = ends[count - 1]
                continue
        position = pretoken_end(pattern, data, position, size, stage1, stage2)
        ends[count] = position
        count += 1
    return count


class CompiledSplitter(RegexSplitter):
    """Cuts bytes by the kernel of a named pattern, and by the regular expression of a custom one."""

    def blocks(self, data: bytes) -> Iterator[tuple[int, Ends]]:
        """Where each block of pretokens begins, and where each of its pretokens ends; valid until the next block."""
        if self.pattern.code is None:
            if data:
                yield 0, np.array(super().cuts(data), np.int64)
            return
        stages = two_stages()
        ends = np.empty(min(BLOCK_PRETOKENS, len(data)), np.int64)
        start, size = 0, len(data)
        while start < size:
            count = split(data, size, start, self.pattern.code, *stages, ends, len(ends))
            yield start, ends[:count]
            start = int(ends[count - 1])

    def cuts(self, data: bytes) -> Ends:
        blocks = [ends.copy() for _, ends in self.blocks(data)]
        return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.int64), *blocks])
