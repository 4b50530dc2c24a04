"""Text in, token shards out: split, train the tokenizer on the training split, encode, store; each step only once."""

import copy
import functools
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from atomiclm.cli import UserError
from atomiclm.data.cache import Meter, Progress, built_once, content_key, damage, silent
from atomiclm.data.shards import (
    CorpusPart,
    CountingTokenizer,
    Flags,
    Ids,
    JoinedShards,
    PreparedCorpus,
    ShardWriter,
    TrainableTokenizer,
    open_shards,
    token_dtype,
)
from atomiclm.data.source import (
    FORMAT,
    ChangedError,
    CorpusSource,
    Document,
    SourceText,
    Span,
    SpanFacts,
    Split,
    Survey,
    hash_number,
    split_document,
    surveyed_documents,
)
from atomiclm.data.workers import Add, Workers
from atomiclm.machine import default_cache_dir

END_OF_TEXT = "<|endoftext|>"  # the special token that separates documents
TOKENIZER_FILE = "tokenizer.json"
PIECE_CHARACTERS = 1 << 18
SPLITS: tuple[Split, ...] = get_args(Split)

# Before the single space between two words, or after a line feed between two visible characters. Both the GPT-2 and
# the GPT-4 pattern start a pre-token there whatever stands around, so the pieces' ids are the whole's ids.
_CUT = re.compile(r"(?<=[^\W\d_])(?= [^\W\d_])|(?<=\S\n)(?=\S)")


def prepare[T: TrainableTokenizer](
    source: CorpusSource,
    tokenizer: T,
    cache_dir: Path | None = None,
    *,
    progress: Progress = silent,
    check_text: Callable[[str], None] | None = None,
    workers: int = 1,
) -> PreparedCorpus[T]:
    """The corpus, split and tokenized, from the cache or built into it.

    source: what to read; documents are streamed
    tokenizer: says what to train; it is not touched itself (`PreparedCorpus.tokenizer` is a trained copy)
    cache_dir: default `default_cache_dir()`
    progress: called with what is being done, and with a damaged cache that is rebuilt
    check_text: called with `corpus_sha256` before anything is made of the text; what it raises ends the preparation

    workers: processes that read and encode; they decide how long it takes and nothing else

    Cached by content: the tokenizer by (corpus, split, its settings), shards by (corpus, split, tokenizer digest); a
    corpus is known by the stamp of its files where they have one, else by reading them. Of several sources each is
    split by its own rule, one tokenizer is trained on text of all (`tokenizer_text`), and their tokens stand one
    source after another in one shard a split.

    Raises ValueError for faults of the source, an empty split, a corpus that changes underway, a tokenizer that would
    join an answer with other text, and a cache folder that may not be written to.
    """
    check_separator(tokenizer)
    with Workers(workers) as some:
        return _prepare(source, tokenizer, cache_dir or default_cache_dir(), progress, check_text, some)


