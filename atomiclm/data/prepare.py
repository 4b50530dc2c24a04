"""Text in, token shards out: split, train the tokenizer on the training split, encode, store; each step only once."""

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from atomiclm.cache_folder import default_cache_dir
from atomiclm.data.batches import Flags
from atomiclm.data.cache import Meter, Progress, built_once, content_key, silent
from atomiclm.data.corpus import END_OF_TEXT, CorpusPart, PreparedCorpus, TrainableTokenizer, check_separator
from atomiclm.data.reading import FORMAT, SourceText
from atomiclm.data.shards import ShardWriter, TokenShard, check_manifest, open_shard, token_dtype
from atomiclm.data.source import CorpusSource
from atomiclm.data.split import Split, hash_number, split_document

TOKENIZER_FILE = "tokenizer.json"
PIECE_CHARACTERS = 1 << 18

# Before the single space between two words, or after a line feed between two visible characters. Both the GPT-2 and
# the GPT-4 pattern start a pre-token there whatever stands around, so the pieces' ids are the whole's ids.
_CUT = re.compile(r"(?<=[^\W\d_])(?= [^\W\d_])|(?<=\S\n)(?=\S)")


def prepare[T: TrainableTokenizer](
    source: CorpusSource,
    tokenizer: T,
    cache_dir: Path | None = None,
    *,
    progress: Progress | None = None,
    check_text: Callable[[str], None] | None = None,
) -> PreparedCorpus[T]:
    """The corpus, split and tokenized, from the cache or built into it.

    source: what to read, once; documents are streamed, by way of a temporary file in the cache folder
    tokenizer: says what to train; it is not touched itself (`PreparedCorpus.tokenizer` is a trained copy)
    cache_dir: default `default_cache_dir()`
    progress: called with what is being done, and with a damaged cache that is rebuilt
    check_text: called with `corpus_sha256` before anything is made of the text; what it raises ends the preparation

    Cached by content: the tokenizer by (corpus, split, its settings), shards by (corpus, split, tokenizer digest).
    Whether the corpus is a known one is decided by the stamp of its files where they have one, else by reading them.
    Two processes that prepare the same thing build it once. Of several sources each is split by its own rule, one
    tokenizer is trained on text of all (`tokenizer_text`), and their tokens stand one source after another in one
    shard a split.

    Raises ValueError for faults of the source, an empty split, a corpus that changes underway, a tokenizer that would
    join an answer with other text, and a cache folder that may not be written to.
    """
    report = silent if progress is None else progress
    root = cache_dir if cache_dir is not None else default_cache_dir()
    check_separator(tokenizer)
    texts = [SourceText(part, root, report) for part in source.parts()]
    identity = _identity(texts)
    if check_text is not None:
        check_text(identity["corpus_sha256"])
    num_bytes = sum(text.survey.num_bytes for text in texts)

    def train_tokenizer(folder: Path) -> Mapping[str, Any]:
        def stream() -> Iterator[str]:
            meter = Meter(report, "training tokenizer", num_bytes)  # reported once the tokenizer reads any of it
            yield from tokenizer_text(texts, meter)
            meter.finish()

        trained = copy.deepcopy(tokenizer)
        trained.train_from_iterator(stream(), num_bytes)
        trained.save(folder / TOKENIZER_FILE)
        return {**identity, "settings": tokenizer.settings(), "digest": trained.digest()}

    weights = [text.part.weight for text in texts]
    tokenizer_key = content_key(**identity, weights=weights, settings=tokenizer.settings())
    tokenizer_folder = root / "tokenizers" / tokenizer_key
    built_once(tokenizer_folder, train_tokenizer, report)
    trained = type(tokenizer).load(tokenizer_folder / TOKENIZER_FILE)

    def write_shards(folder: Path) -> Mapping[str, Any]:
        meter = Meter(report, "encoding", num_bytes)
        facts = _encode(texts, trained, folder, meter)
        meter.finish()
        return {**identity, **facts}

    folder = root / "shards" / content_key(**identity, tokenizer=trained.digest())
    manifest = built_once(folder, write_shards, report)
    known = {**identity, "tokenizer": {"digest": trained.digest(), "vocab_size": trained.vocab_size}}
    known["separator"] = trained.special_tokens[END_OF_TEXT]
    check_manifest(folder, manifest, known, [text.part.name for text in texts])
    train, validation = (open_shard(folder, split, manifest) for split in ("train", "validation"))
    left_out = sum(text.survey.left_out for text in texts)
    return PreparedCorpus(
        tokenizer=trained,
        train=train,
        validation=validation,
        manifest={**manifest, "source": source.describe(), "left_out": left_out},
        folder=folder,
        parts=tuple(_parts(texts, train, validation, manifest)),
        anchors={
            f"{anchor}/{text.part.name}" if text.part.name else anchor: bits
            for text in texts
            for anchor, bits in text.source.anchors().items()
        },
    )


