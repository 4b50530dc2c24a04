"""What a text source is: documents in a fixed order, quick checks, and a stamp that tells whether anything changed."""

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from atomiclm.cli import UserError

SETTLED_SECONDS = 2.0  # the coarsest clock of a file system in use (FAT: 2 s)


@dataclass(frozen=True, slots=True)
class Document:
    """One self-contained text: a file, a row, a page.

    name: for messages only; it decides nothing
    answers: (first, past the last) UTF-8 byte of each stretch that answers what the text before it asks; in order
    """

    name: str
    text: str
    answers: tuple[tuple[int, int], ...] = ()


class SourceError(UserError):
    """A fault in the text someone pointed at: `argument` is the constructor argument to change."""

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(f"{argument}: {message}")
        self.argument = argument
        self.message = message


class NotUtf8Error(SourceError):
    """Text in another encoding than UTF-8."""


class CorpusSource(ABC):
    """What a corpus is made of: one text source, or a mixture of several."""

    @abstractmethod
    def describe(self) -> str:
        """One line for people."""

    @abstractmethod
    def faults(self) -> list[tuple[str, str]]:
        """(constructor argument, message) for every fault that a quick look finds. Writes nothing."""

    @abstractmethod
    def parts(self) -> tuple["SourcePart", ...]:
        """The text sources and their weights, in a fixed order."""


class TextSource(CorpusSource):
    """A corpus of one source. Subclasses name where the text is; `prepare` splits, tokenizes and stores it.

    validation_fraction: share of the corpus held out for validation, strictly between 0 and 1
    """

    validation_fraction: float
    left_out: int = 0  # documents that the last complete pass of `documents()` passed over, by the source's own rule
    has_answers: bool = False  # whether its documents say which of their bytes are answers
    answers_only: bool = False  # whether only these count as training targets

    def __init__(self, validation_fraction: float) -> None:
        self.validation_fraction = validation_fraction

    def parts(self) -> tuple["SourcePart", ...]:
        return (SourcePart("", 1.0, self, ""),)

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """The documents, in the same order each time, none empty. Raises SourceError when one cannot be read."""

    def source_faults(self) -> list[tuple[str, str]]:
        """What `faults` reports beyond the validation fraction; by default nothing."""
        return []

    def fraction_faults(self) -> list[tuple[str, str]]:
        """The fault of a validation fraction outside (0, 1), if it is."""
        fraction = self.validation_fraction
        rule = f"must lie strictly between 0 and 1, it is {fraction}; 0.1 holds out a tenth of the corpus"
        return [] if 0.0 < fraction < 1.0 else [("validation_fraction", rule)]

    def faults(self) -> list[tuple[str, str]]:
        return self.fraction_faults() + self.source_faults()

    def stamp(self) -> str | None:
        """A text that changes whenever the documents may have changed, found without reading them; None: read them."""
        return None

    def anchors(self) -> dict[str, float]:
        """What is known of the source without looking at its text, in bits per byte, by name; by default nothing."""
        return {}


@dataclass(frozen=True, slots=True)
class SourcePart:
    """One text source of a corpus.

    name: what the mixture calls it; "" alone
    weight: share of the training samples; those of a corpus add up to 1
    prefix: what stands before the source's own arguments in the path of a setting
    """

    name: str
    weight: float
    source: TextSource
    prefix: str


def stamp_of(files: Sequence[tuple[str, Path]], *settings: str) -> str | None:
    """sha256 over the settings and, of each file, its name, device, inode, size, mtime and ctime.

    None when a file was touched in the last two seconds: it could change again within one tick of the file system's
    clock, and then nothing but reading would tell ("racily clean" in git's index, git-scm.com/docs/racy-git).
    """
    newest = 0
    entries: list[tuple[str | int, ...]] = []
    for name, path in files:
        now = path.stat()
        newest = max(newest, now.st_mtime_ns, now.st_ctime_ns)
        entries.append(
            (name, str(path.absolute()), now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        )
    if newest > time.time_ns() - int(SETTLED_SECONDS * 1e9):
        return None
    return hashlib.sha256(json.dumps([settings, entries]).encode()).hexdigest()
