"""Which documents, or which part of the only document, are held out: for validation, or to choose settings on.

Several documents: a document is held out when the first 53 bits of the sha256 of its UTF-8 bytes, read as a number in
[0, 1), are less than `validation_fraction`. Each document decides for itself, so adding or removing one moves no
other, and copies of one document land on one side. One document: the first int(n * (1 - validation_fraction)) of its n
characters are for training and the rest for validation, as char-rnn and nanoGPT cut tinyshakespeare. (The rule
changes between one document and two; the manifest says which one applied.)
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal

from atomiclm.data.source import Document, SourceError, TextSource

Split = Literal["train", "validation"]


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over a corpus tells, before it is split.

    sha256: over every document's length (8 bytes, little-endian) and UTF-8 bytes, and its answers if any, in order
    lowest, highest: the extremes of the documents' hash numbers in [0, 1)
    characters: of the only document; 0 when there are several
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


def digest_document(digest: "hashlib._Hash", document: Document, raw: bytes) -> None:
    """Feed all that a document is to `digest`, so that equal digests mean equal corpora."""
    digest.update(len(raw).to_bytes(8, "little"))
    digest.update(raw)
    if document.answers:
        digest.update(repr(document.answers).encode())


def survey(documents: Iterable[tuple[Document, bytes]]) -> Survey:
    """Read all documents once."""
    digest = hashlib.sha256()
    num_bytes = num_documents = characters = 0
    lowest, highest = 1.0, 0.0
    for document, raw in documents:
        digest_document(digest, document, raw)
        number = hash_number(raw)
        lowest, highest = min(lowest, number), max(highest, number)
        num_bytes += len(raw)
        num_documents += 1
        characters = len(document.text) if num_documents == 1 else 0
    return Survey(digest.hexdigest(), num_bytes, num_documents, lowest, highest, characters, left_out=0)


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
    empty, extreme = ("validation", found.lowest) if fraction <= found.lowest else ("training", found.highest)
    message = (
        f"the {empty} split is empty: by a hash of its content each of the {found.num_documents} documents goes to "
        f"validation when its number is below {fraction}, and the {'lowest' if empty == 'validation' else 'highest'} "
        f"is {extreme:.4f}; "
    )
    if found.lowest < found.highest:
        nearest = math.ceil(found.lowest * 1000 + 1) / 1000 if empty == "validation" else 1.0
        message += f"set data.validation_fraction={min(nearest, math.floor(found.highest * 1e6) / 1e6):g}, or "
    raise SourceError("validation_fraction", message + "join the documents into one file, which is cut by position")


class DevSplit(TextSource):
    """Another source without its validation text, and with some of its training text held out in its place.

    A learning rate chosen by the validation loss flatters the arm it is chosen for. Trials therefore see the corpus
    through this: what `source` holds out is not there at all, neither to train on nor to be scored on, and of the rest
    `fraction` is held out. Documents are chosen by their hash number h as ever, with v = source.validation_fraction:
    h < v is gone, v <= h < v + fraction (1 - v) is the dev split. Of a single document, the training part is the
    document, and the last v + fraction (1 - v) of that is held out.

    source: the corpus that the study reports on; not a mixture, whose sources are each wrapped by themselves
    fraction: share of its training documents held out, strictly between 0 and 1
    """

    def __init__(self, source: TextSource, fraction: float = 0.04) -> None:
        if not 0.0 < fraction < 1.0:
            raise ValueError(f"fraction={fraction} must lie strictly between 0 and 1")
        taken = source.validation_fraction
        super().__init__(taken + fraction * (1 - taken))
        self.source = source
        self.fraction = fraction
        self.has_answers = source.has_answers
        self.answers_only = source.answers_only

    def describe(self) -> str:
        return f"training text of {self.source.describe()}"

    def source_faults(self) -> list[tuple[str, str]]:
        return [(f"source.{argument}", message) for argument, message in self.source.faults()]

    def stamp(self) -> str | None:
        stamp = self.source.stamp()
        return None if stamp is None else f"dev {self.source.validation_fraction} {self.fraction} {stamp}"

    def anchors(self) -> dict[str, float]:
        return self.source.anchors()  # what is known of the source holds of any part of it

    def documents(self) -> Iterator[Document]:
        documents = self.source.documents()
        taken = self.source.validation_fraction
        first = list(islice(documents, 2))
        if len(first) == 1:
            text = first[0].text
            yield Document(first[0].name, text[: int(len(text) * (1 - taken))])
        else:
            for document in chain(first, documents):
                if hash_number(document_bytes(document)) >= taken:
                    yield document
        self.left_out = self.source.left_out
