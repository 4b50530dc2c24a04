"""What a text source is, and which of its text is held out, for validation or to choose settings on.

The split. Several documents: a document is held out when the first 53 bits of the sha256 of its UTF-8 bytes, read as a
number in [0, 1), are less than `validation_fraction`. Each decides for itself, so adding or removing one moves no
other, and copies of one land on one side. One document: the first int(n * (1 - validation_fraction)) of its n
characters are for training and the rest for validation, as char-rnn and nanoGPT cut tinyshakespeare.
"""

import contextlib
import functools
import hashlib
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from atomiclm.atomic_io import read_json, write_atomic
from atomiclm.cli import UserError
from atomiclm.data.cache import Meter, Progress, content_key
from atomiclm.data.workers import Add, Workers

FORMAT = 2  # of everything below the cache folder, and of how text is read: part of every key
SETTLED_SECONDS = 2.0  # the coarsest clock of a file system in use (FAT: 2 s)

Split = Literal["train", "validation"]


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

    def __reduce__(self) -> tuple[Any, ...]:  # a worker hands it on
        return type(self), (self.argument, self.message)


class NotUtf8Error(SourceError):
    """Text in another encoding than UTF-8."""


class CorpusSource(ABC):
    """What a corpus is made of: one text source, or a mixture of several."""

    @abstractmethod
    def describe(self) -> str:
        """One line for people."""

    @abstractmethod
    def faults(self) -> list[tuple[str, str]]:
        """(constructor argument, message) for every fault that a quick look finds."""

    @abstractmethod
    def parts(self) -> tuple["SourcePart", ...]:
        """The text sources and their weights, in a fixed order."""


