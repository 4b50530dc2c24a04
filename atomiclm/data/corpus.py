"""Text in, token shards out: split, train the tokenizer on the training split, encode, store; each step only once."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atomiclm.cache_folder import default_cache_dir
from atomiclm.data.cache import built_once, content_key
from atomiclm.data.encoding import encode
from atomiclm.data.prepared import CorpusPart, PreparedCorpus
from atomiclm.data.progress import Meter, Progress, silent
from atomiclm.data.protocols import END_OF_TEXT, TrainableTokenizer, check_separator
from atomiclm.data.shard_manifest import check_manifest
from atomiclm.data.shards import TokenShard, open_shard
from atomiclm.data.source import CorpusSource, SourceError, SourcePart, fraction_faults
from atomiclm.data.split import Survey, check_split
from atomiclm.data.surveys import FORMAT, surveyed
from atomiclm.data.tokenizer_text import tokenizer_text

TOKENIZER_FILE = "tokenizer.json"

Parts = Sequence[tuple[SourcePart, Survey]]


def prepare[T: TrainableTokenizer](
    source: CorpusSource,
    tokenizer: T,
    cache_dir: Path | None = None,
    *,
    progress: Progress | None = None,
    judge: Callable[[str], None] | None = None,
) -> PreparedCorpus[T]:
    """The corpus, split and tokenized, from the cache or built into it.

    source: what to read; documents are streamed, one at a time in memory
    tokenizer: says what to train; it is not touched itself (`PreparedCorpus.tokenizer` is a trained copy)
    cache_dir: default `default_cache_dir()`
    progress: told what is being done, and of a damaged cache that is built anew
    judge: told `corpus_sha256` of the text before anything is made of it; what it raises ends the preparation

    Cached by content: the tokenizer by (corpus, split, its settings), shards by (corpus, split, tokenizer digest).
    Whether the corpus is the known one is told by the stamp of its files where they have one, else by reading them.
    Two processes that prepare the same thing build it once. Of several sources each is split by its own rule, one
    tokenizer is trained on text of all (`tokenizer_text`), and their tokens stand one source after another in one
    shard a split. Raises ValueError for faults of the source, an empty split, a corpus that changes underway, a
    tokenizer that would join an answer with other text, and a cache folder that may not be written to.
    """
    told = silent if progress is None else progress
    root = cache_dir if cache_dir is not None else default_cache_dir()
    check_separator(tokenizer)
    parts = [(part, _surveyed(part, root, told)) for part in source.parts()]
    identity = _identity(parts)
    if judge is not None:
        judge(identity["corpus_sha256"])

    def train_tokenizer(folder: Path) -> Mapping[str, Any]:
        def text() -> Iterator[str]:
            meter = Meter(told, "training tokenizer", _num_bytes(parts))  # told once the tokenizer reads any of it
            yield from tokenizer_text(parts, meter)
            meter.finish()

        trained = copy.deepcopy(tokenizer)
        trained.train_from_iterator(text(), _num_bytes(parts))
        trained.save(folder / TOKENIZER_FILE)
        return {**identity, "settings": tokenizer.settings(), "digest": trained.digest()}

    weights = [part.weight for part, _ in parts]
    tokenizer_key = content_key(**identity, weights=weights, settings=tokenizer.settings())
    tokenizer_folder = root / "tokenizers" / tokenizer_key
    built_once(tokenizer_folder, train_tokenizer, told)
    trained = type(tokenizer).load(tokenizer_folder / TOKENIZER_FILE)

    def write_shards(folder: Path) -> Mapping[str, Any]:
        meter = Meter(told, "encoding", _num_bytes(parts))
        facts = encode(parts, trained, folder, meter)
        meter.finish()
        return {**identity, **facts}

    folder = root / "shards" / content_key(**identity, tokenizer=trained.digest())
    manifest = built_once(folder, write_shards, told)
    known = {**identity, "tokenizer": {"digest": trained.digest(), "vocab_size": trained.vocab_size}}
    known["separator"] = trained.special_tokens[END_OF_TEXT]
    check_manifest(folder, manifest, known, [part.name for part, _ in parts])
    train, validation = (open_shard(folder, split, manifest) for split in ("train", "validation"))
    left_out = sum(found.left_out for _, found in parts)
    return PreparedCorpus(
        tokenizer=trained,
        train=train,
        validation=validation,
        manifest={**manifest, "source": source.describe(), "left_out": left_out},
        folder=folder,
        parts=tuple(_prepared_parts(parts, train, validation, manifest)),
        anchors={
            f"{anchor}/{part.name}" if part.name else anchor: bits
            for part, _ in parts
            for anchor, bits in part.source.anchors().items()
        },
    )


def corpus_sha256(source: CorpusSource, cache_dir: Path | None = None) -> str:
    """The hash by which `prepare` knows the text of a corpus, without preparing it: from the stamp of its files where
    they have one, else by reading them. Raises ValueError for faults of the source.
    """
    root = cache_dir if cache_dir is not None else default_cache_dir()
    parts = [(part, _surveyed(part, root, silent)) for part in source.parts()]
    return str(_identity(parts)["corpus_sha256"])


def _num_bytes(parts: Parts) -> int:
    return sum(found.num_bytes for _, found in parts)


def _surveyed(part: SourcePart, root: Path, progress: Progress) -> Survey:
    fraction = part.source.validation_fraction
    with _at(part.prefix):
        for argument, message in fraction_faults(fraction):
            raise SourceError(argument, message)
        found = surveyed(part.source, root, progress)
        check_split(found, fraction)
    return found


@contextmanager
def _at(prefix: str) -> Iterator[None]:
    """Let what a source refuses name the whole path of its argument."""
    try:
        yield
    except SourceError as error:
        raise SourceError(f"{prefix}{error.argument}", error.message) from error


def _identity(parts: Parts) -> dict[str, Any]:
    """What decides the text of both splits: of one source its facts, of several those of each and a digest of all."""
    facts = [
        {
            "corpus_sha256": found.sha256,
            "split": {"rule": found.rule, "validation_fraction": part.source.validation_fraction},
        }
        for part, found in parts
    ]
    if len(parts) == 1:
        return {"format": FORMAT, **facts[0]}
    names = [part.name for part, _ in parts]
    return {
        "format": FORMAT,
        "corpus_sha256": content_key(sources=[found.sha256 for _, found in parts]),
        "split": {"rule": "of each source", "sources": dict(zip(names, facts, strict=True))},
    }


def _prepared_parts(
    parts: Parts, train: TokenShard, validation: TokenShard, manifest: dict[str, Any]
) -> Iterator[CorpusPart]:
    """Each source's stretch of the shards."""
    first_train = first_validation = 0
    for part, _ in parts:
        facts, has_answers = manifest["parts"][part.name], part.source.has_answers
        yield CorpusPart(
            name=part.name,
            weight=part.weight,
            answers_only=part.source.answers_only,
            train=train.part(first_train, facts["train"], has_answers),
            validation=validation.part(first_validation, facts["validation"], has_answers),
        )
        first_train += facts["train"]["tokens"]
        first_validation += facts["validation"]["tokens"]
