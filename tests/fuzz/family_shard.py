"""Token shards and manifests of the cache, by whoever filled it; hashes are computed anew, so they hide nothing."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from fuzz.family import Family, Make, Read, anything
from fuzz.mutate import VALUES, mutated_bytes, mutated_tree, spelled

from atomiclm.data import END_OF_TEXT, RandomWindows, TextFiles, prepare, training_batches, validation_batches
from atomiclm.data.cache import MANIFEST, damage, file_sha256, read_manifest
from atomiclm.data.shards import check_manifest, open_shard
from atomiclm.tokenizer import BasicTokenizer

VOCAB_SIZE = 300


class Shards(Family):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        texts = folder / "texts"
        texts.mkdir()
        for number in range(30):
            path = texts / f"{number}.txt"
            path.write_text(f"document {number}, the quick brown fox\n" * (number % 4 + 1))
            os.utime(path, (10**9, 10**9))
        self.source = TextFiles(str(texts), 0.3)
        self.cache = folder / "cache"
        self.prepared = prepare(self.source, BasicTokenizer(VOCAB_SIZE), self.cache)
        self.sound = self.prepared.folder
        self.manifest = json.loads((self.sound / MANIFEST).read_text())
        self.known = {
            field: self.manifest[field] for field in ("format", "corpus_sha256", "split", "tokenizer", "separator")
        }
        self.opened(self.sound)
        self.trained_on(self.cache)

    def opened(self, folder: Path) -> None:
        """Open a folder as `prepare` does, and look at every token the way training does."""
        if (fault := damage(folder)) is not None:
            raise ValueError(f"{folder}: {fault}")  # prepare would say so, and build it again
        manifest = read_manifest(folder)
        check_manifest(folder, manifest, self.known, [""])
        for split in ("train", "validation"):
            shard = open_shard(folder, split, manifest)
            assert len(shard.tokens) == shard.num_tokens
            assert int(shard.tokens.max()) < VOCAB_SIZE
            assert len(shard.document_starts()) == shard.num_documents
            assert shard.longest_document() > 0
            if shard.answers is not None:
                assert set(np.unique(shard.answers.view(np.uint8))) <= {0, 1}

    def trained_on(self, cache: Path) -> None:
        """Prepare from a cache, and take batches."""
        corpus = prepare(self.source, BasicTokenizer(VOCAB_SIZE), cache)
        assert corpus.manifest["validation_sha256"] == self.prepared.manifest["validation_sha256"]
        batch = training_batches(corpus, 8, RandomWindows(1)).batch(0, 4)
        assert batch.inputs.max() < VOCAB_SIZE
        for windows in validation_batches(corpus, 8, 4).values():
            assert all(batch.targets.max() < VOCAB_SIZE for batch in windows)
        assert END_OF_TEXT in corpus.tokenizer.special_tokens

    def _sealed(self, folder: Path, change: Callable[[dict, Path], object]) -> Read:
        """The sound folder after `change`, its manifest in agreement with its files again."""
        shutil.copytree(self.sound, folder / "s")
        manifest = json.loads(json.dumps(self.manifest))
        change(manifest, folder / "s")
        files = manifest.get("files")
        if isinstance(files, dict):
            for name in files:
                path = folder / "s" / name
                if os.path.isfile(path) and not path.is_symlink():
                    files[name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        (folder / "s" / MANIFEST).write_text(json.dumps(manifest))
        return lambda: self.opened(folder / "s")

    def shaped(self) -> Iterator[tuple[str, Make]]:
        for name in (MANIFEST, "train.bin", "validation.bin"):
            for what, make in anything(name, lambda path: self.opened(path.parent)):
                yield what, lambda folder, make=make, name=name: self._beside(folder, make, name)
        for field in (*self.manifest, "extra"):
            for number, value in enumerate(VALUES):
                yield (
                    f"{field} is {number}",
                    lambda folder, field=field, value=value: self._sealed(
                        folder, lambda manifest, _: manifest.update({field: value})
                    ),
                )
        for name in ("../../base/texts/0.txt", "/etc/passwd", "..", ".", "a/b", "a\x00b", "x" * 300, "\x1b[2J", ""):
            yield (
                f"file {name!r:.30}",
                lambda folder, name=name: self._sealed(
                    folder, lambda manifest, _: manifest["files"].update({name: {"bytes": 1, "sha256": "0" * 64}})
                ),
            )
        for value in (VOCAB_SIZE, 65535, self.manifest["separator"]):
            for place in (0, 5, -1):
                yield (
                    f"id {value} at {place}",
                    lambda folder, value=value, place=place: self._sealed(
                        folder, lambda _, folder: _with_id(folder / "train.bin", place, value)
                    ),
                )
        for change in (b"", b"\0", b"\0" * 3):
            yield (
                f"{len(change)} bytes more or none",
                lambda folder, change=change: self._sealed(
                    folder, lambda _, folder: (folder / "train.bin").write_bytes(change)
                ),
            )
        yield "a pipe that is said to hold nothing", lambda folder: self._sealed(folder, _with_a_pipe)
        yield "answers that are no flags", lambda folder: self._sealed(folder, _with_answers)
        yield "links", lambda folder: self._sealed(folder, lambda _, folder: _linked(folder / "train.bin", self.sound))
        for name in (MANIFEST, "train.bin", "tokenizer.json"):
            yield (
                f"a whole cache with a pipe for {name}",
                lambda folder, name=name: self._cache(folder, name, os.mkfifo),
            )
            yield (
                f"a whole cache with nothing for {name}",
                lambda folder, name=name: self._cache(folder, name, Path.touch),
            )

    def _beside(self, folder: Path, make: Make, name: str) -> Read:
        shutil.copytree(self.sound, folder, dirs_exist_ok=True)
        (folder / name).unlink()
        return make(folder)

    def _cache(self, folder: Path, name: str, put: Callable[[Path], object]) -> Read:
        """A whole cache, one of whose files is something else."""
        shutil.copytree(self.cache, folder / "cache")
        for path in list((folder / "cache").rglob(name)):
            path.unlink()
            put(path)
        return lambda: self.trained_on(folder / "cache")

    def drawn(self, rng: random.Random, folder: Path) -> Read:
        kind = rng.randrange(10)
        if kind < 5:
            return self._sealed(folder, lambda manifest, _: _mutate_in_place(rng, manifest))
        if kind < 8:
            name = rng.choice(("train.bin", "validation.bin"))
            return self._sealed(folder, lambda manifest, path: _mutate_shard(rng, manifest, path / name))
        if kind == 8:
            shutil.copytree(self.sound, folder / "s")
            tree = mutated_tree(rng, self.manifest)
            raw = spelled(rng, tree) if rng.random() < 0.5 else mutated_bytes(rng, json.dumps(tree).encode())
            (folder / "s" / MANIFEST).write_bytes(raw)
            return lambda: self.opened(folder / "s")
        shutil.copytree(self.cache, folder / "cache")
        path = rng.choice([path for path in (folder / "cache").rglob("*") if path.is_file() and path.stat().st_size])
        path.write_bytes(mutated_bytes(rng, path.read_bytes()))
        return lambda: self.trained_on(folder / "cache")


def _with_id(path: Path, place: int, value: int) -> None:
    tokens = np.fromfile(path, "<u2")
    tokens[place] = value
    tokens.tofile(path)


def _with_answers(manifest: dict, folder: Path) -> None:
    for split in ("train", "validation"):
        (folder / f"{split}.answers.bin").write_bytes(b"\x07" * manifest[split]["tokens"])
        manifest["files"][f"{split}.answers.bin"] = {}


def _with_a_pipe(manifest: dict, folder: Path) -> None:
    os.mkfifo(folder / "train.answers.bin")
    manifest["files"]["train.answers.bin"] = {"bytes": 0, "sha256": "0" * 64}


def _linked(path: Path, sound: Path) -> None:
    path.unlink()
    path.symlink_to(sound / path.name)


def _mutate_in_place(rng: random.Random, manifest: dict) -> None:
    changed = mutated_tree(rng, manifest)
    manifest.clear()
    manifest.update(changed if isinstance(changed, dict) else {"": changed})


def _mutate_shard(rng: random.Random, manifest: dict, path: Path) -> None:
    path.write_bytes(mutated_bytes(rng, path.read_bytes()))
    if rng.random() < 0.7:  # a liar who counts
        split, tokens = path.stem, path.stat().st_size // 2
        for facts in (manifest[split], manifest["parts"][""][split]):
            facts["tokens"] = tokens
            if rng.random() < 0.5:
                count = int((np.frombuffer(path.read_bytes()[: 2 * tokens], "<u2") == manifest["separator"]).sum())
                facts["documents"] = count
