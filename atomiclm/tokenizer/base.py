"""What every tokenizer is: text to ids, and back without loss; also while ids still arrive, as when a model writes."""

import codecs
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    type Ids = NDArray[np.uint32]

type AllowedSpecial = AbstractSet[str] | Literal["all"]
"""The special tokens that may be recognised in a text."""


class Tokenizer(ABC):
    """A reversible map between text and sequences of ids in 0 .. vocab_size - 1.

    Laws that every implementation keeps:

    - `decode(encode(text)) == text` for all text that has a UTF-8 form, and `decode_bytes` gives that form exactly.
    - `decode_bytes(encode(data)) == data` for all bytes, UTF-8 or not.
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
    def train_from_iterator(
        self, chunks: Iterable[str | bytes | tuple[str | bytes, int]], num_bytes: int | None = None
    ) -> None:
        """Learn the vocabulary from a stream, replacing what was learned before.

        Args:
            chunks: pieces of ONE stream, in order. Where they are cut changes nothing, so documents have to be
                separated by a special token. A pair (document, weight) is a whole document apart from what comes
                before and after, and counts as if it occurred `weight` times.
            num_bytes: about how much text comes; changes how fast, and never what is learned. None: not known.
        """

    @abstractmethod
    def encode(self, text: str | bytes, allowed_special: AllowedSpecial = frozenset()) -> list[int]:
        """Text to ids. Special tokens in `allowed_special` ("all" for all) become their id, others are ordinary text.

        Raises:
            ValueError: `text` is neither str nor bytes, or `allowed_special` names an unknown token.
        """

    def encode_array(self, text: str | bytes, allowed_special: AllowedSpecial = frozenset()) -> "Ids":
        """As `encode`, in an array of uint32, which is quicker to make and a tenth of the size of a list."""
        return self.encode_arrays([text], allowed_special)[0]

    @abstractmethod
    def encode_batch(
        self, texts: Sequence[str | bytes], allowed_special: AllowedSpecial = frozenset(), threads: int = 1
    ) -> list[list[int]]:
        """The ids of each text, as `encode` gives them, by so many threads."""

    @abstractmethod
    def encode_arrays(
        self, texts: Sequence[str | bytes], allowed_special: AllowedSpecial = frozenset(), threads: int = 1
    ) -> list["Ids"]:
        """As `encode_batch`, in arrays of uint32."""

    @abstractmethod
    def encode_stream(
        self, chunks: Iterable[str | bytes], allowed_special: AllowedSpecial = frozenset()
    ) -> Iterator["Ids"]:
        """The ids of one text that comes in chunks, in blocks and bounded memory; joined they are those of the text."""

    @abstractmethod
    def encode_file(self, path: str | Path, allowed_special: AllowedSpecial = frozenset()) -> Iterator["Ids"]:
        """The ids of all bytes of a file, block by block; see `encode_stream`."""

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to text. Bytes that are not UTF-8, such as a character cut in half, become U+FFFD; see `decode_bytes`."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    @abstractmethod
    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Ids to the exact bytes they stand for (a special token: its spelling); ValueError for an unknown id."""

    @abstractmethod
    def token_bytes(self) -> list[int]:
        """Bytes of text that each id stands for, 0 for special tokens. Bits per byte divides by their sum."""

    def unused_ids(self, count: int) -> list[int]:
        """Those of the ids 0 to `count` - 1 that stand for nothing: a model with so many rows must not write them."""
        special, lengths = set(self.special_tokens.values()), self.token_bytes()
        return [one for one in range(count) if one >= len(lengths) or (not lengths[one] and one not in special)]

    @abstractmethod
    def save(self, path: str | Path) -> None:
        """Write the tokenizer to one file, all of it or nothing."""

    @classmethod
    @abstractmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file written by `save`; a ValueError that names file and field where it is none."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What decides the result of training, beside the corpus; JSON-able, and known before training."""

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over everything that decides encoding: equal digests, equal ids for every text."""


class IncrementalDecoder:
    """Turns ids into text one by one, holding back bytes that may be the beginning of a character.

    Law: the joined results of `push` and one final `finish` are `tokenizer.decode` of all the ids.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that is certain after one more id; often empty within a character of several bytes."""
        return self._utf8.decode(self.tokenizer.decode_bytes((token,)))

    def finish(self) -> str:
        """What is left (U+FFFD if a character was never completed); the decoder is then as new."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest
