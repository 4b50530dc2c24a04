"""Text in, token shards out: split, train the tokenizer on the training split, encode, store; each step only once."""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atomiclm.data.cache import built_once, content_key, default_cache_dir, write_file
from atomiclm.data.pieces import PIECE_CHARACTERS, pieces
from atomiclm.data.progress import Meter, Progress, silent
from atomiclm.data.protocols import END_OF_TEXT, TrainableTokenizer
from atomiclm.data.shards import ShardWriter, TokenShard, open_shard, token_dtype
from atomiclm.data.source import Document, SourceError, TextSource, fraction_faults
from atomiclm.data.split import Split, Survey, check_split, document_bytes, split_document, survey

FORMAT = 1  # of everything below the cache folder, and of how text is read: part of every key
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, eq=False)
class PreparedCorpus[T: TrainableTokenizer]:
    """A corpus ready to train on.

    tokenizer: trained on the training split only
    train, validation: token ids; every document is one END_OF_TEXT followed by its tokens
    manifest: JSON-able facts: `corpus_sha256`, `num_documents`, `split` (rule, validation_fraction), `tokenizer`
        (digest, vocab_size), `separator`, `dtype`, per split `bytes tokens documents sha256`, `validation_sha256`
        (of the validation split's UTF-8 bytes, the identity of every validation figure), `files` with their hashes,
        and of this source `source` and `left_out`
    folder: where the shards are
    """

    tokenizer: T
    train: TokenShard
    validation: TokenShard
    manifest: dict[str, Any]
    folder: Path

    def raw_bytes(self, split: Split, last_bytes: int | None = None) -> bytes:
        """The UTF-8 bytes of a split, documents joined by nothing; with `last_bytes`, no more than that of its end."""
        shard = self.train if split == "train" else self.validation
        token_bytes = np.asarray(self.tokenizer.token_bytes(), dtype=np.int64)
        wanted = shard.num_bytes if last_bytes is None else min(last_bytes, shard.num_bytes)
        count = min(wanted, shard.num_tokens)
        tail = np.asarray(shard.tokens[shard.num_tokens - count :])
        while token_bytes[tail].sum() < wanted:  # separators stand for no bytes
            count = min(2 * count, shard.num_tokens)
            tail = np.asarray(shard.tokens[shard.num_tokens - count :])
        raw = self.tokenizer.decode_bytes(tail[token_bytes[tail] > 0].tolist())
        return raw[len(raw) - wanted :]


def prepare[T: TrainableTokenizer](
    source: TextSource, tokenizer: T, cache_dir: Path | None = None, *, progress: Progress | None = None
) -> PreparedCorpus[T]:
    """The corpus, split and tokenized, from the cache or built into it.

    source: what to read; documents are streamed, one at a time in memory
    tokenizer: says what to train; it is not touched itself (`PreparedCorpus.tokenizer` is a trained copy)
    cache_dir: default `default_cache_dir()`
    progress: told what is being done, and of a damaged cache that is built anew

    Cached by content: the tokenizer by (corpus, split, its settings), shards by (corpus, split, tokenizer digest).
    Whether the corpus is the known one is told by the stamp of its files where they have one, else by reading them.
    Two processes that prepare the same thing build it once. Raises ValueError for faults of the source, an empty split,
    a corpus that changes underway, and a cache folder that may not be written to.
    """
    told = silent if progress is None else progress
    root = cache_dir if cache_dir is not None else default_cache_dir()
    if END_OF_TEXT not in tokenizer.special_tokens:
        raise ValueError(
            f"tokenizer.special_tokens must hold {END_OF_TEXT!r}, which separates documents; "
            f"it holds {sorted(tokenizer.special_tokens)}"
        )
    _refuse(fraction_faults(source.validation_fraction))
    found = _surveyed(source, root, told)
    check_split(found, source.validation_fraction)
    identity = {
        "format": FORMAT,
        "corpus_sha256": found.sha256,
        "split": {"rule": found.rule, "validation_fraction": source.validation_fraction},
    }

    def train_tokenizer(folder: Path) -> Mapping[str, Any]:
        trained = copy.deepcopy(tokenizer)
        trained.train_from_iterator(_training_text(source, found, told))
        trained.save(folder / TOKENIZER_FILE)
        return {**identity, "settings": tokenizer.settings(), "digest": trained.digest()}

    tokenizer_folder = root / "tokenizers" / content_key(**identity, settings=tokenizer.settings())
    built_once(tokenizer_folder, train_tokenizer, told)
    trained = type(tokenizer).load(tokenizer_folder / TOKENIZER_FILE)

    def encode(folder: Path) -> Mapping[str, Any]:
        return {**identity, **_encode(source, found, trained, folder, told)}

    folder = root / "shards" / content_key(**identity, tokenizer=trained.digest())
    manifest = built_once(folder, encode, told)
    return PreparedCorpus(
        tokenizer=trained,
        train=open_shard(folder / "train.bin", manifest["dtype"], manifest["train"]),
        validation=open_shard(folder / "validation.bin", manifest["dtype"], manifest["validation"]),
        manifest={**manifest, "source": source.describe(), "left_out": found.left_out},
        folder=folder,
    )