def corpus_sha256(source: CorpusSource, cache_dir: Path | None = None) -> str:
    """The hash by which `prepare` knows the text of a corpus, without preparing it: from the stamp of its files where
    they have one, else by reading them. Raises ValueError for faults of the source.
    """
    root = cache_dir if cache_dir is not None else default_cache_dir()
    texts = [SourceText(part, root, silent, survey_only=True) for part in source.parts()]
    return str(_identity(texts)["corpus_sha256"])


def _identity(texts: Sequence[SourceText]) -> dict[str, Any]:
    """What decides the text of both splits: of one source its facts, of several those of each and a digest of all."""
    facts = [
        {
            "corpus_sha256": text.survey.sha256,
            "split": {"rule": text.survey.rule, "validation_fraction": text.source.validation_fraction},
        }
        for text in texts
    ]
    if len(texts) == 1:
        return {"format": FORMAT, **facts[0]}
    names = [text.part.name for text in texts]
    return {
        "format": FORMAT,
        "corpus_sha256": content_key(sources=[text.survey.sha256 for text in texts]),
        "split": {"rule": "of each source", "sources": dict(zip(names, facts, strict=True))},
    }


def _parts(
    texts: Sequence[SourceText], train: TokenShard, validation: TokenShard, manifest: dict[str, Any]
) -> Iterator[CorpusPart]:
    """Each source's stretch of the shards."""
    first_train = first_validation = 0
    for text in texts:
        facts, has_answers = manifest["parts"][text.part.name], text.source.has_answers
        yield CorpusPart(
            name=text.part.name,
            weight=text.part.weight,
            answers_only=text.source.answers_only,
            train=train.part(first_train, facts["train"], has_answers),
            validation=validation.part(first_validation, facts["validation"], has_answers),
        )
        first_train += facts["train"]["tokens"]
        first_validation += facts["validation"]["tokens"]


# ---------------------------------------------------------------------------------------------------------------------
# What the tokenizer is trained on.


def tokenizer_text(texts: Sequence[SourceText], meter: Meter) -> Iterator[str]:
    """One stream of training text, END_OF_TEXT between documents so that no merge spans two of them.

    A corpus of one source gives all of it. Of several, the vocabulary should fit what training shows the model, so
    their shares of the bytes are their weights: with b_s the training bytes of source s and w_s its weight, source s
    gives w_s min_r(b_r / w_r) bytes, on average over which documents these are. No text comes twice; the source that
    is scarcest for its weight is used up. Documents are chosen by the hash that splits them (a document alone gives
    its first characters), so a document of the validation split is never among them.
    """
    scarcest = min(text.training_bytes / text.part.weight for text in texts)
    separator = ""
    for text in texts:
        share = min(1.0, text.part.weight * scarcest / text.training_bytes)
        held_out = text.source.validation_fraction
        for document, raw in text.documents(meter):
            for split, part in split_document(document, raw, text.survey, held_out):
                if split == "validation":
                    continue
                if text.survey.num_documents == 1:
                    part = part[: int(len(part) * share)]
                elif hash_number(raw) >= held_out + share * (1 - held_out) and share < 1:
                    continue
                yield separator
                yield part
                separator = END_OF_TEXT


