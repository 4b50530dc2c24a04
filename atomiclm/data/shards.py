"""A corpus as token ids: flat little-endian arrays on disk, read through the page cache."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from atomiclm.data.source import SourceError, Split

Tokens = npt.NDArray[np.unsignedinteger[Any]]
Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

COUNTS = ("bytes", "tokens", "documents")  # of a split, as the manifest has them
VALIDATION_TEXT = "validation.txt"  # the held-out text of a span, until it is hashed
COPY_BYTES = 1 << 20


class TrainableTokenizer(Protocol):
    """What `prepare` needs of a tokenizer; `atomiclm.tokenizer.base` says what each method does."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def special_tokens(self) -> Mapping[str, int]: ...
    def settings(self) -> dict[str, Any]: ...
    def digest(self) -> str: ...
    def train_from_iterator(self, chunks: Iterable[str], num_bytes: int | None = None) -> None: ...
    def encode_arrays(self, texts: Sequence[bytes]) -> list[npt.NDArray[np.uint32]]: ...
    def decode_bytes(self, ids: Iterable[int]) -> bytes: ...
    def token_bytes(self) -> list[int]: ...
    def save(self, path: Path) -> None: ...
    @classmethod
    def load(cls, path: Path) -> Self: ...


@runtime_checkable
class CountingTokenizer(Protocol):
    """A tokenizer whose text several processes can count; see `BasicTokenizer`."""

    def counts_apart(self, num_bytes: int) -> bool: ...
    def count(self, chunks: Iterable[str]) -> Any: ...
    def train_from_counts(self, parts: Iterable[Any]) -> None: ...


@dataclass(frozen=True, eq=False)
class TokenShard:
    """One split of a corpus, or of one of its sources.

    tokens: (num_tokens,) uint16 or uint32, memory-mapped, read only: each document's ids after one separator
    num_bytes: UTF-8 bytes that the tokens stand for; separators stand for none
    separator: the id that begins each document
    answers: (num_tokens,) bool, which tokens are answers; None where the source knows of none
    """

    tokens: Tokens
    num_bytes: int
    num_documents: int
    separator: int
    answers: Flags | None = None

    @property
    def num_tokens(self) -> int:
        """Length of `tokens`, separators included."""
        return len(self.tokens)

    def longest_document(self) -> int:
        """Tokens of the longest document, its separator among them."""
        return int(np.diff(np.flatnonzero(self.tokens == self.separator), append=self.num_tokens).max())


@dataclass(frozen=True, eq=False)
class CorpusPart:
    """One source of a corpus.

    name: what the mixture calls it; "" where the corpus has one source
    weight: share of the training samples; the weights of a corpus add up to 1
    answers_only: whether only answers count as training targets
    train, validation: its stretch of the corpus's shards
    """

    name: str
    weight: float
    answers_only: bool
    train: TokenShard
    validation: TokenShard


@dataclass(frozen=True, eq=False)
class PreparedCorpus[T: TrainableTokenizer]:
    """A corpus ready to train on.

    tokenizer: trained on training text only
    train, validation: token ids, one source after another; every document is one END_OF_TEXT followed by its tokens
    manifest: JSON-able facts: `corpus_sha256`, `num_documents`, `split` (rule, validation_fraction), `tokenizer`
        (digest, vocab_size), `separator`, `dtype`, per split `bytes tokens documents`, `validation_sha256` (the
        identity of every validation figure: of the validation split's UTF-8 bytes, documents one after the other with
        nothing between them), `files` with their hashes, `parts` (the same by source), `source` and `left_out`
    folder: where the shards are
    parts: the sources, at least one
    anchors: what is known in advance of the validation text, in bits per byte, by name ("entropy")
    """

    tokenizer: T
    train: TokenShard
    validation: TokenShard
    manifest: dict[str, Any]
    folder: Path
    parts: tuple[CorpusPart, ...]
    anchors: dict[str, float] = field(default_factory=dict)

    @property
    def bytes_per_training_token(self) -> float:
        """Bytes that a training token stands for on average, sources weighted as training does."""
        return sum(part.weight * part.train.num_bytes / part.train.num_tokens for part in self.parts)

    def raw_bytes(self, split: Split, last_bytes: int | None = None) -> bytes:
        """The UTF-8 bytes of a split, documents joined by nothing; with `last_bytes`, no more than that of its end."""
        shard = self.train if split == "train" else self.validation
        token_bytes = np.asarray(self.tokenizer.token_bytes(), dtype=np.int64)
        wanted = shard.num_bytes if last_bytes is None else min(last_bytes, shard.num_bytes)
        count = min(wanted, shard.num_tokens)
        tail = np.asarray(shard.tokens[shard.num_tokens - count :])
        while token_bytes[tail].sum() < wanted:  # separators stand for no bytes
            count = min(2 * count, shard.num_tokens)
            tail = np.asarray(shard.tokens[shard.num_tokens - count :])
        raw = self.tokenizer.decode_bytes(tail[token_bytes[tail] > 0].tolist())
        return raw[len(raw) - wanted :]


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 when every id fits in it, else uint32; little-endian whatever the machine."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def open_shards(
    folder: Path, split: Split, manifest: dict[str, Any], has_answers: Mapping[str, bool]
) -> tuple[TokenShard, dict[str, TokenShard]]:
    """(what `JoinedShards` wrote, the stretch of it of each source). has_answers: by source, in the order written."""
    tokens: Tokens = np.memmap(folder / f"{split}.bin", dtype=np.dtype(manifest["dtype"]), mode="r")
    answers = None
    if any(has_answers.values()):
        answers = np.memmap(folder / f"{split}.answers.bin", dtype=np.bool_, mode="r")

    def shard(facts: dict[str, Any], first: int, flags: Flags | None) -> TokenShard:
        stretch = slice(first, first + facts["tokens"])
        flags = None if flags is None else flags[stretch]
        separator = manifest["separator"]
        return TokenShard(tokens[stretch], facts["bytes"], facts["documents"], separator, flags)

    sources, first = {}, 0
    for name, knows_answers in has_answers.items():
        facts = manifest["parts"][name][split]
        sources[name] = shard(facts, first, answers if knows_answers else None)
        first += facts["tokens"]
    return shard(manifest[split], 0, answers), sources


