"""A corpus that is ready to train on, and the tokenizer it takes: `atomiclm.tokenizer.Tokenizer` is one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from atomiclm.cli import UserError
from atomiclm.data.shards import TokenShard
from atomiclm.data.split import Split

END_OF_TEXT = "<|endoftext|>"  # the special token that separates documents


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


def check_separator(tokenizer: TrainableTokenizer) -> None:
    """Raise UserError unless the tokenizer has the special token that separates documents."""
    if END_OF_TEXT not in tokenizer.special_tokens:
        raise UserError(
            f"special_tokens: {sorted(tokenizer.special_tokens)} must hold {END_OF_TEXT!r}, which separates documents; "
            "add it"
        )


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
        (digest, vocab_size), `separator`, `dtype`, per split `bytes tokens documents sha256`, `validation_sha256`
        (of the validation split's UTF-8 bytes, the identity of every validation figure), `files` with their hashes,
        `parts` (the same facts by source), and of this source `source` and `left_out`
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