def _refuse(faults: list[tuple[str, str]]) -> None:
    if faults:
        raise ValueError("\n".join(f"{argument}: {message}" for argument, message in faults))


def _surveyed(source: TextSource, root: Path, progress: Progress) -> Survey:
    """The survey of the corpus: remembered if its files carry the same stamp, else from reading all of it."""
    stamp = source.stamp()
    remembered = None if stamp is None else root / "surveys" / f"{content_key(stamp=stamp, format=FORMAT)}.json"
    if remembered is not None and (known := _recall(remembered)) is not None:
        return known
    _refuse(source.faults())
    meter = Meter(progress, "reading", 0)
    found = survey(_read(source, meter))
    found = Survey(**{**found.as_json(), "left_out": source.left_out})
    meter.finish()
    if remembered is not None and source.stamp() == stamp:
        body = json.dumps(found.as_json())
        try:
            remembered.parent.mkdir(parents=True, exist_ok=True)
            write_file(remembered, json.dumps([body, hashlib.sha256(body.encode()).hexdigest()]).encode())
        except PermissionError:
            pass  # a shared cache that is read-only: only reading again is spared by this file
    return found


def _recall(path: Path) -> Survey | None:
    try:
        body, digest = json.loads(path.read_text(encoding="utf-8"))
        if hashlib.sha256(body.encode()).hexdigest() == digest:
            return Survey(**json.loads(body))
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        pass  # not there or not ours: the corpus is read, which is always right
    return None


def _read(source: TextSource, meter: Meter) -> Iterator[tuple[Document, bytes]]:
    for document in source.documents():
        raw = document_bytes(document)
        yield document, raw
        meter.add(len(raw))


def _read_again(source: TextSource, found: Survey, meter: Meter) -> Iterator[tuple[Document, bytes]]:
    """The documents once more. Raises at the end if they are no longer those of the survey: what was made is void."""
    digest = hashlib.sha256()
    for document, raw in _read(source, meter):
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
        yield document, raw
    if digest.hexdigest() != found.sha256:
        raise SourceError("path", f"the corpus ({source.describe()}) changed while it was being prepared; run again")


def _training_text(source: TextSource, found: Survey, progress: Progress) -> Iterator[str]:
    """The training split as one stream, END_OF_TEXT between documents so that no merge spans two of them."""
    meter = Meter(progress, "training tokenizer", found.num_bytes)
    separator = ""
    for document, raw in _read_again(source, found, meter):
        for split, text in split_document(document, raw, found, source.validation_fraction):
            if split == "train":
                yield separator
                yield text
                separator = END_OF_TEXT
    meter.finish()


def _encode(
    source: TextSource, found: Survey, tokenizer: TrainableTokenizer, folder: Path, progress: Progress
) -> Mapping[str, Any]:
    """Write both shards; what the manifest says about them."""
    separator = tokenizer.special_tokens[END_OF_TEXT]
    token_bytes = np.asarray(tokenizer.token_bytes(), dtype=np.int64)
    assert token_bytes[separator] == 0, "a special token must stand for no bytes"
    meter = Meter(progress, "encoding", found.num_bytes)
    with (
        ShardWriter(folder / "train.bin", separator, token_bytes) as train,
        ShardWriter(folder / "validation.bin", separator, token_bytes) as validation,
    ):
        writers = {"train": train, "validation": validation}
        waiting: list[tuple[ShardWriter, str, bool]] = []  # writer, text, whether a document begins with it
        characters = 0

        def flush() -> None:
            ids = tokenizer.encode_batch([text for _, text, _ in waiting])
            for (writer, text, begins), row in zip(waiting, ids, strict=True):
                if begins:
                    writer.begin_document()
                writer.write(row, text.encode())
            waiting.clear()

        for document, raw in _read_again(source, found, meter):
            for split, part in split_document(document, raw, found, source.validation_fraction):
                for number, piece in enumerate(pieces(part)):
                    waiting.append((writers[split], piece, number == 0))
                    characters += len(piece)
                    if characters >= PIECE_CHARACTERS:
                        flush()
                        characters = 0
        flush()
        facts = {name: writer.facts() for name, writer in writers.items()}
    meter.finish()
    assert facts["train"]["bytes"] + facts["validation"]["bytes"] == found.num_bytes
    return {
        "num_documents": found.num_documents,
        "tokenizer": {"digest": tokenizer.digest(), "vocab_size": tokenizer.vocab_size},
        "separator": separator,
        "dtype": token_dtype(len(token_bytes)).str,
        **facts,
        "validation_sha256": facts["validation"]["sha256"],
    }