def _prepare[T: TrainableTokenizer](
    source: CorpusSource, tokenizer: T, root: Path, report: Progress, check_text: Callable[[str], None] | None,
    workers: Workers,
) -> PreparedCorpus[T]:  # fmt: skip
    texts = [SourceText(part, root, report, workers) for part in source.parts()]
    identity = _identity(texts)
    if check_text is not None:
        check_text(identity["corpus_sha256"])
    num_bytes = sum(text.survey.num_bytes for text in texts)

    def train_tokenizer(folder: Path) -> Mapping[str, Any]:
        def metered[S](stream: Callable[[Meter], Iterator[S]]) -> Iterator[S]:
            meter = Meter(report, "training tokenizer", num_bytes)  # reported once the tokenizer reads any of it
            yield from stream(meter)
            meter.finish()

        trained = copy.deepcopy(tokenizer)
        if workers.count > 1 and isinstance(trained, CountingTokenizer) and trained.counts_apart(num_bytes):
            counting = copy.deepcopy(trained)
            trained.train_from_counts(metered(lambda meter: _counted(texts, counting, meter, workers)))
        else:
            trained.train_from_iterator(metered(lambda meter: tokenizer_text(texts, meter)), num_bytes)
        trained.save(folder / TOKENIZER_FILE)
        return {**identity, "settings": tokenizer.settings(), "digest": trained.digest()}

    weights = [text.part.weight for text in texts]
    tokenizer_key = content_key(**identity, weights=weights, settings=tokenizer.settings())
    tokenizer_folder = root / "tokenizers" / tokenizer_key
    built_once(tokenizer_folder, train_tokenizer, report)
    trained = type(tokenizer).load(tokenizer_folder / TOKENIZER_FILE)

    def write_shards(folder: Path) -> Mapping[str, Any]:
        facts = _encode(texts, (type(trained), tokenizer_folder / TOKENIZER_FILE), scratch, folder, report, workers)
        return {**identity, **facts}

    key = content_key(**identity, tokenizer=trained.digest())
    folder, scratch = root / "shards" / key, root / "spans" / key
    manifest = built_once(folder, write_shards, report)
    shutil.rmtree(scratch, ignore_errors=True)
    has_answers = {text.part.name: text.source.has_answers for text in texts}
    train, training = open_shards(folder, "train", manifest, has_answers)
    validation, held_out = open_shards(folder, "validation", manifest, has_answers)
    parts = [
        CorpusPart(part.name, part.weight, part.source.answers_only, training[part.name], held_out[part.name])
        for part in source.parts()
    ]
    left_out = sum(text.survey.left_out for text in texts)
    return PreparedCorpus(
        tokenizer=trained,
        train=train,
        validation=validation,
        manifest={**manifest, "source": source.describe(), "left_out": left_out},
        folder=folder,
        parts=tuple(parts),
        anchors={
            f"{anchor}/{text.part.name}" if text.part.name else anchor: bits
            for text in texts
            for anchor, bits in text.source.anchors().items()
        },
    )


def check_separator(tokenizer: TrainableTokenizer) -> None:
    """Raise UserError unless the tokenizer has the special token that separates documents."""
    if END_OF_TEXT not in tokenizer.special_tokens:
        rule = f"must hold {END_OF_TEXT!r}, which separates documents; add it"
        raise UserError(f"special_tokens: {sorted(tokenizer.special_tokens)} {rule}")


def corpus_sha256(source: CorpusSource, cache_dir: Path | None = None, workers: int = 1) -> str:
    """The hash by which `prepare` knows the text of a corpus. Raises ValueError for faults of the source."""
    with Workers(workers) as some:
        texts = [SourceText(part, cache_dir or default_cache_dir(), silent, some) for part in source.parts()]
    return str(_identity(texts)["corpus_sha256"])


def _identity(texts: Sequence[SourceText]) -> dict[str, Any]:
    """What decides the text of both splits: of one source its facts, of several those of each and a digest of all."""
    facts = {
        text.part.name: {
            "corpus_sha256": text.survey.sha256,
            "split": {"rule": text.survey.rule, "validation_fraction": text.source.validation_fraction},
        }
        for text in texts
    }
    if len(texts) == 1:
        return {"format": FORMAT, **facts[texts[0].part.name]}
    return {
        "format": FORMAT,
        "corpus_sha256": content_key(sources=[text.survey.sha256 for text in texts]),
        "split": {"rule": "of each source", "sources": facts},
    }


def tokenizer_text(texts: Sequence[SourceText], meter: Meter) -> Iterator[str]:
    """One stream of training text, END_OF_TEXT between documents so that no merge spans two of them.

    Of several sources the shares of the bytes are their weights, as the vocabulary should fit what training shows the
    model: with b_s the training bytes of source s and w_s its weight, source s gives w_s min_r(b_r / w_r) bytes, on
    average over which documents these are, so that the source that is scarcest for its weight is used up. Documents
    are chosen by the hash that splits them; a document alone gives its first characters.
    """
    separator = ""
    for text, share in _shares(texts):
        documents = text.documents(meter)
        for part in _training_parts(documents, text.survey, text.source.validation_fraction, share):
            yield separator
            yield part
            separator = END_OF_TEXT


