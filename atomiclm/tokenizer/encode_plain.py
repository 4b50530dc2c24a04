"""Bytes to ids in plain Python: cut, look up, and merge what was not seen before."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from atomiclm.tokenizer.bpe_ops import Pair
from atomiclm.tokenizer.encode_pretoken import PretokenCache, encode_basic, encode_heap
from atomiclm.tokenizer.patterns import SplitPattern
from atomiclm.tokenizer.pretokens import RegexSplitter

if TYPE_CHECKING:
    from atomiclm.tokenizer.pretokens import Ends


class PlainEncoder:
    """Bytes to ids; what `CompiledEncoder` is held to.

    Args:
        vocabulary: the bytes of each token number.
        ranks: the rank of each pair of token numbers.
        ids: the id of each token number.
        whole_pretokens: whether a pretoken that is a token becomes it without merging.
        pattern: what cuts the text.
        basic: merge as one would say it, and slowly.
    """

    def __init__(
        self,
        vocabulary: Sequence[bytes],
        ranks: Mapping[Pair, int],
        ids: Sequence[int],
        whole_pretokens: bool,
        pattern: SplitPattern,
        basic: bool = False,
    ) -> None:
        self._splitter = RegexSplitter(pattern)
        self._numbers = {token: number for number, token in enumerate(vocabulary)} if whole_pretokens else {}
        self._ids = ids
        self._ranks = ranks
        self._merge = partial(encode_basic if basic else encode_heap, ranks=ranks)
        self._ids_of = PretokenCache(self._encode_pretoken)

    def _encode_pretoken(self, pretoken: bytes) -> list[int]:
        whole = self._numbers.get(pretoken)
        numbers = self._merge(pretoken) if whole is None else [whole]
        return [self._ids[number] for number in numbers]

    def encode(self, data: bytes) -> list[int]:
        """The ids of a text without special tokens."""
        return self.encode_cut(data, self._splitter.cuts(data))

    def encode_cut(self, data: bytes, ends: "Ends") -> list[int]:
        """The ids of pretokens that are cut already, the first of which begins with the text."""
        if not self._ranks:  # every byte is a token
            return list(map(self._ids.__getitem__, data[: ends[-1]] if len(ends) else b""))
        starts = chain((0,), ends)
        pretokens = (data[start:end] for start, end in zip(starts, ends, strict=False))
        return list(chain.from_iterable(map(self._ids_of.__getitem__, pretokens)))
