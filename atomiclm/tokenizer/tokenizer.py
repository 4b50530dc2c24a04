"""Byte-level byte-pair encoding with a split pattern and special tokens."""

import os
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from atomiclm.tokenizer import fast
from atomiclm.tokenizer.base import AllowedSpecial, Tokenizer
from atomiclm.tokenizer.constants import (
    BLOCK_BYTES,
    COMPILED_FROM_BYTES,
    COMPILING_FROM_BYTES,
    END_OF_TEXT,
    FORMAT_VERSION,
    MAX_VOCAB_SIZE,
    TOKENIZER_BASE_LENGTH,
)
from atomiclm.tokenizer.encode import PlainEncoder
from atomiclm.tokenizer.patterns import CUSTOM, split_pattern
from atomiclm.tokenizer.pretokenize import (
    Chunk,
    Finder,
    RegexSplitter,
    as_bytes,
    beginning,
    count_pretokens,
    join_chunks,
    segments,
    special_finder,
    split_stream,
    to_bytes,
    weighted_segments,
)
from atomiclm.tokenizer.tokenizer_state import (
    TokenizerState,
    check_special_tokens,
    read_tokenizer_file,
    sha256_of,
    spell_tokens,
    write_tokenizer_file,
)
from atomiclm.tokenizer.train_basic import Pair, TieBreak, train_basic
from atomiclm.tokenizer.train_heap import train_heap
from atomiclm.tokenizer.unicode_table import UNICODE_SHA256

if TYPE_CHECKING:
    from atomiclm.tokenizer.base import Ids
    from atomiclm.tokenizer.fast.count import Words
    from atomiclm.tokenizer.fast.encoder import CompiledEncoder, EncoderPool

type Algorithm = Literal["compiled", "heap", "basic"]


