"""Token ids on disk: flat little-endian arrays, read through the page cache."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 when every id fits in it, else uint32; little-endian whatever the machine."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


@dataclass(frozen=True, eq=False)
class TokenShard:
    """One split of a prepared corpus.

    tokens: (num_tokens,) uint16 or uint32, memory-mapped, read only: each document's ids after one separator
    num_bytes: UTF-8 bytes that the tokens stand for; the separators stand for none
    sha256: of the split's UTF-8 bytes, documents one after the other with nothing between them
    """

    tokens: npt.NDArray[np.unsignedinteger[Any]]
    num_bytes: int
    num_documents: int
    sha256: str

    @property
    def num_tokens(self) -> int:
        """Length of `tokens`, separators included."""
        return len(self.tokens)


def open_shard(path: Path, dtype: str, facts: dict[str, Any]) -> TokenShard:
    """The shard that `ShardWriter` wrote, given what it said about it."""
    tokens = np.memmap(path, dtype=np.dtype(dtype), mode="r")
    assert len(tokens) == facts["tokens"], f"{path} and its manifest disagree"
    return TokenShard(tokens, facts["bytes"], facts["documents"], facts["sha256"])


class ShardWriter:
    """Writes one split, holding none of it, and keeps the account of bytes.

    token_bytes: (vocab_size,) bytes that each id stands for
    """

    def __init__(self, path: Path, separator: int, token_bytes: npt.NDArray[np.int64]) -> None:
        self._file = path.open("wb")
        self._dtype = token_dtype(len(token_bytes))
        self._separator = np.asarray([separator], dtype=self._dtype).tobytes()
        self._token_bytes = token_bytes
        self._digest = hashlib.sha256()
        self._bytes = self._tokens = self._documents = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def begin_document(self) -> None:
        """Write the separator that stands before each document, so that its first byte is a target like any other."""
        self._file.write(self._separator)
        self._tokens += 1
        self._documents += 1

    def write(self, ids: Sequence[int], raw: bytes) -> None:
        """Append the ids of `raw`. Their bytes must add up to it: bits per byte divides by them."""
        array = np.asarray(ids, dtype=self._dtype)
        covered = int(self._token_bytes[array].sum())
        assert covered == len(raw), f"the tokenizer's ids stand for {covered} bytes of a text of {len(raw)}"
        self._file.write(array.tobytes())
        self._digest.update(raw)
        self._tokens += len(array)
        self._bytes += len(raw)

    def facts(self) -> dict[str, Any]:
        """What has been written."""
        return {
            "bytes": self._bytes,
            "tokens": self._tokens,
            "documents": self._documents,
            "sha256": self._digest.hexdigest(),
        }
