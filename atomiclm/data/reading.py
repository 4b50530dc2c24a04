"""Reading a source, at most once: what its text is (the survey), and the documents for everything made of them."""

import hashlib
import json
import os
import struct
import weakref
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import SpooledTemporaryFile

from atomiclm.atomic_io import read_json, write_atomic
from atomiclm.data.cache import NOT_OURS, Meter, Progress, content_key
from atomiclm.data.source import Document, SourceError, SourcePart, fraction_faults
from atomiclm.data.split import Survey, check_split, digest_document, document_bytes, survey

FORMAT = 2  # of everything below the cache folder, and of how text is read: part of every key
MEMORY_BYTES = 1 << 26  # of text held in memory; more of it waits on disk

_HEAD = struct.Struct("<QI")  # bytes of a document, numbers of its answers


class SourceText:
    """The text of one source of a corpus.

    What is read of the source is hashed on the way and left in a temporary file (in memory up to 64 MiB), from which
    the tokenizer and the shards are made. So the source is read once, and all that is made of it is of one text even
    if its files change meanwhile. It is not read at all where the survey of its files is remembered, by their stamp,
    and everything made of them is in the cache.

    survey: what the text is; remembered below `root`
    survey_only: `documents` will not be called, so nothing is left in a temporary file
    """

    def __init__(self, part: SourcePart, root: Path, progress: Progress, survey_only: bool = False) -> None:
        self.part = part
        self.source = part.source
        self._root = root
        self._survey_only = survey_only
        self._spool: _Spool | None = None  # all documents, once they have been read
        try:
            for argument, message in fraction_faults(self.source.validation_fraction):
                raise SourceError(argument, message)
            self.survey = self._survey(progress)
            check_split(self.survey, self.source.validation_fraction)
        except SourceError as error:  # let it name the whole path of the argument
            raise SourceError(f"{part.prefix}{error.argument}", error.message) from error

    @property
    def training_bytes(self) -> float:
        """About how many bytes are not held out."""
        return self.survey.num_bytes * (1 - self.source.validation_fraction)

    def documents(self, meter: Meter) -> Iterator[tuple[Document, bytes]]:
        """Each document and its UTF-8 bytes.

        Raises SourceError at the end if they are not those of a remembered survey: what was made of them is void.
        """
        if self._spool is not None:
            for document, raw in self._spool.documents():
                yield document, raw
                meter.add(len(raw))
            return
        digest = hashlib.sha256()
        for document, raw in self._read(meter):
            digest_document(digest, document, raw)
            yield document, raw
        if digest.hexdigest() != self.survey.sha256:
            changed = f"the corpus ({self.source.describe()}) changed while it was being prepared; run again"
            raise SourceError(f"{self.part.prefix}path", changed)

    def _read(self, meter: Meter) -> Iterator[tuple[Document, bytes]]:
        """Read the source, and spool what is read."""
        spool = None if self._survey_only else _Spool(self._root)
        for document in self.source.documents():
            raw = document_bytes(document)
            if spool is not None:
                spool.append(document, raw)
            yield document, raw
            meter.add(len(raw))
        self._spool = spool

    def _survey(self, progress: Progress) -> Survey:
        """The remembered survey of files with the same stamp, else from reading the source."""
        stamp = self.source.stamp()
        if stamp is None:
            return self._surveyed(progress)
        path = self._root / "surveys" / f"{content_key(stamp=stamp, format=FORMAT)}.json"
        try:
            body, digest = read_json(path)
            if hashlib.sha256(body.encode()).hexdigest() == digest:
                return Survey(**json.loads(body))
        except (OSError, ValueError, TypeError, AttributeError):
            pass  # not there, or damaged: the corpus is read, which is always right
        found = self._surveyed(progress)
        if self.source.stamp() == stamp:
            body = json.dumps(asdict(found))
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, json.dumps([body, hashlib.sha256(body.encode()).hexdigest()]).encode())
            except OSError as error:  # a shared cache that is read-only: only reading again is spared by this file
                if error.errno not in NOT_OURS:
                    raise
        return found

    def _surveyed(self, progress: Progress) -> Survey:
        meter = Meter(progress, "reading", 0)
        found = survey(self._read(meter))
        meter.finish()
        return replace(found, left_out=self.source.left_out)


class _Spool:
    """Documents in a temporary file: of each its length, its bytes and its answers. In memory up to MEMORY_BYTES."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        disk = next(each for each in (folder, *folder.absolute().parents) if each.is_dir())  # nothing is written yet
        where = str(disk) if os.access(disk, os.W_OK) else None
        self._file = SpooledTemporaryFile(MEMORY_BYTES, dir=where)  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def append(self, document: Document, raw: bytes) -> None:
        answers = [border for answer in document.answers for border in answer]
        try:
            self._file.write(_HEAD.pack(len(raw), len(answers)) + raw + struct.pack(f"<{len(answers)}Q", *answers))
        except OSError as error:  # a full disk: which one
            raise OSError(error.errno, error.strerror, error.filename or str(self._folder)) from error

    def documents(self) -> Iterator[tuple[Document, bytes]]:
        self._file.seek(0)
        while head := self._file.read(_HEAD.size):
            size, count = _HEAD.unpack(head)
            raw = self._file.read(size)
            answers = struct.unpack(f"<{count}Q", self._file.read(8 * count))
            yield Document("", raw.decode(), tuple(zip(answers[::2], answers[1::2], strict=True))), raw