class BasicTokenizer(Tokenizer):
    """Byte-pair encoding (Sennrich et al., 2016, arXiv 1508.07909) on raw bytes (Radford et al., 2019, "GPT-2").

    Ids: 0 .. 255 are the bytes, then come the merges in the order learned, then the special tokens. (A tokenizer
    imported from elsewhere keeps its own ids.) Text is cut at the special tokens, then by the pattern into pretokens;
    within a pretoken, neighbouring tokens are merged as was learned. Training ends early when no pair is left, so
    `vocab_size` can stay below `target_vocab_size`.

    Args:
        vocab_size: ids to end up with: 256 bytes + merges + special tokens. Without merges training reads nothing.
        pattern: "gpt4", "cl100k", "gpt2", "o200k", "none", or a regular expression without capturing groups (see
            `patterns.py`).
        special_tokens: spellings to which the last ids belong, in this order.
        algorithm: "compiled", which leaves small texts, and all where kernels cannot be compiled, to "heap", plain
            Python; or "basic", the plainest code, slow. They give the same merges and ids.
        tie_break: which of two equally frequent pairs is merged first: "bytes" or "huggingface" (see `train_basic.py`).

    Attributes:
        target_vocab_size: the argument `vocab_size`.
        merges: pairs of token numbers in the order learned; the i-th becomes the token number 256 + i.
        ranks: pair to its index in `merges`; lower ranks are merged first.
        byte_ids: the id of each of the 256 bytes.
        merge_ids: the id of each merge.
        whole_pretokens: whether a pretoken that is a token becomes it without merging (imported tokenizers only).
        trained_on: bytes, pretokens and distinct pretokens of the corpus; None before training or if unknown.

    Raises:
        ValueError: an argument breaks a rule above; the message names it and the fix.
    """

    def __init__(
        self,
        vocab_size: int = 4096,
        pattern: str = "gpt4",
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        algorithm: Algorithm = "compiled",
        tie_break: TieBreak = "bytes",
    ) -> None:
        special = check_special_tokens(special_tokens)
        smallest = TOKENIZER_BASE_LENGTH + len(special)
        if not isinstance(vocab_size, int) or isinstance(vocab_size, bool) or vocab_size < smallest:
            raise ValueError(
                f"vocab_size: {vocab_size!r} must be an integer of at least {smallest} "
                f"({TOKENIZER_BASE_LENGTH} bytes + {len(special)} special tokens); set it to {smallest} or more"
            )
        if vocab_size > MAX_VOCAB_SIZE:
            raise ValueError(f"vocab_size: {vocab_size} is more than {MAX_VOCAB_SIZE}, the most there can be")
        if algorithm not in ("compiled", "heap", "basic"):
            raise ValueError(f"algorithm: {algorithm!r} is unknown; use 'compiled', 'heap', 'basic'")
        if tie_break not in ("bytes", "huggingface"):
            raise ValueError(f"tie_break: {tie_break!r} is unknown; use 'bytes' or 'huggingface'")
        self.algorithm = algorithm
        self._use(TokenizerState.learned(split_pattern(pattern).text, vocab_size, special, [], tie_break, None))

    def __repr__(self) -> str:
        sizes = f"vocab_size={self.vocab_size} of {self.target_vocab_size}"
        return f"{type(self).__name__}({sizes}, pattern={self.pattern!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_state, (self._state, self.algorithm)  # a copy loads kernels of its own

    @classmethod
    def from_state(cls, state: TokenizerState, algorithm: Algorithm = "compiled") -> Self:
        """The tokenizer that a file or an importer describes."""
        tokenizer = cls.__new__(cls)  # a subclass may be constructed in another way
        tokenizer.algorithm = algorithm
        tokenizer._use(state)
        return tokenizer

    def state(self) -> TokenizerState:
        return self._state

    def _use(self, state: TokenizerState) -> None:
        """Take over what was learned and derive from it all that encoding and decoding look up."""
        self._state = state
        self._split = split_pattern(state.pattern)
        self.pattern = self._split.text if self._split.name == CUSTOM else self._split.name
        self.target_vocab_size = state.target_vocab_size
        self.tie_break: TieBreak | None = state.tie_break
        self.trained_on = state.trained_on
        self.merges: list[Pair] = list(state.merges)
        self.ranks: dict[Pair, int] = state.ranks
        self.byte_ids, self.merge_ids = state.byte_ids, state.merge_ids
        self.whole_pretokens = state.whole_pretokens
        self._special_ids = dict(state.special_tokens)
        self._vocab_size = state.vocab_size
        self._tokens = spell_tokens(self.merges)
        self._ids = (*self.byte_ids, *self.merge_ids)
        # A dictionary and not a list, so that -1 is unknown instead of the last id.
        self._bytes_of = dict(zip(self._ids, self._tokens, strict=True))
        self._bytes_of |= {token: to_bytes(spelling) for spelling, token in self._special_ids.items()}
        self.__dict__.pop("_plain", None)  # that of other merges
        # Others than before: a thread that encodes meanwhile must not give back an encoder of the old merges.
        self._encoders: EncoderPool | None = None
        self._bytes_seen = 0

    @cached_property
    def _plain(self) -> PlainEncoder:
        words = self._tokens, self.ranks, self._ids
        return PlainEncoder(*words, self.whole_pretokens, self._split, self.algorithm == "basic")

    @property
    def vocab_size(self) -> int:
        """The highest id + 1: of a tokenizer trained here, 256 bytes + merges learned + special tokens."""
        return self._vocab_size

    @property
    def special_tokens(self) -> dict[str, int]:
        return dict(self._special_ids)

    def train_from_iterator(self, chunks: Iterable[Chunk], num_bytes: int | None = None) -> None:
        """See `Tokenizer.train_from_iterator`. Special tokens in the stream divide it and are not learned from.

        Only the counts of different pretokens are held in memory.
        """
        if not self._num_merges:
            return
        tie_break = self._known_tie_break()
        if num_bytes is None and self.algorithm == "compiled":
            chunks, num_bytes = beginning(chunks, COMPILED_FROM_BYTES)
            if num_bytes >= COMPILED_FROM_BYTES:  # only then look for compiled kernels, which imports numba
                chunks, num_bytes = beginning(chunks, fast.worth_from("train"))
        if self._compiles(num_bytes or 0, "train"):
            self._train_on(self.count(chunks))
            return
        pretokens = count_pretokens(chunks, self._split, self._special_bytes())
        learn = self._train_basic if self.algorithm == "basic" else self._train_heap
        num_bytes = sum(len(pretoken) * count for pretoken, count in pretokens.items())
        merges = learn(pretokens, self._num_merges, tie_break)
        self._learned(merges, num_bytes, sum(pretokens.values()), len(pretokens))

    def counts_apart(self, num_bytes: int) -> bool:
        """Whether `count` and `train_from_counts` can train on so much text; else only `train_from_iterator` can."""
        return self._num_merges > 0 and self._compiles(num_bytes, "train")

    def count(self, chunks: Iterable[Chunk]) -> "Words":
        """How often each pretoken of a part of the stream occurs. Parts end where special tokens divide the stream."""
        from atomiclm.tokenizer.fast.split import CompiledSplitter
        from atomiclm.tokenizer.fast.train import count_stream

        return count_stream(weighted_segments(chunks, self._special_bytes()), CompiledSplitter(self._split))

    def train_from_counts(self, parts: Iterable["Words"]) -> None:
        """As `train_from_iterator`, of a stream whose parts were counted, wherever and in whatever order."""
        from atomiclm.tokenizer.fast.count import PretokenCounter

        counter = PretokenCounter()
        for part in parts:
            counter.add_words(part)
        words = counter.words()
        del counter  # its memory is free for training
        self._train_on(words)

    def _train_on(self, words: "Words") -> None:
        from atomiclm.tokenizer.fast.train import train_compiled

        merges = train_compiled(words, self._num_merges, self._known_tie_break())
        self._learned(merges, words.total_bytes, int(words.counts.sum()), len(words))

    @property
    def _num_merges(self) -> int:
        return self.target_vocab_size - TOKENIZER_BASE_LENGTH - len(self._special_ids)

    def _special_bytes(self) -> list[bytes]:
        return [to_bytes(token) for token in self._special_ids]

    def _known_tie_break(self) -> TieBreak:
        if self.tie_break is None:
            raise ValueError(
                "tie_break: this tokenizer was imported and its rule is not known; train a new BasicTokenizer"
            )
        return self.tie_break

    def _learned(self, merges: list[Pair], num_bytes: int, num_pretokens: int, num_distinct: int) -> None:
        trained_on = {"bytes": num_bytes, "pretokens": num_pretokens, "distinct_pretokens": num_distinct}
        settings = self._split.text, self.target_vocab_size, tuple(self._special_ids)
        self._use(TokenizerState.learned(*settings, merges, self._known_tie_break(), trained_on))

    _train_basic = staticmethod(train_basic)
    _train_heap = staticmethod(train_heap)

    def _compiles(self, num_bytes: int, task: fast.Task = "encode") -> bool:
        """Whether kernels shall work on `num_bytes` more: asked for, available, worth being loaded or even compiled."""
        self._bytes_seen += num_bytes
        if self.algorithm != "compiled" or self._bytes_seen < COMPILED_FROM_BYTES:
            return False
        return self._bytes_seen >= fast.worth_from(task) and fast.available()

    def encode(self, text: str | bytes, allowed_special: AllowedSpecial = frozenset()) -> list[int]:
        """See `Tokenizer.encode`. Where several special tokens begin, the longest is taken."""
        return self.encode_batch([text], allowed_special)[0]

    def encode_batch(
        self, texts: Sequence[str | bytes], allowed_special: AllowedSpecial = frozenset(), threads: int = 1
    ) -> list[list[int]]:
        encoded = self._encode_texts(texts, allowed_special, threads)
        return [ids if isinstance(ids, list) else ids.tolist() for ids in encoded]

    def encode_arrays(
        self, texts: Sequence[str | bytes], allowed_special: AllowedSpecial = frozenset(), threads: int = 1
    ) -> list["Ids"]:
        import numpy as np

        return [np.asarray(ids, np.uint32) for ids in self._encode_texts(texts, allowed_special, threads)]

    def _encode_texts(
        self, texts: Sequence[str | bytes], allowed_special: AllowedSpecial, threads: int
    ) -> "list[Ids] | list[list[int]]":
        """The ids of each text: in arrays from kernels, in lists from plain Python."""
        every = allowed_special == "all"
        finder = self._state.special_finder if every else special_finder(map(to_bytes, self._allowed(allowed_special)))
        if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
            raise ValueError(f"threads: {threads!r} must be an integer of at least 1")
        data = [as_bytes(text, "text", "encode one text at a time") for text in texts]
        if not self._compiles(sum(map(len, data))):
            return [list(chain.from_iterable(self._segments(text, finder, self._plain))) for text in data]
        import numpy as np

        from atomiclm.tokenizer.fast.encoder import CompiledEncoder, joined

        def encode(encoder: CompiledEncoder, some: Sequence[bytes]) -> "list[Ids]":
            cut = (self._segments(text, finder, encoder) for text in some)
            return [joined([np.asarray(ids, np.uint32) for ids in segments]) for segments in cut]

        return self._pool().map(encode if finder else CompiledEncoder.encode_texts, data, threads)

    def _segments(
        self, data: bytes, finder: Finder, encoder: "PlainEncoder | CompiledEncoder"
    ) -> "Iterator[Sequence[int] | Ids]":
        """The ids of the text between special tokens, and those of the special tokens, in order."""
        position = 0
        for match in finder.finditer(data) if finder else ():
            yield encoder.encode(data[position : match.start()])
            yield (self._special_ids[match.group().decode()],)
            position = match.end()
        yield encoder.encode(data[position:] if position else data)

    def encode_stream(
        self, chunks: Iterable[str | bytes], allowed_special: AllowedSpecial = frozenset(),
        block_bytes: int = BLOCK_BYTES,
    ) -> Iterator["Ids"]:  # fmt: skip
        """See `Tokenizer.encode_stream`; `block_bytes` of text, which is taken to be long, are encoded at a time."""
        return self._encode_blocks(chunks, COMPILING_FROM_BYTES, allowed_special, block_bytes)

    def encode_file(
        self, path: str | Path, allowed_special: AllowedSpecial = frozenset(), block_bytes: int = BLOCK_BYTES
    ) -> Iterator["Ids"]:
        """See `Tokenizer.encode_file`; `block_bytes` of text are encoded at a time."""
        with Path(path).open("rb") as file:
            blocks = iter(lambda: file.read(max(block_bytes, 1)), b"")
            num_bytes = os.fstat(file.fileno()).st_size
            yield from self._encode_blocks(blocks, num_bytes, allowed_special, block_bytes)

    def _encode_blocks(
        self, chunks: Iterable[str | bytes], num_bytes: int, allowed_special: AllowedSpecial, block_bytes: int
    ) -> Iterator["Ids"]:
        import numpy as np

        allowed = [to_bytes(token) for token in self._allowed(allowed_special)]
        ids_of = {to_bytes(token): token_id for token, token_id in self._special_ids.items()}
        if block_bytes < 1:
            raise ValueError(f"block_bytes: {block_bytes} must be at least 1")
        splitter = RegexSplitter(self._split)
        if compiled := self._compiles(num_bytes):
            from atomiclm.tokenizer.fast.split import CompiledSplitter

            splitter = CompiledSplitter(self._split)
        parts = segments(join_chunks(chunks, block_bytes), allowed)
        for data, ends, token in split_stream(parts, splitter, block_bytes):
            if len(ends) and compiled:
                with self._pool().borrow() as encoder:
                    ids = encoder.encode_cut(data, np.asarray(ends, np.int64))
                yield ids
            elif len(ends):
                yield np.array(self._plain.encode_cut(data, ends), np.uint32)
            if token:
                yield np.array([ids_of[token]], np.uint32)

    def _pool(self) -> "EncoderPool":
        if self._encoders is None:
            from atomiclm.tokenizer.fast.encoder import CompiledEncoder, EncoderPool

            vocabulary = self._tokens, self.merges, self._ids, self.whole_pretokens
            self._encoders = EncoderPool(lambda: CompiledEncoder(*vocabulary, self._split))
        return self._encoders

    def _allowed(self, allowed_special: AllowedSpecial) -> AbstractSet[str]:
        if allowed_special == "all":
            return self._special_ids.keys()
        if isinstance(allowed_special, str):
            raise ValueError(
                f"allowed_special: expected a set of tokens or 'all', got {allowed_special!r}; write a set"
            )
        allowed_special = set(allowed_special)  # it may be an iterator
        if unknown := sorted(allowed_special - self._special_ids.keys()):
            raise ValueError(
                f"allowed_special: {unknown} are not special tokens of this tokenizer; "
                f"name some of {list(self._special_ids)}, or build the tokenizer with more special_tokens"
            )
        return allowed_special

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        if hasattr(ids, "tolist"):
            ids = ids.tolist()  # an array or tensor: its numbers are slow to look up one by one
        try:
            return b"".join(map(self._bytes_of.__getitem__, ids))
        except KeyError as error:
            raise ValueError(
                f"ids: {error.args[0]!r} is not an id of this tokenizer, whose ids are 0 to {self.vocab_size - 1}; "
                f"decode with the tokenizer that made the ids"
            ) from error

    def token_bytes(self) -> list[int]:
        lengths = [0] * self.vocab_size
        for token_id, token in zip(self._ids, self._tokens, strict=True):
            lengths[token_id] = len(token)
        return lengths

    def save(self, path: str | Path) -> None:
        """Write one JSON file (see `tokenizer_state.py`), atomically."""
        write_tokenizer_file(Path(path), self._state)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        return cls.from_state(read_tokenizer_file(Path(path)))

    def settings(self) -> dict[str, Any]:
        """What decides training, beside the corpus: not `algorithm`, which changes only its speed."""
        return {
            "class": type(self).__name__, "format_version": FORMAT_VERSION, "vocab_size": self.target_vocab_size,
            "pattern": self._split.text, "unicode": UNICODE_SHA256, "tie_break": self.tie_break,
            "special_tokens": list(self._special_ids),
        }  # fmt: skip

    def digest(self) -> str:
        decisive = {
            "format_version": FORMAT_VERSION, "pattern": self._split.text, "unicode": UNICODE_SHA256,
            "merges": self.merges, "ids": self._ids, "whole_pretokens": self.whole_pretokens,
            "special_tokens": self._special_ids,
        }  # fmt: skip
        return sha256_of(decisive)