def _shares(texts: Sequence[SourceText]) -> Iterator[tuple[SourceText, float]]:
    """Each source, and which share of its training text the tokenizer is trained on."""
    scarcest = min(text.training_bytes / text.part.weight for text in texts)
    for text in texts:
        yield text, min(1.0, text.part.weight * scarcest / text.training_bytes)


def _training_parts(
    documents: Iterable[tuple[Document, bytes]], text: Survey, validation_fraction: float, share: float
) -> Iterator[str]:
    for document, raw in documents:
        for split, part in split_document(document, raw, text, validation_fraction):
            if split == "validation":
                continue
            if text.num_documents == 1:
                part = part[: int(len(part) * share)]
            elif hash_number(raw) >= validation_fraction + share * (1 - validation_fraction) and share < 1:
                continue
            yield part


@dataclass(frozen=True, slots=True)
class CountSpan:
    """The work of counting what the tokenizer is trained on in one span, by whatever process."""

    span: Span
    facts: SpanFacts
    text: Survey
    validation_fraction: float
    share: float
    tokenizer: CountingTokenizer


def count_span(work: CountSpan, add: Add) -> Any:
    """What the span has of `tokenizer_text`, counted."""
    documents = surveyed_documents(work.span, work.facts, add)
    parts = _training_parts(documents, work.text, work.validation_fraction, work.share)
    return work.tokenizer.count(chunk for part in parts for chunk in (part, END_OF_TEXT))


def _counted(
    texts: Sequence[SourceText], tokenizer: CountingTokenizer, meter: Meter, workers: Workers
) -> Iterator[Any]:
    for text, share in _shares(texts):
        held_out = text.source.validation_fraction
        work = [CountSpan(*span, text.survey, held_out, share, tokenizer) for span in text.surveyed_spans()]
        try:
            for _, counts in workers.spread(count_span, work, meter.add):
                yield counts
        except ChangedError as error:
            raise text.changed() from error


# ---------------------------------------------------------------------------------------------------------------------
# From text to shards.


@dataclass(frozen=True, slots=True)
class EncodeSpan:
    """The work of making one span's shards, by whatever process.

    text: the survey of the whole source, which says how it is split
    tokenizer: its class and file
    """

    span: Span
    facts: SpanFacts
    text: Survey
    validation_fraction: float
    has_answers: bool
    tokenizer: tuple[type[TrainableTokenizer], Path]
    root: Path

    @property
    def folder(self) -> Path:
        """Where the shards are until they are joined; equal text has equal shards."""
        return self.root / content_key(
            sha256=self.facts.sha256, rule=self.text.rule, validation_fraction=self.validation_fraction
        )


def encode_span(work: EncodeSpan, add: Add) -> dict[str, Any]:
    """Make a span's shards, unless they are there already; their counts by split."""
    tokenizer, separator, token_bytes = _loaded(*work.tokenizer)

    def write(folder: Path) -> Mapping[str, Any]:
        with ExitStack() as files:
            writers = {
                split: ShardWriter(folder, split, separator, token_bytes, work.has_answers, files) for split in SPLITS
            }
            for batch in _batched(_pieces(work, add)):
                for split, some in batch.items():
                    raws, answers, begins = zip(*some, strict=True)
                    rows = tokenizer.encode_arrays(raws)
                    writers[split].write(rows, raws, np.concatenate(answers), np.array(begins))
            return {split: writer.counts for split, writer in writers.items()}

    return built_once(work.folder, write, silent)


@functools.lru_cache(maxsize=1)
def _loaded(kind: type[TrainableTokenizer], path: Path) -> tuple[TrainableTokenizer, int, Ids]:
    """A tokenizer, the id that separates documents, and the bytes that each id stands for."""
    tokenizer = kind.load(path)
    separator = tokenizer.special_tokens[END_OF_TEXT]
    token_bytes = np.asarray(tokenizer.token_bytes(), dtype=np.int64)
    assert token_bytes[separator] == 0, "a special token must stand for no bytes"
    return tokenizer, separator, token_bytes


