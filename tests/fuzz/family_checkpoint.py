"""Checkpoints by somebody who computes the hashes anew: what the manifest vouches for may still be anything."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
from fuzz.family import Family, Make, Read, anything
from fuzz.family_huggingface import mutated_safetensors
from fuzz.mutate import VALUES, mutated_bytes, mutated_tree, spelled
from small_run import dataset, fresh_state, runtime, schedule, trainer

from atomiclm.training import TrainState, checkpoint
from atomiclm.training.checkpoint import FILES, MANIFEST, MODEL, OPTIMIZER, STATE, fingerprint, manifest_sha256

NAME = "step_00000002"


def opened(folder: Path) -> None:
    """Every way a checkpoint is read: for its facts, for its weights, and to go on from it."""
    path = folder / NAME
    checkpoint.read_manifest(path)
    checkpoint.read_model(path)
    checkpoint.read(path)
    state = fresh_state()
    checkpoint.resume(state, folder, lambda text: None)
    assert state.step == 2


class Checkpoints(Family):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        trained: TrainState = fresh_state()
        trainer(4).fit(trained, dataset(), schedule(), runtime(), stop_requested=lambda: trained.step >= 2)
        checkpoint.write(checkpoint.Snapshot.take(trained), folder / "run")
        self.sound = folder / "run"
        self.manifest = json.loads((self.sound / NAME / MANIFEST).read_text())
        self.state = json.loads((self.sound / NAME / STATE).read_text())
        shutil.copytree(self.sound, folder / "copy")
        opened(folder / "copy")

    def _changed(self, folder: Path, change: Callable[[Path], object], seal: bool = True) -> Read:
        """The sound checkpoint after `change`, with a manifest that vouches for what the change left there."""
        shutil.copytree(self.sound, folder, dirs_exist_ok=True)
        change(folder / NAME)
        if seal:
            manifest = json.loads((folder / NAME / MANIFEST).read_text())
            for name in FILES:
                if os.path.isfile(folder / NAME / name) and (folder / NAME / name).stat().st_size < 1 << 27:
                    manifest["files"][name] = fingerprint((folder / NAME / name).read_bytes())
                else:
                    manifest["files"][name] = fingerprint(b"")
            _seal(folder / NAME, manifest)
        return lambda: opened(folder)

    def shaped(self) -> Iterator[tuple[str, Make]]:
        for what, make in anything(f"{NAME}/{MANIFEST}", lambda path: opened(path.parents[1])):
            yield what, lambda folder, make=make: self._instead(folder, make)
        for name in FILES:
            for what, make in anything(name, lambda path: None):
                yield what, lambda folder, make=make, name=name: self._changed(folder, partial(_put, make, name))
        for key in (*self.state, "extra"):
            for number, value in enumerate(VALUES):
                tree = self.state | {key: value}
                yield (
                    f"state {key} is {number}",
                    lambda folder, tree=tree: self._changed(folder, partial(_write, STATE, tree)),
                )
        for key in (*self.manifest, "extra"):
            for number, value in enumerate(VALUES):
                tree = self.manifest | {key: value}
                yield (
                    f"manifest {key} is {number}",
                    lambda folder, tree=tree: self._changed(folder, partial(_write, MANIFEST, tree), seal=False),
                )
        for name in (MODEL, OPTIMIZER):
            for kind in ("int64", "bool", "complex64", "float64", "float16", "uint8"):
                yield (
                    f"{name} of {kind}",
                    lambda folder, name=name, kind=kind: self._changed(folder, partial(_cast, name, kind)),
                )

    def _instead(self, folder: Path, make: Make) -> Read:
        self._changed(folder, lambda path: (path / MANIFEST).unlink(), seal=False)
        return make(folder)

    def drawn(self, rng: random.Random, folder: Path) -> Read:
        name = rng.choice((MODEL, OPTIMIZER, OPTIMIZER))
        match rng.randrange(5):
            case 0 | 1:
                return self._changed(
                    folder, lambda path: (path / STATE).write_bytes(spelled(rng, mutated_tree(rng, self.state)))
                )
            case 2:
                tree = mutated_tree(rng, self.manifest)
                raw = None if isinstance(tree, dict) and rng.random() < 0.8 else spelled(rng, tree)
                return self._changed(folder, partial(_seal, manifest=tree, raw=raw), seal=False)
            case 3:
                change = partial(_mutate, rng, name, mutated_safetensors)
            case _:
                change = partial(_mutate, rng, rng.choice(FILES), mutated_bytes)
        return self._changed(folder, change)


def _seal(path: Path, manifest: dict, raw: bytes | None = None) -> None:
    """Write the manifest with the hash of itself, or else these bytes."""
    if raw is None:
        try:
            raw = json.dumps(manifest | {"sha256": manifest_sha256(manifest)}).encode()
        except (ValueError, TypeError):  # what nobody can hash, such as half a surrogate pair
            raw = json.dumps(manifest).encode()
    (path / MANIFEST).write_bytes(raw)


def _put(make: Make, name: str, path: Path) -> None:
    (path / name).unlink()
    make(path)


def _write(name: str, tree: object, path: Path) -> None:
    (path / name).write_text(json.dumps(tree))


def _cast(name: str, kind: str, path: Path) -> None:
    tensors = safetensors.torch.load_file(path / name)
    safetensors.torch.save_file({each: t.to(getattr(torch, kind)) for each, t in tensors.items()}, path / name)


def _mutate(rng: random.Random, name: str, change: Callable[[random.Random, bytes], bytes], path: Path) -> None:
    (path / name).write_bytes(change(rng, (path / name).read_bytes()))
