"""What every tokenizer is: text to ids, and back without loss."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Literal, Self

type AllowedSpecial = AbstractSet[str] | Literal["all"]
"""The special tokens that may be recognised in a text."""


class Tokenizer(ABC):
    """A reversible map between text and sequences of ids in 0 .. vocab_size - 1.

    Laws that every implementation keeps:

    - `decode(encode(text)) == text` for all text that has a UTF-8 form, and `decode_bytes` gives that form exactly.
    - Ordinary text never produces the id of a special token; only spellings named in `allowed_special` do.
    - Training depends on the stream of text alone, not on how it is cut into chunks.
    """

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of ids in use; after training it may be smaller than what was asked for."""

    @property
    @abstractmethod
    def special_tokens(self) -> dict[str, int]:
        """Spelling and id of each special token."""

    def train(self, text: str | bytes) -> None:
        """Learn the vocabulary from one text; see `train_from_iterator`."""
        self.train_from_iterator([text])

    @abstractmethod
    def train_from_iterator(self, chunks: Iterable[str | bytes]) -> None:
        """Learn the vocabulary from a stream, replacing what was learned before.

        Args:
            chunks: pieces of ONE stream, in order. Nothing is put between them and where they are cut changes
                nothing, so documents have to be separated by a special token.
        """

    @abstractmethod
    def encode(self, text: str, allowed_special: AllowedSpecial = frozenset()) -> list[int]:
        """Text to ids.

        Args:
            text: any string.
            allowed_special: special tokens that become their id where their spelling occurs; "all" for all of them. The
                spelling of every other special token is ordinary text.

        Raises:
            ValueError: `text` is not a string, or `allowed_special` names an unknown token.
        """

    def encode_batch(self, texts: Sequence[str], allowed_special: AllowedSpecial = frozenset()) -> list[list[int]]:
        """The ids of each text; see `encode`."""
        return [self.encode(text, allowed_special) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to text. Bytes that are not UTF-8, such as a character cut in half, become U+FFFD.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    @abstractmethod
    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Ids to the exact bytes they stand for; a special token stands for its spelling.

        Raises:
            ValueError: an id is not in the vocabulary.
        """

    @abstractmethod
    def token_bytes(self) -> list[int]:
        """Bytes of text that each id stands for, 0 for special tokens. Bits per byte divides by their sum."""

    @abstractmethod
    def save(self, path: str | Path) -> None:
        """Write the tokenizer to one file, all of it or nothing."""

    @classmethod
    @abstractmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file written by `save`.

        Raises:
            ValueError: the file is not what `save` writes; the message names the file and the field.
            OSError: the file cannot be read.
        """

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What decides the result of training, beside the corpus; JSON-able, and known before training."""

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over everything that decides encoding: equal digests, equal ids for every text."""