def _encode(
    texts: Sequence[SourceText], tokenizer: tuple[type[TrainableTokenizer], Path], scratch: Path, folder: Path,
    report: Progress, workers: Workers,
) -> dict[str, Any]:  # fmt: skip
    """Write both shards into `folder`; what the manifest says about them.

    scratch: where the shards of the spans are until all are made. Those that an earlier process made, before it was
    killed, are not made again.
    """
    has_answers = any(text.source.has_answers for text in texts)
    work = {
        text.part.name: [
            EncodeSpan(span, facts, text.survey, text.source.validation_fraction, has_answers, tokenizer, scratch)
            for span, facts in text.surveyed_spans()
        ]
        for text in texts
    }
    folders = {one.folder: one.facts.num_bytes for some in work.values() for one in some}
    missing = [num_bytes for folder, num_bytes in folders.items() if damage(folder) is not None]
    if len(missing) < len(folders):
        report(f"{len(folders) - len(missing)} of {len(folders)} shards are there from before", 0, 0)
    meter = Meter(report, "encoding", sum(missing))
    by_part = {}
    with ExitStack() as files:
        joined = {split: JoinedShards(folder, split, has_answers, files) for split in SPLITS}
        for text in texts:
            some = work[text.part.name]
            try:
                made = [counts for _, counts in sorted(workers.spread(encode_span, some, meter.add))]
            except ChangedError as error:
                raise text.changed() from error
            for one, counts in zip(some, made, strict=True):
                for split, shards in joined.items():
                    shards.append(one.folder, counts[split])
            by_part[text.part.name] = {split: shards.end_source() for split, shards in joined.items()}
            num_bytes = sum(facts["bytes"] for facts in by_part[text.part.name].values())
            assert num_bytes == text.survey.num_bytes
        whole: dict[str, Any] = {split: shards.facts() for split, shards in joined.items()}
    meter.finish()
    trained, separator, token_bytes = _loaded(*tokenizer)
    return {
        "num_documents": sum(text.survey.num_documents for text in texts),
        "tokenizer": {"digest": trained.digest(), "vocab_size": trained.vocab_size},
        "separator": separator,
        "dtype": token_dtype(len(token_bytes)).str,
        **whole,
        "validation_sha256": whole["validation"]["sha256"],
        "parts": by_part,
    }


Piece = tuple[bytes, Flags, bool]
"""A stretch of a document that is encoded by itself: bytes, which of them are an answer, whether it begins one."""


def _pieces(work: EncodeSpan, add: Add) -> Iterator[tuple[Split, Piece]]:
    for document, raw in surveyed_documents(work.span, work.facts, add):
        answers = np.zeros(len(raw), dtype=np.bool_)
        for first, past in document.answers:
            answers[first:past] = True
        done_bytes = 0
        for split, part in split_document(document, raw, work.text, work.validation_fraction):
            for number, piece in enumerate(pieces(part)):
                data = piece.encode()
                yield split, (data, answers[done_bytes : done_bytes + len(data)], number == 0)
                done_bytes += len(data)


def _batched(stream: Iterator[tuple[Split, Piece]]) -> Iterator[dict[Split, list[Piece]]]:
    """Pieces to encode at once, of `PIECE_CHARACTERS` bytes or somewhat more."""
    batch: dict[Split, list[Piece]] = defaultdict(list)
    size = 0
    for split, piece in stream:
        batch[split].append(piece)
        size += len(piece[0])
        if size >= PIECE_CHARACTERS:
            yield batch
            batch, size = defaultdict(list), 0
    yield batch


def pieces(text: str, size: int = PIECE_CHARACTERS) -> Iterator[str]:
    """`text` in pieces of `size` characters or somewhat more, cut where the common patterns cut anyway.

    Under another pattern, or in a text without such cuts within another `size` characters, the merge at a cut may
    differ from the whole text's; the bytes never do.
    """
    start = 0
    while len(text) - start > 2 * size:
        found = _CUT.search(text, start + size, start + 2 * size)
        cut = found.start() if found else start + 2 * size
        yield text[start:cut]
        start = cut
    yield text[start:]
