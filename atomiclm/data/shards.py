"""Token ids on disk: flat little-endian arrays, read through the page cache."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
import numpy.typing as npt

from atomiclm.data.batches import Flags, Ids, Tokens
from atomiclm.data.cache import MANIFEST
from atomiclm.data.source import SourceError
from atomiclm.user_error import UserError

CHECK_TOKENS = 1 << 22  # looked at together
COUNTS = ("bytes", "tokens", "documents")
_REMEDY = "it is built again once you remove"


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 when every id fits in it, else uint32; little-endian whatever the machine."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


@dataclass(frozen=True, eq=False)
class TokenShard:
    """One split of a prepared corpus.

    tokens: (num_tokens,) uint16 or uint32, memory-mapped, read only: each document's ids after one separator
    num_bytes: UTF-8 bytes that the tokens stand for; the separators stand for none
    sha256: of the split's UTF-8 bytes, documents one after the other with nothing between them
    separator: the id that begins each document
    answers: (num_tokens,) bool, which tokens are answers; None where the source knows of none
    """

    tokens: Tokens
    num_bytes: int
    num_documents: int
    sha256: str
    separator: int
    answers: Flags | None = None

    @property
    def num_tokens(self) -> int:
        """Length of `tokens`, separators included."""
        return len(self.tokens)

    def document_starts(self) -> Ids:
        """(num_documents,) where each document's separator stands."""
        return np.flatnonzero(self.tokens == self.separator).astype(np.int64)

    def longest_document(self) -> int:
        """Tokens of the longest document, its separator among them."""
        return int(np.diff(self.document_starts(), append=self.num_tokens).max())

    def part(self, first_token: int, facts: dict[str, Any], has_answers: bool) -> "TokenShard":
        """The stretch of this shard that one source wrote, given what `ShardWriter.facts` said of it."""
        stretch = slice(first_token, first_token + facts["tokens"])
        answers = self.answers[stretch] if has_answers and self.answers is not None else None
        return TokenShard(
            self.tokens[stretch], facts["bytes"], facts["documents"], facts["sha256"], self.separator, answers
        )


def check_manifest(folder: Path, manifest: Mapping[str, Any], known: Mapping[str, Any], parts: Sequence[str]) -> None:
    """Check the manifest of a folder of shards against itself, and against what is known without it.

    Hashes show that a folder is as it was written, not that whoever wrote it meant well: with a made-up count of bytes
    every bits per byte would be a made-up figure.

    known: fields and their values: the corpus and its split, the tokenizer (digest, vocab_size), the separator
    parts: names of the sources

    Raises ValueError: names the file and the field.
    """
    for field, value in known.items():
        if manifest.get(field) != value or type(manifest[field]) is not type(value):
            _refuse(folder, field, f"must be {value!r:.200}")
    for split in ("train", "validation"):
        _check_facts(folder, split, manifest.get(split))
    _check_files(folder, manifest, token_dtype(known["tokenizer"]["vocab_size"]).itemsize)
    if manifest.get("dtype") != token_dtype(known["tokenizer"]["vocab_size"]).str:
        _refuse(folder, "dtype", f"must be {token_dtype(known['tokenizer']['vocab_size']).str!r}")
    if manifest.get("validation_sha256") != manifest["validation"]["sha256"]:
        _refuse(folder, "validation_sha256", "must be the sha256 of the validation split")
    if type(manifest.get("num_documents")) is not int:
        _refuse(folder, "num_documents", "must be a count")
    by_part = manifest.get("parts")
    if not isinstance(by_part, dict) or by_part.keys() != set(parts):
        _refuse(folder, "parts", f"must have {', '.join(map(repr, parts))}")
    for split in ("train", "validation"):
        for name, facts in by_part.items():
            _check_facts(folder, f"parts.{name}.{split}", facts.get(split) if isinstance(facts, dict) else None)
        for count in COUNTS:
            if sum(facts[split][count] for facts in by_part.values()) != manifest[split][count]:
                _refuse(folder, f"parts.*.{split}.{count}", "must add up to the count of the split")


def _check_facts(folder: Path, field: str, facts: Any) -> None:
    if not isinstance(facts, dict) or facts.keys() != {*COUNTS, "sha256"}:
        _refuse(folder, field, f"must have {', '.join(COUNTS)} and sha256")
    for count in COUNTS:
        if type(facts[count]) is not int or not 0 <= facts[count] < 1 << 62:
            _refuse(folder, f"{field}.{count}", "must be a count")
    if not isinstance(facts["sha256"], str) or len(facts["sha256"]) != 64:
        _refuse(folder, f"{field}.sha256", "must be 64 hex digits")


def _check_files(folder: Path, manifest: Mapping[str, Any], token_bytes: int) -> None:
    """Which files there are, and that their sizes are those of the tokens; `damage` has held them against the disk."""
    sizes = {f"{split}.bin": token_bytes * manifest[split]["tokens"] for split in ("train", "validation")}
    flags = {f"{split}.answers.bin": manifest[split]["tokens"] for split in ("train", "validation")}
    files = manifest.get("files")
    found = {name: facts["bytes"] for name, facts in files.items()} if isinstance(files, dict) else {}
    if found not in (sizes, sizes | flags):
        _refuse(folder, "files", f"must be {', '.join(sizes)} (and answers), of the sizes that the tokens take")


def _refuse(folder: Path, field: str, rule: str) -> NoReturn:
    raise UserError(f"{folder / MANIFEST}: {field!a:.100} {rule}; it is built again once you remove {folder}")