class Span(Protocol):
    """A run of consecutive documents that a process of its own can read; it can be pickled."""

    left_out: int  # as of a TextSource

    def documents(self) -> Iterator[Document]: ...


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

    def spans(self) -> Sequence[Span]:
        """The documents in spans, in order; the same ones whatever reads them. By default all are one."""
        return (self,)

    def source_faults(self) -> list[tuple[str, str]]:
        """What `faults` reports beyond the validation fraction; by default nothing."""
        return []

    def fraction_faults(self) -> list[tuple[str, str]]:
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
    clock ("racily clean" in git's index, git-scm.com/docs/racy-git).
    """
    found = [(name, str(path.absolute()), path.stat()) for name, path in files]
    if any(max(now.st_mtime_ns, now.st_ctime_ns) > time.time_ns() - int(SETTLED_SECONDS * 1e9) for _, _, now in found):
        return None
    entries = [
        (name, path, now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns) for name, path, now in found
    ]
    return hashlib.sha256(json.dumps([settings, entries]).encode()).hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# The split.


def document_bytes(document: Document) -> bytes:
    """UTF-8 bytes of a document. Raises SourceError on half a surrogate pair, which UTF-8 cannot spell."""
    try:
        return document.text.encode()
    except UnicodeEncodeError as error:
        raise SourceError(
            "documents", f"{document.name} has half a surrogate pair at character {error.start}; remove it"
        ) from error


def hash_number(raw: bytes) -> float:
    """The first 53 bits of sha256(raw) as a number in [0, 1): as many as a float holds, 64 would round up to 1."""
    return (int.from_bytes(hashlib.sha256(raw).digest()[:8], "big") >> 11) / 2**53


def training_characters(characters: int, fraction: float) -> int:
    """How many of the characters of an only document are for training."""
    return int(characters * (1 - fraction))


class SpanFacts(NamedTuple):
    """What a span holds.

    sha256: over every document's length (8 bytes, little-endian) and UTF-8 bytes, and its answers if any, in order
    """

    sha256: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over a corpus tells, before it is split.

    spans: of each, in order
    num_documents: of all spans
    lowest, highest: the extremes of the documents' hash numbers in [0, 1)
    characters: of the only document; 0 when there are several
    left_out: documents that the source passed over, by its own rule
    """

    spans: tuple[SpanFacts, ...]
    num_documents: int
    lowest: float
    highest: float
    characters: int
    left_out: int

    @classmethod
    def joined(cls, surveys: Sequence["Survey"]) -> "Survey":
        """The survey of several spans one after another."""
        num_documents = sum(one.num_documents for one in surveys)
        return cls(
            spans=tuple(span for one in surveys for span in one.spans),
            num_documents=num_documents,
            lowest=min(one.lowest for one in surveys),
            highest=max(one.highest for one in surveys),
            characters=sum(one.characters for one in surveys) if num_documents == 1 else 0,
            left_out=sum(one.left_out for one in surveys),
        )

    @property
    def sha256(self) -> str:
        """Of the corpus: that of its only span, or over those of all."""
        hashes = [span.sha256 for span in self.spans]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256(json.dumps(hashes).encode()).hexdigest()

    @property
    def num_bytes(self) -> int:
        return sum(span.num_bytes for span in self.spans)

    @property
    def rule(self) -> str:
        return "by position in the only document" if self.num_documents == 1 else "by a hash of each document"


def survey(span: Span, add: Add) -> Survey:
    """Read all documents of a span once. add: is called with the bytes of each."""
    digest = hashlib.sha256()
    num_bytes = num_documents = characters = 0
    lowest, highest = 1.0, 0.0
    for document, raw in _digested(span, digest):
        number = hash_number(raw)
        lowest, highest = min(lowest, number), max(highest, number)
        num_bytes += len(raw)
        num_documents += 1
        characters = len(document.text) if num_documents == 1 else 0
        add(len(raw))
    facts = SpanFacts(digest.hexdigest(), num_bytes)
    return Survey((facts,), num_documents, lowest, highest, characters, span.left_out)


def _digested(span: Span, digest: "hashlib._Hash") -> Iterator[tuple[Document, bytes]]:
    """Documents and their UTF-8 bytes. All that one is goes into `digest`: equal digests mean equal corpora."""
    for document in span.documents():
        raw = document_bytes(document)
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
        if document.answers:
            digest.update(repr(document.answers).encode())
        yield document, raw


def surveyed_documents(span: Span, facts: SpanFacts, add: Add) -> Iterator[tuple[Document, bytes]]:
    """Documents and their UTF-8 bytes. Raises ChangedError at the end if they are not those of the survey."""
    digest = hashlib.sha256()
    for document, raw in _digested(span, digest):
        yield document, raw
        add(len(raw))
    if digest.hexdigest() != facts.sha256:
        raise ChangedError


class ChangedError(Exception):
    """The text is not that of the survey."""


def split_document(document: Document, raw: bytes, found: Survey, fraction: float) -> Iterator[tuple[Split, str]]:
    """The parts of a document and the split each belongs to."""
    if found.num_documents == 1:
        cut = training_characters(found.characters, fraction)
        yield "train", document.text[:cut]
        yield "validation", document.text[cut:]
    else:
        yield ("validation" if hash_number(raw) < fraction else "train"), document.text


def check_split(found: Survey, fraction: float) -> None:
    """Raise SourceError when one of the splits would be empty, naming a fraction that works where there is one."""
    if found.num_documents == 0:
        raise SourceError("documents", "the corpus holds no text; give one that does")
    if found.num_documents == 1:
        cut = training_characters(found.characters, fraction)
        if 0 < cut < found.characters:
            return
        message = f"{fraction} of {found.characters} characters; give a longer text"
        empty = "training" if cut == 0 else "validation"
        raise SourceError("validation_fraction", f"the {empty} split is empty: {message}")
    if found.lowest < fraction <= found.highest:
        return
    empty, extreme, number = "training", "highest", found.highest
    if fraction <= found.lowest:
        empty, extreme, number = "validation", "lowest", found.lowest
    message = (
        f"the {empty} split is empty: each of the {found.num_documents} documents has a number in [0, 1), from a hash "
        f"of its content, and goes to validation when that is below {fraction}; the {extreme} is {number:.4f}; "
    )
    if found.lowest < found.highest:
        nearest = math.ceil(found.lowest * 1000 + 1) / 1000 if empty == "validation" else 1.0
        message += f"set data.validation_fraction={min(nearest, math.floor(found.highest * 1e6) / 1e6):g}, or "
    raise SourceError("validation_fraction", message + "join the documents into one file, which is cut by position")


class SourceText:
    """The text of one source of a corpus.

    survey: what the text is. Of files that have a stamp it is remembered below `root`, and they are not read for it
    """

    def __init__(self, part: SourcePart, root: Path, progress: Progress, workers: Workers) -> None:
        self.part = part
        self.source = part.source
        self._workers = workers
        try:
            for argument, message in part.source.fraction_faults():
                raise SourceError(argument, message)
            stamp = part.source.stamp()
            self._memory = root / "surveys" / f"{content_key(stamp=stamp, format=FORMAT)}.json"
            self.survey = self._surveyed(stamp, progress)
            check_split(self.survey, self.source.validation_fraction)
        except SourceError as error:  # let it name the whole path of the argument
            raise SourceError(f"{part.prefix}{error.argument}", error.message) from error

    def _surveyed(self, stamp: str | None, progress: Progress) -> Survey:
        if stamp is not None:
            with contextlib.suppress(
                OSError, ValueError, TypeError, LookupError
            ):  # not there, or damaged: reading is always right
                values = read_json(self._memory)
                return Survey(**values | {"spans": tuple(SpanFacts(*span) for span in values["spans"])})
        meter = Meter(progress, "reading", 0)
        found = Survey.joined([one for _, one in sorted(self._workers.spread(survey, self.spans, meter.add))])
        meter.finish()
        if stamp is not None and self.source.stamp() == stamp:
            with contextlib.suppress(OSError):  # a read-only cache: only reading again is spared by this file
                self._memory.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(self._memory, json.dumps(asdict(found)).encode())
        return found

    @functools.cached_property
    def spans(self) -> Sequence[Span]:
        return self.source.spans()

    @property
    def training_bytes(self) -> float:
        return self.survey.num_bytes * (1 - self.source.validation_fraction)

    def surveyed_spans(self) -> Iterator[tuple[Span, SpanFacts]]:
        """Each span, and what the survey found in it."""
        if len(self.spans) != len(self.survey.spans):
            raise self.changed()
        return zip(self.spans, self.survey.spans, strict=True)

    def documents(self, meter: Meter) -> Iterator[tuple[Document, bytes]]:
        """Documents and their UTF-8 bytes. Raises SourceError when they are not those of the survey."""
        try:
            for span, facts in self.surveyed_spans():
                yield from surveyed_documents(span, facts, meter.add)
        except ChangedError as error:
            raise self.changed() from error

    def changed(self) -> SourceError:
        """What to raise when the text is not that of the survey, which is forgotten."""
        self._memory.unlink(missing_ok=True)
        message = f"the corpus ({self.source.describe()}) changed while it was being prepared; run again"
        return SourceError(f"{self.part.prefix}path", message)