class ShardWriter:
    """Writes `<split>.bin`, `<split>.answers.bin` when has_answers, `validation.txt`, and accounts for every byte.

    token_bytes: (vocab_size,) bytes that each id stands for
    files: closes what is opened
    """

    def __init__(
        self, folder: Path, split: Split, separator: int, token_bytes: Ids, has_answers: bool, files: ExitStack
    ) -> None:
        self._file = files.enter_context((folder / f"{split}.bin").open("wb"))
        self._text_file = self._answers_file = None
        if split == "validation":
            self._text_file = files.enter_context((folder / VALIDATION_TEXT).open("wb"))
        if has_answers:
            self._answers_file = files.enter_context((folder / f"{split}.answers.bin").open("wb"))
        self._dtype = token_dtype(len(token_bytes))
        self._separator = separator
        self._token_bytes = token_bytes
        self.counts = dict.fromkeys(COUNTS, 0)

    def write(
        self, rows: Sequence[npt.NDArray[np.uint32]], raws: Sequence[bytes], answers: Flags, begins: Flags
    ) -> None:
        """Append pieces of text.

        rows, raws: ids and bytes of each
        answers: which of all their bytes belong to an answer
        begins: (len(rows),) which pieces begin a document, and so come after a separator
        """
        ids = np.concatenate([np.empty(0, np.uint32), *rows])
        first = np.cumsum([0, *map(len, rows)])[:-1]
        ends = np.cumsum([0, *map(len, raws)])
        lengths = self._token_bytes[ids]
        token_ends = np.cumsum(lengths)
        covered = np.append(token_ends - lengths, lengths.sum())[[*first, len(ids)]]
        # Bits per byte divides by them.
        assert (covered == ends).all(), f"the tokenizer's ids end after {covered} bytes, and the texts after {ends}"
        separators = first[begins]
        self._file.write(np.insert(ids.astype(self._dtype), separators, self._separator).tobytes())
        if self._text_file is not None:
            self._text_file.writelines(raws)
        if self._answers_file is not None:
            counts = np.concatenate([[0], np.cumsum(answers)])
            inside = counts[token_ends] - counts[token_ends - lengths]
            if ((inside > 0) & (inside < lengths)).any():
                raise SourceError("tokenizer", "a token joins part of an answer with other text; use tokenizer=bytes")
            self._answers_file.write(np.insert(inside > 0, separators, False).tobytes())
        self.counts["bytes"] += int(ends[-1])
        self.counts["tokens"] += len(ids) + len(separators)
        self.counts["documents"] += len(separators)


class JoinedShards:
    """One split of a corpus, joined from what `ShardWriter`s wrote, which need not be in memory."""

    def __init__(self, folder: Path, split: Split, has_answers: bool, files: ExitStack) -> None:
        self._names = [f"{split}.bin", *([f"{split}.answers.bin"] if has_answers else [])]
        self._files = [files.enter_context((folder / name).open("wb")) for name in self._names]
        self._whole, self._source = Sums(split), Sums(split)

    def append(self, folder: Path, counts: Mapping[str, int]) -> None:
        """Append what a `ShardWriter` with these counts wrote into `folder`."""
        for name, joined in zip(self._names, self._files, strict=True):
            with (folder / name).open("rb") as shard:
                shutil.copyfileobj(shard, joined, COPY_BYTES)
        for sums in (self._whole, self._source):
            sums.add(folder, counts)

    def end_source(self) -> dict[str, Any]:
        """The facts of the source that ends here, as the manifest has them."""
        ended, self._source = self._source, Sums(self._source.split)
        return ended.facts()

    def facts(self) -> dict[str, Any]:
        """The facts of the whole."""
        return self._whole.facts()


@dataclass
class Sums:
    """Counts of some text, and the sha256 of what is held out."""

    split: Split
    counts: Counter[str] = field(default_factory=Counter)
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, folder: Path, counts: Mapping[str, int]) -> None:
        """Add what a `ShardWriter` with these counts wrote into `folder`."""
        self.counts.update(counts)
        if self.split == "validation":
            with (folder / VALIDATION_TEXT).open("rb") as text:
                while raw := text.read(COPY_BYTES):
                    self.digest.update(raw)

    def facts(self) -> dict[str, Any]:
        """As the manifest has it."""
        counts = {name: self.counts[name] for name in COUNTS}
        return counts | {"sha256": self.digest.hexdigest()} if self.split == "validation" else counts
