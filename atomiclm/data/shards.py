"""Token ids on disk: flat little-endian arrays, read through the page cache."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atomiclm.cli import UserError
from atomiclm.data.batches import Flags, Ids, Tokens
from atomiclm.data.cache import MANIFEST
from atomiclm.data.source import SourceError

CHECK_TOKENS = 1 << 22  # checked at a time


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
        """The stretch of this shard that one source wrote, given what `Written.facts` said of it."""
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

    Raises UserError.
    """
    dtype = token_dtype(known["tokenizer"]["vocab_size"])
    try:
        for field, value in {**known, "dtype": dtype.str}.items():
            if json.dumps(manifest[field], sort_keys=True) != json.dumps(value, sort_keys=True):
                raise ValueError(f"{field} must be {value!r:.200}")
        sizes, flags = {}, {}
        for split in ("train", "validation"):
            whole, facts = manifest[split], [manifest["parts"][name][split] for name in parts]
            for count in ("bytes", "tokens", "documents"):
                numbers = [each[count] for each in facts]
                if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers):
                    raise ValueError(f"{split}.{count} must be a count")
                if type(whole[count]) is not int or sum(numbers) != whole[count]:
                    raise ValueError(f"{split}.{count} must be the sum over its parts")
            if not all(isinstance(each["sha256"], str) and len(each["sha256"]) == 64 for each in (whole, *facts)):
                raise ValueError(f"{split}.sha256 must be 64 hex digits")
            if whole["tokens"] < 1:
                raise ValueError(f"{split}.tokens must be positive")
            sizes[f"{split}.bin"] = dtype.itemsize * whole["tokens"]
            flags[f"{split}.answers.bin"] = whole["tokens"]
        if len(manifest["parts"]) != len(parts) or type(manifest["num_documents"]) is not int:
            raise ValueError(f"parts must be {', '.join(map(repr, parts))}, and num_documents their count")
        if manifest["validation_sha256"] != manifest["validation"]["sha256"]:
            raise ValueError("validation_sha256 must be the sha256 of the validation split")
        if {name: file["bytes"] for name, file in manifest["files"].items()} not in (sizes, sizes | flags):
            raise ValueError(f"files must be {', '.join(sizes)} (and answers), of the sizes that the tokens take")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        wrong = str(error) if isinstance(error, ValueError) else f"not what prepare writes ({error!a:.100})"
        raise UserError(f"{folder / MANIFEST}: {wrong}; it is built again once you remove {folder}") from error


def open_shard(folder: Path, split: str, manifest: dict[str, Any]) -> TokenShard:
    """The shard that `ShardWriter` wrote, given the manifest of its folder, which `check_manifest` has passed.

    Every id is checked: a shard whose manifest fits it may still hold ids that no model has, and would fail
    somewhere in training, on an accelerator without a clear message. That takes about 0.3 s for each GiB in memory.

    Raises ValueError for a shard that is not what its manifest says, OSError when it cannot be read.
    """
    path, facts = folder / f"{split}.bin", manifest[split]
    tokens: Tokens = np.memmap(path, dtype=np.dtype(manifest["dtype"]), mode="r")
    separator, vocab_size = manifest["separator"], manifest["tokenizer"]["vocab_size"]
    highest = documents = 0
    for first in range(0, len(tokens), CHECK_TOKENS):
        block = tokens[first : first + CHECK_TOKENS]
        highest = max(highest, int(block.max()))
        documents += int(np.count_nonzero(block == separator))
    flags_path = folder / f"{split}.answers.bin"
    has_answers = flags_path.name in manifest["files"]
    flags = np.memmap(flags_path, dtype=np.uint8, mode="r") if has_answers else None
    for is_broken, message in (
        (highest >= vocab_size, f"{path} holds the id {highest}, but the tokenizer has {vocab_size} ids"),
        (tokens[0] != separator, f"{path} must begin with the separator {separator}, not with {tokens[0]}"),
        (documents != facts["documents"], f"{path} has {documents} separators for {facts['documents']} documents"),
        (flags is not None and flags.max() > 1, f"{flags_path} must hold flags of 0 and 1"),
    ):
        if is_broken:
            raise UserError(f"{message}; it is built again once you remove {folder}")
    answers = None if flags is None else flags.view(np.bool_)
    return TokenShard(tokens, facts["bytes"], facts["documents"], facts["sha256"], separator, answers)


@dataclass
class Written:
    """What a writer has written."""

    bytes: int = 0
    tokens: int = 0
    documents: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def facts(self) -> dict[str, Any]:
        """As the manifest has it."""
        counts = {"bytes": self.bytes, "tokens": self.tokens, "documents": self.documents}
        return {**counts, "sha256": self.digest.hexdigest()}


class ShardWriter:
    """Writes one split, holding none of it, and accounts for every byte: in all (`whole`) and by `source`.

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
        self.whole = Written()
        self.source = Written()

    def close(self) -> None:
        self._file.close()
        if self._answers_file is not None:
            self._answers_file.close()

    def begin_source(self) -> None:
        """What follows is of another source."""
        self.source = Written()

    def write(
        self, ids: Sequence[int] | npt.NDArray[np.uint32], raw: bytes, answers: Flags | None, begins_document: bool
    ) -> None:
        """Append the ids of `raw`. Their bytes must add up to it: bits per byte divides by them.

        answers: (len(raw),) which bytes belong to an answer; None: none does
        begins_document: whether the separator stands before it, so that its first byte is a target like any other
        """
        if begins_document:
            self._file.write(self._separator)
            if self._answers_file is not None:
                self._answers_file.write(b"\0")
        array = np.asarray(ids, dtype=self._dtype)
        lengths = self._token_bytes[array]
        covered = int(lengths.sum())
        assert covered == len(raw), f"the tokenizer's ids stand for {covered} bytes of a text of {len(raw)}"
        self._file.write(array.tobytes())
        if self._answers_file is not None:
            flags = np.zeros(len(array), dtype=np.bool_) if answers is None else _answer_tokens(lengths, answers)
            self._answers_file.write(flags.tobytes())
        for written in (self.whole, self.source):
            written.digest.update(raw)
            written.tokens += begins_document + len(array)
            written.documents += begins_document
            written.bytes += len(raw)


def _answer_tokens(lengths: npt.NDArray[np.int64], answers: Flags) -> Flags:
    """(num_tokens,) which tokens stand for bytes of answers, each for nothing else."""
    ends = np.cumsum(lengths)
    counts = np.concatenate([[0], np.cumsum(answers)])
    covered = counts[ends] - counts[ends - lengths]
    if ((covered > 0) & (covered < lengths)).any():
        raise SourceError("tokenizer", "a token joins part of an answer with other text; use tokenizer=bytes")
    return covered > 0
