"""Encoders by kernels, shared out among threads."""

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

from atomiclm.tokenizer.bpe_ops import Pair
from atomiclm.tokenizer.compiled import are_compiled, load_kernel, why_unavailable
from atomiclm.tokenizer.constants import COMPILED_FROM_BYTES, COMPILING_FROM_BYTES
from atomiclm.tokenizer.patterns import SplitPattern

if TYPE_CHECKING:
    from atomiclm.tokenizer.encode_compiled import CompiledEncoder
    from atomiclm.tokenizer.split_compiled import CompiledSplitter, CustomSplitter


TRAINING_KERNELS = ("split", "count", "count.spell", "places.lay_out", "scan.scan_bytes", "merge_loop")
"""What training always loads. Others, which only some texts need, are compiled when the first of those comes."""

ENCODING_KERNELS = ("split", "encode", "encode.rank_pairs", "encode.seed")
"""What encoding always loads."""


class CompiledEncoders:
    """As many encoders of one vocabulary as threads have used at once; nothing is loaded before the first is.

    Args:
        tokens: the bytes of each token number.
        merges: pairs of token numbers, in order of rank.
        ids: the id of each token number.
        whole_pretokens: whether a pretoken that is a token becomes it without merging.
        split: the pattern that cuts the text.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        merges: Sequence[Pair],
        ids: Sequence[int],
        whole_pretokens: bool,
        split: SplitPattern,
    ) -> None:
        self._make = functools.partial(_make, tokens, merges, ids, whole_pretokens, split)
        self._first: CompiledEncoder | None = None
        self._idle: list[CompiledEncoder] = []

    @contextmanager
    def borrow(self) -> Iterator["CompiledEncoder"]:
        """An encoder that no other thread uses meanwhile."""
        try:
            encoder = self._idle.pop()
        except IndexError:
            if self._first is None:
                self._first = encoder = self._make()
            else:
                encoder = self._first.copy()
        try:
            yield encoder
        finally:
            self._idle.append(encoder)

    def map[T](
        self, encode: Callable[["CompiledEncoder", bytes], T], texts: Sequence[bytes], threads: int = 1
    ) -> list[T]:
        """What `encode` makes of each text; kernels let other threads run."""

        def encode_some(some: Sequence[bytes]) -> list[T]:
            with self.borrow() as encoder:
                return [encode(encoder, text) for text in some]

        if threads == 1 or len(texts) < 2:
            return encode_some(texts)
        shares = list(_shares(texts, 4 * threads))
        with ThreadPoolExecutor(threads) as pool:
            return list(chain.from_iterable(pool.map(encode_some, shares)))


def compiled_splitter(split: SplitPattern) -> "CompiledSplitter | CustomSplitter":
    """What cuts text by kernels, as far as the pattern has one."""
    from atomiclm.tokenizer.split_compiled import CompiledSplitter, CustomSplitter

    return CustomSplitter(split) if split.code is None else CompiledSplitter(split)


def worth_kernels_from(kernels: tuple[str, ...]) -> int:
    """From how many bytes of text on these kernels are worth it: few where they are compiled already, else many.

    Few also where none can be had, so that `kernels_at_hand` says so.
    """
    return COMPILED_FROM_BYTES if why_unavailable() or are_compiled(kernels) else COMPILING_FROM_BYTES


@functools.cache
def kernels_at_hand() -> bool:
    """Whether kernels can be had here; why not is said once."""
    reason = why_unavailable()
    if reason is None:
        try:
            load_kernel("split")
        except ImportError as error:  # installed, and of a version that does not go with another package's
            reason = f"numba cannot be imported ({error})"
    if reason:
        log = logging.getLogger("atomiclm.tokenizer")
        log.warning("%s, so tokenizing runs in plain Python: same ids, about thirty times slower", reason)
    return reason is None


def _make(
    tokens: Sequence[bytes], merges: Sequence[Pair], ids: Sequence[int], whole_pretokens: bool, split: SplitPattern
) -> "CompiledEncoder":
    from atomiclm.tokenizer.encode_compiled import CompiledEncoder

    return CompiledEncoder(tokens, merges, ids, whole_pretokens, compiled_splitter(split))


def _shares(texts: Sequence[bytes], count: int) -> Iterator[Sequence[bytes]]:
    """Consecutive texts in about `count` shares of about equal size."""
    target = sum(map(len, texts)) / count
    share: list[bytes] = []
    size = 0
    for text in texts:
        share.append(text)
        size += len(text)
        if size >= target:
            yield share
            share, size = [], 0
    if share:
        yield share
