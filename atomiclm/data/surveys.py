"""Reading a source: once to know it, and again later, when it must still be the same."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

from atomiclm.data.cache import NOT_OURS, content_key, read_small_json
from atomiclm.data.progress import Meter, Progress
from atomiclm.data.source import Document, SourceError, TextSource
from atomiclm.data.split import Survey, digest_document, document_bytes, survey
from atomiclm.durable import write_whole

FORMAT = 2  # of everything below the cache folder, and of how text is read: part of every key
_SAMPLE = astuple(Survey("", 0, 0, 0.0, 0.0, 0, 0))  # what kinds of values a survey has


def surveyed(source: TextSource, root: Path, progress: Progress) -> Survey:
    """The survey of a source: remembered below `root` if its files carry the same stamp, else from reading all of it.

    Raises ValueError for faults of the source.
    """
    stamp = source.stamp()
    remembered = None if stamp is None else root / "surveys" / f"{content_key(stamp=stamp, format=FORMAT)}.json"
    if remembered is not None and (known := _recall(remembered)) is not None:
        return known
    faults = source.faults()
    if faults:
        raise SourceError(faults[0][0], "\n".join([faults[0][1], *(f"{name}: {text}" for name, text in faults[1:])]))
    meter = Meter(progress, "reading", 0)
    found = survey(_read(source, meter))
    found = Survey(**{**found.as_json(), "left_out": source.left_out})
    meter.finish()
    if remembered is not None and source.stamp() == stamp:
        body = json.dumps(found.as_json())
        try:
            remembered.parent.mkdir(parents=True, exist_ok=True)
            write_whole(remembered, json.dumps([body, hashlib.sha256(body.encode()).hexdigest()]).encode())
        except OSError as error:  # a shared cache that is read-only: only reading again is spared by this file
            if error.errno not in NOT_OURS:
                raise
    return found


def read_again(source: TextSource, found: Survey, meter: Meter) -> Iterator[tuple[Document, bytes]]:
    """The documents once more. Raises at the end if they are no longer those of the survey: what was made is void."""
    digest = hashlib.sha256()
    for document, raw in _read(source, meter):
        digest_document(digest, document, raw)
        yield document, raw
    if digest.hexdigest() != found.sha256:
        raise SourceError("path", f"the corpus ({source.describe()}) changed while it was being prepared; run again")


def _read(source: TextSource, meter: Meter) -> Iterator[tuple[Document, bytes]]:
    for document in source.documents():
        raw = document_bytes(document)
        yield document, raw
        meter.add(len(raw))


def _recall(path: Path) -> Survey | None:
    try:
        body, digest = read_small_json(path)
        if hashlib.sha256(body.encode()).hexdigest() == digest:
            known = Survey(**json.loads(body))
            if all(type(value) is type(sample) for value, sample in zip(astuple(known), _SAMPLE, strict=True)):
                return known
    except (FileNotFoundError, ValueError, TypeError, AttributeError, RecursionError):
        pass  # not there or not ours: the corpus is read, which is always right
    return None
