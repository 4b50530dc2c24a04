"""What this package needs of a tokenizer. `atomiclm.tokenizer.Tokenizer` has it; neither imports the other."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from atomiclm.user_error import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

END_OF_TEXT = "<|endoftext|>"  # the special token that separates documents


class TrainableTokenizer(Protocol):
    """A tokenizer that can be trained, saved and asked how many bytes an id stands for."""

    @property
    def vocab_size(self) -> int:
        """Number of ids in use."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Ids of special tokens by their text."""

    def settings(self) -> dict[str, Any]:
        """What, beside the text, decides training (JSON values)."""

    def digest(self) -> str:
        """sha256 over everything that decides encoding."""

    def train_from_iterator(self, chunks: Iterable[str], num_bytes: int | None = None) -> None:
        """Train on the pieces of one stream of about `num_bytes`. Special tokens in it are borders, never learned."""

    def encode_arrays(self, texts: Sequence[bytes]) -> list["NDArray[np.uint32]"]:
        """Ids of each text, given as UTF-8; special tokens in it are ordinary text."""

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Bytes that the ids stand for."""

    def token_bytes(self) -> list[int]:
        """Bytes that each id stands for, 0 for special tokens."""

    def save(self, path: Path) -> None:
        """Write a file that `load` reads."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """The tokenizer that `save` wrote."""


def check_separator(tokenizer: TrainableTokenizer) -> None:
    """Raise UserError unless the tokenizer has the special token that separates documents."""
    if END_OF_TEXT not in tokenizer.special_tokens:
        raise UserError(
            f"special_tokens: {sorted(tokenizer.special_tokens)} must hold {END_OF_TEXT!r}, which separates documents; "
            "add it"
        )