def open_shard(folder: Path, split: str, manifest: dict[str, Any]) -> TokenShard:
    """The shard that `ShardWriter` wrote, given the manifest of its folder, which `check_manifest` has passed.

    Every id is looked at once: a shard whose manifest fits it may still hold ids that no model has, and would fail
    somewhere in training, on an accelerator without a word of why. That takes about 0.3 s for each GiB in memory.

    Raises ValueError for a shard that is not what its manifest says, OSError when it cannot be read.
    """
    path, facts = folder / f"{split}.bin", manifest[split]
    tokens = _mapped(path, np.dtype(manifest["dtype"]), facts["tokens"])
    separator, vocab_size = manifest["separator"], manifest["tokenizer"]["vocab_size"]
    documents = 0
    for first in range(0, len(tokens), CHECK_TOKENS):
        block = tokens[first : first + CHECK_TOKENS]
        if (highest := int(block.max())) >= vocab_size:
            raise UserError(
                f"{path} holds the id {highest}, but the tokenizer has {vocab_size} ids; {_REMEDY} {folder}"
            )
        documents += int(np.count_nonzero(block == separator))
    if tokens[0] != separator or documents != facts["documents"]:
        raise UserError(
            f"{path} must begin with the separator {separator} and have {facts['documents']}, one a document, "
            f"but begins with {tokens[0]} and has {documents}; {_REMEDY} {folder}"
        )
    answers = None
    if f"{split}.answers.bin" in manifest["files"]:
        flags = _mapped(folder / f"{split}.answers.bin", np.dtype(np.uint8), facts["tokens"])
        if flags.max() > 1:
            raise UserError(f"{folder / f'{split}.answers.bin'} holds a {flags.max()}, not flags; {_REMEDY} {folder}")
        answers = flags.view(np.bool_)
    return TokenShard(tokens, facts["bytes"], facts["documents"], facts["sha256"], separator, answers)


def _mapped(path: Path, dtype: np.dtype[Any], length: int) -> npt.NDArray[Any]:
    size = path.stat().st_size
    if length < 1 or size != length * dtype.itemsize:
        raise UserError(
            f"{path} has {size:,} bytes where its manifest says {length:,} tokens of {dtype.itemsize}; "
            f"{_REMEDY} {path.parent}"
        )
    return np.memmap(path, dtype=dtype, mode="r")


class ShardWriter:
    """Writes one split, holding none of it, and keeps the account of bytes.

    folder, split: where, and which: `<split>.bin`, and `<split>.answers.bin` beside it when has_answers
    token_bytes: (vocab_size,) bytes that each id stands for
    """

    def __init__(
        self, folder: Path, split: str, separator: int, token_bytes: npt.NDArray[np.int64], has_answers: bool
    ) -> None:
        self._file = (folder / f"{split}.bin").open("wb")
        self._answers_file = (folder / f"{split}.answers.bin").open("wb") if has_answers else None
        self._dtype = token_dtype(len(token_bytes))
        self._separator = np.asarray([separator], dtype=self._dtype).tobytes()
        self._token_bytes = token_bytes
        self._digest = hashlib.sha256()
        self._bytes = self._tokens = self._documents = 0
        self.begin_source()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._answers_file is not None:
            self._answers_file.close()

    def begin_source(self) -> None:
        """What follows is of another source: `source_facts` counts from here."""
        self._source_digest = hashlib.sha256()
        self._before = (self._bytes, self._tokens, self._documents)

    def begin_document(self) -> None:
        """Write the separator that stands before each document, so that its first byte is a target like any other."""
        self._file.write(self._separator)
        if self._answers_file is not None:
            self._answers_file.write(b"\0")
        self._tokens += 1
        self._documents += 1

    def write(self, ids: Sequence[int] | npt.NDArray[np.uint32], raw: bytes, answers: Flags | None) -> None:
        """Append the ids of `raw`. Their bytes must add up to it: bits per byte divides by them.

        answers: (len(raw),) which bytes belong to an answer; None: none does
        """
        array = np.asarray(ids, dtype=self._dtype)
        lengths = self._token_bytes[array]
        covered = int(lengths.sum())
        assert covered == len(raw), f"the tokenizer's ids stand for {covered} bytes of a text of {len(raw)}"
        self._file.write(array.tobytes())
        if self._answers_file is not None:
            flags = np.zeros(len(array), dtype=np.bool_) if answers is None else _answer_tokens(lengths, answers)
            self._answers_file.write(flags.tobytes())
        self._digest.update(raw)
        self._source_digest.update(raw)
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

    def source_facts(self) -> dict[str, Any]:
        """What has been written since `begin_source`."""
        num_bytes, tokens, documents = self._before
        return {
            "bytes": self._bytes - num_bytes,
            "tokens": self._tokens - tokens,
            "documents": self._documents - documents,
            "sha256": self._source_digest.hexdigest(),
        }


def _answer_tokens(lengths: npt.NDArray[np.int64], answers: Flags) -> Flags:
    """(num_tokens,) which tokens stand for bytes of answers, each for nothing else."""
    ends = np.cumsum(lengths)
    counts = np.concatenate([[0], np.cumsum(answers)])
    covered = counts[ends] - counts[ends - lengths]
    if ((covered > 0) & (covered < lengths)).any():
        raise SourceError("tokenizer", "a token joins part of an answer with other text; use tokenizer=bytes")
    return covered > 0
