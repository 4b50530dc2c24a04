"""The text of a source, surveyed and split: what is held out, for validation or to choose settings on.

Several documents: a document is held out when the first 53 bits of the sha256 of its UTF-8 bytes, read as a number in
[0, 1), are less than `validation_fraction`. Each document decides for itself, so adding or removing one moves no
other, and copies of one document land on one side. One document: the first int(n * (1 - validation_fraction)) of its n
characters are for training and the rest for validation, as char-rnn and nanoGPT cut tinyshakespeare. (The rule
changes between one document and two; the manifest says which one applied.)
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from atomiclm.atomic_io import read_json, write_atomic
from atomiclm.data.cache import Meter, Progress, content_key
from atomiclm.data.shards import Split
from atomiclm.data.source import Document, SourceError, SourcePart, TextSource

FORMAT = 2  # of everything below the cache folder, and of how text is read: part of every key


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over a corpus tells, before it is split.

    sha256: over every document's length (8 bytes, little-endian) and UTF-8 bytes, and its answers if any, in order
    lowest, highest: the extremes of the documents' hash numbers in [0, 1)
    characters: of the only document; 0 when there are several
    left_out: documents that the source passed over, by its own rule
    """

    sha256: str
    num_bytes: int
    num_documents: int
    lowest: float
    highest: float
    characters: int
    left_out: int

    @property
    def rule(self) -> str:
        return "by position in the only document" if self.num_documents == 1 else "by a hash of each document"


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


def survey(source: TextSource, meter: Meter) -> Survey:
    """Read all documents of a source once."""
    digest = hashlib.sha256()
    num_bytes = num_documents = characters = 0
    lowest, highest = 1.0, 0.0
    for document in source.documents():
        raw = document_bytes(document)
        _digest_document(digest, document, raw)
        number = hash_number(raw)
        lowest, highest = min(lowest, number), max(highest, number)
        num_bytes += len(raw)
        num_documents += 1
        characters = len(document.text) if num_documents == 1 else 0
        meter.add(len(raw))
    meter.finish()
    return Survey(digest.hexdigest(), num_bytes, num_documents, lowest, highest, characters, source.left_out)


def _digest_document(digest: "hashlib._Hash", document: Document, raw: bytes) -> None:
    """Feed all that a document is to `digest`, so that equal digests mean equal corpora."""
    digest.update(len(raw).to_bytes(8, "little"))
    digest.update(raw)
    if document.answers:
        digest.update(repr(document.answers).encode())


def split_document(document: Document, raw: bytes, found: Survey, fraction: float) -> Iterator[tuple[Split, str]]:
    """The parts of a document and the split each belongs to."""
    if found.num_documents == 1:
        cut = int(found.characters * (1 - fraction))
        yield "train", document.text[:cut]
        yield "validation", document.text[cut:]
    else:
        yield ("validation" if hash_number(raw) < fraction else "train"), document.text


def check_split(found: Survey, fraction: float) -> None:
    """Raise SourceError when one of the splits would be empty, naming a fraction that works where there is one."""
    if found.num_documents == 0:
        raise SourceError("documents", "the corpus holds no text; give one that does")
    if found.num_documents == 1:
        cut = int(found.characters * (1 - fraction))
        if 0 < cut < found.characters:
            return
        empty = "training" if cut == 0 else "validation"
        raise SourceError(
            "validation_fraction",
            f"the {empty} split is empty: {fraction} of {found.characters} characters; give a longer text",
        )
    if found.lowest < fraction <= found.highest:
        return
    empty, extreme, number = "training", "highest", found.highest
    if fraction <= found.lowest:
        empty, extreme, number = "validation", "lowest", found.lowest
    message = (
        f"the {empty} split is empty: by a hash of its content each of the {found.num_documents} documents goes to "
        f"validation when its number is below {fraction}, and the {extreme} is {number:.4f}; "
    )
    if found.lowest < found.highest:
        nearest = math.ceil(found.lowest * 1000 + 1) / 1000 if empty == "validation" else 1.0
        message += f"set data.validation_fraction={min(nearest, math.floor(found.highest * 1e6) / 1e6):g}, or "
    raise SourceError("validation_fraction", message + "join the documents into one file, which is cut by position")


class SourceText:
    """The text of one source of a corpus.

    survey: what the text is. Of files that have a stamp it is remembered below `root`, and they are not read for it
    """

    def __init__(self, part: SourcePart, root: Path, progress: Progress) -> None:
        self.part = part
        self.source = part.source
        try:
            for argument, message in part.source.fraction_faults():
                raise SourceError(argument, message)
            self._stamp = part.source.stamp()
            self._memory = root / "surveys" / f"{content_key(stamp=self._stamp, format=FORMAT)}.json"
            self.survey = self._remembered() or self._surveyed(progress)
            check_split(self.survey, self.source.validation_fraction)
        except SourceError as error:  # let it name the whole path of the argument
            raise SourceError(f"{part.prefix}{error.argument}", error.message) from error

    @property
    def training_bytes(self) -> float:
        """About how many bytes are not held out."""
        return self.survey.num_bytes * (1 - self.source.validation_fraction)

    def documents(self, meter: Meter) -> Iterator[tuple[Document, bytes]]:
        """Each document and its UTF-8 bytes.

        Raises SourceError at the end if they are not those of the survey: what was made of them is void.
        """
        digest = hashlib.sha256()
        for document in self.source.documents():
            raw = document_bytes(document)
            _digest_document(digest, document, raw)
            yield document, raw
            meter.add(len(raw))
        if digest.hexdigest() != self.survey.sha256:
            self._memory.unlink(missing_ok=True)
            changed = f"the corpus ({self.source.describe()}) changed while it was being prepared; run again"
            raise SourceError(f"{self.part.prefix}path", changed)

    def _remembered(self) -> Survey | None:
        """The survey of files with the same stamp."""
        if self._stamp is None:
            return None
        try:
            return Survey(**read_json(self._memory))
        except (OSError, ValueError, TypeError):
            return None  # not there, or damaged: the corpus is read, which is always right

    def _surveyed(self, progress: Progress) -> Survey:
        found = survey(self.source, Meter(progress, "reading", 0))
        if self._stamp is not None and self.source.stamp() == self._stamp:
            with contextlib.suppress(OSError):  # a read-only cache: only reading again is spared by this file
                self._memory.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(self._memory, json.dumps(asdict(found)).encode())
        return found
