"""Text to token shards: every source of a corpus, one after another."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atomiclm.data.batches import Flags
from atomiclm.data.pieces import PIECE_CHARACTERS, pieces
from atomiclm.data.progress import Meter
from atomiclm.data.protocols import END_OF_TEXT, TrainableTokenizer
from atomiclm.data.shards import ShardWriter, token_dtype
from atomiclm.data.source import Document, SourcePart
from atomiclm.data.split import Split, Survey, split_document
from atomiclm.data.surveys import read_again


def encode(
    parts: Sequence[tuple[SourcePart, Survey]], tokenizer: TrainableTokenizer, folder: Path, meter: Meter
) -> Mapping[str, Any]:
    """Write both shards into `folder`; what the manifest says about them."""
    separator = tokenizer.special_tokens[END_OF_TEXT]
    token_bytes = np.asarray(tokenizer.token_bytes(), dtype=np.int64)
    assert token_bytes[separator] == 0, "a special token must stand for no bytes"
    has_answers = any(part.source.has_answers for part, _ in parts)
    with (
        ShardWriter(folder, "train", separator, token_bytes, has_answers) as train,
        ShardWriter(folder, "validation", separator, token_bytes, has_answers) as validation,
    ):
        writers: dict[Split, ShardWriter] = {"train": train, "validation": validation}
        by_part = {}
        for part, found in parts:
            for writer in writers.values():
                writer.begin_source()
            _encode_source(part, found, tokenizer, writers, meter)
            by_part[part.name] = {name: writer.source_facts() for name, writer in writers.items()}
            assert sum(facts["bytes"] for facts in by_part[part.name].values()) == found.num_bytes
        facts: dict[str, Any] = {name: writer.facts() for name, writer in writers.items()}
    return {
        "num_documents": sum(found.num_documents for _, found in parts),
        "tokenizer": {"digest": tokenizer.digest(), "vocab_size": tokenizer.vocab_size},
        "separator": separator,
        "dtype": token_dtype(len(token_bytes)).str,
        **facts,
        "validation_sha256": facts["validation"]["sha256"],
        "parts": by_part,
    }


@dataclass(frozen=True, slots=True)
class _Piece:
    writer: ShardWriter
    data: bytes
    begins_document: bool
    answers: Flags | None


def _encode_source(
    part: SourcePart,
    found: Survey,
    tokenizer: TrainableTokenizer,
    writers: Mapping[Split, ShardWriter],
    meter: Meter,
) -> None:
    waiting: list[_Piece] = []
    size = 0

    def flush() -> None:
        ids = tokenizer.encode_arrays([piece.data for piece in waiting])
        for piece, row in zip(waiting, ids, strict=True):
            if piece.begins_document:
                piece.writer.begin_document()
            piece.writer.write(row, piece.data, piece.answers)
        waiting.clear()

    for document, raw in read_again(part.source, found, meter):
        for piece in _document_pieces(document, raw, part, found, writers):
            waiting.append(piece)
            size += len(piece.data)
            if size >= PIECE_CHARACTERS:
                flush()
                size = 0
    flush()


def _document_pieces(
    document: Document, raw: bytes, part: SourcePart, found: Survey, writers: Mapping[Split, ShardWriter]
) -> Iterator[_Piece]:
    answers = None
    if part.source.has_answers:
        answers = np.zeros(len(raw), dtype=np.bool_)
        for first, past in document.answers:
            answers[first:past] = True
    done_bytes = 0
    for split, text in split_document(document, raw, found, part.source.validation_fraction):
        for number, piece in enumerate(pieces(text)):
            data = piece.encode()
            stretch = None if answers is None else answers[done_bytes : done_bytes + len(data)]
            done_bytes += len(data)
            yield _Piece(writers[split], data, number == 0, stretch)