# ---------------------------------------------------------------------------------------------------------------------
# From text to shards.


def _encode(
    texts: Sequence[SourceText], tokenizer: TrainableTokenizer, folder: Path, meter: Meter
) -> Mapping[str, Any]:
    """Write both shards into `folder`; what the manifest says about them."""
    separator = tokenizer.special_tokens[END_OF_TEXT]
    token_bytes = np.asarray(tokenizer.token_bytes(), dtype=np.int64)
    assert token_bytes[separator] == 0, "a special token must stand for no bytes"
    has_answers = any(text.source.has_answers for text in texts)
    with (
        closing(ShardWriter(folder, "train", separator, token_bytes, has_answers)) as train,
        closing(ShardWriter(folder, "validation", separator, token_bytes, has_answers)) as validation,
    ):
        writers: dict[Split, ShardWriter] = {"train": train, "validation": validation}
        by_part = {}
        for text in texts:
            for writer in writers.values():
                writer.begin_source()
            _encode_source(text, tokenizer, writers, meter)
            facts = by_part[text.part.name] = {split: writer.source.facts() for split, writer in writers.items()}
            assert sum(count["bytes"] for count in facts.values()) == text.survey.num_bytes
        whole: dict[str, Any] = {split: writer.whole.facts() for split, writer in writers.items()}
    return {
        "num_documents": sum(text.survey.num_documents for text in texts),
        "tokenizer": {"digest": tokenizer.digest(), "vocab_size": tokenizer.vocab_size},
        "separator": separator,
        "dtype": token_dtype(len(token_bytes)).str,
        **whole,
        "validation_sha256": whole["validation"]["sha256"],
        "parts": by_part,
    }


def _encode_source(
    text: SourceText, tokenizer: TrainableTokenizer, writers: Mapping[Split, ShardWriter], meter: Meter
) -> None:
    waiting: list[tuple[ShardWriter, bytes, Flags | None, bool]] = []
    size = 0
    for piece in _source_pieces(text, writers, meter):
        waiting.append(piece)
        size += len(piece[1])
        if size >= PIECE_CHARACTERS:
            _write(waiting, tokenizer)
            waiting, size = [], 0
    _write(waiting, tokenizer)


def _write(waiting: list[tuple[ShardWriter, bytes, Flags | None, bool]], tokenizer: TrainableTokenizer) -> None:
    ids = tokenizer.encode_arrays([raw for _, raw, _, _ in waiting])
    for (writer, raw, answers, begins_document), row in zip(waiting, ids, strict=True):
        writer.write(row, raw, answers, begins_document)


def _source_pieces(
    text: SourceText, writers: Mapping[Split, ShardWriter], meter: Meter
) -> Iterator[tuple[ShardWriter, bytes, Flags | None, bool]]:
    """Parts of documents that are encoded by themselves, and what `ShardWriter.write` is to know of them."""
    for document, raw in text.documents(meter):
        answers = np.zeros(len(raw), dtype=np.bool_) if text.source.has_answers else None
        if answers is not None:
            for first, past in document.answers:
                answers[first:past] = True
        done_bytes = 0
        for split, part in split_document(document, raw, text.survey, text.source.validation_fraction):
            for number, piece in enumerate(pieces(part)):
                data = piece.encode()
                stretch = None if answers is None else answers[done_bytes : done_bytes + len(data)]
                done_bytes += len(data)
                yield writers[split], data, stretch, number == 0


def pieces(text: str, size: int = PIECE_CHARACTERS) -> Iterator[str]:
    """`text` in pieces of `size` characters or somewhat more, so that memory and progress do not depend on its length.

    Cut where the common patterns cut anyway. Under another pattern, or in a text without such cuts within another
    `size` characters, the merge at a cut may differ from the whole text's; the bytes never do.
    """
    start = 0
    while len(text) - start > 2 * size:
        found = _CUT.search(text, start + size, start + 2 * size)
        cut = found.start() if found else start + 2 * size
        yield text[start:cut]
        start = cut
    yield text[start:]
