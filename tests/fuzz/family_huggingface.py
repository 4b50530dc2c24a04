"""Folders that look like models of Hugging Face: configurations, indexes, safetensors, and pickles planted beside."""

import json
import pickle
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
from fuzz.family import Family, Make, Read, anything
from fuzz.hostile import Canary
from fuzz.mutate import VALUES, mutated_bytes, mutated_tree, spelled

from atomiclm.interop import load_huggingface, save_huggingface
from atomiclm.model import (
    Decoder,
    FeedForward,
    LayerNorm,
    LearnedPosition,
    MixtureOfExperts,
    MultiHeadAttention,
)

SIZES = {"vocab_size": 20, "dim": 8, "num_layers": 2, "context_length": 16}
HEADS = partial(MultiHeadAttention, num_heads=2, num_kv_heads=1)
INDEX = "model.safetensors.index.json"


def loaded(folder: Path) -> None:
    """Load it, and let it say something."""
    model, _ = load_huggingface(folder)
    tokens = torch.arange(min(4, model.vocab_size, model.context_length))[None]
    with torch.no_grad():
        model(tokens)


class HuggingFaceFolders(Family):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        models = {
            "llama": Decoder(**SIZES, attention=HEADS),
            "gpt2": Decoder(
                **SIZES, attention=partial(MultiHeadAttention, num_heads=2, bias=True), norm=LayerNorm,
                feedforward=partial(FeedForward, activation="gelu_tanh", bias=True), position=LearnedPosition,
            ),
            "experts": Decoder(
                **SIZES, attention=HEADS, feedforward=partial(MixtureOfExperts, num_experts=3, experts_per_token=2)
            ),
        }  # fmt: skip
        self.sound = []
        for name, model in models.items():
            save_huggingface(model, folder / name)
            loaded(folder / name)
            self.sound.append(folder / name)
        # Every key of every architecture, so that mutations reach readers that the three do not.
        self.keys = sorted({key for path in self.sound for key in json.loads((path / "config.json").read_text())})

    def _changed(self, folder: Path, change: Callable[[Path], object], number: int = 0) -> Read:
        shutil.copytree(self.sound[number], folder, dirs_exist_ok=True)
        for name in ("pytorch_model.bin", "model.pt", "training_args.bin", "modeling_llama.py", "optimizer.pt"):
            (folder / name).write_bytes(pickle.dumps(Canary()))
        change(folder)
        return lambda: loaded(folder)

    def shaped(self) -> Iterator[tuple[str, Make]]:
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            for what, make in anything(name, lambda path: loaded(path.parent)):
                yield what, lambda folder, make=make, name=name: self._instead(folder, make, name)
        for what, make in anything(INDEX, lambda path: loaded(path.parent)):
            yield what, lambda folder, make=make: self._instead(folder, make, "model.safetensors")
        for number in range(len(self.sound)):
            for key in self.keys:
                for place, value in enumerate((*VALUES[:22], "x", [], {}, 10**9, 10**18, 1.5)):
                    yield (
                        f"{number} {key} is {place}",
                        lambda folder, number=number, key=key, value=value: self._changed(
                            folder, lambda path: _set(path, **{key: value}), number
                        ),
                    )
        for name in (
            "../model.safetensors",
            "/etc/passwd",
            "..",
            "a/b",
            "pytorch_model.bin",
            "\x1b[2J",
            "a\x00",
            "",
            None,
            3,
        ):
            yield f"index of {name!r}", lambda folder, name=name: self._changed(folder, lambda path: _index(path, name))
        yield "weights elsewhere", lambda folder: self._changed(
            folder, lambda path: (path.joinpath("model.safetensors").unlink(),
                                  path.joinpath("model.safetensors").symlink_to(self.sound[1] / "model.safetensors"))
        )  # fmt: skip
        for kind in ("int64", "bool", "complex64", "float8_e4m3fn", "float64", "float16", "uint8"):
            yield f"weights of {kind}", lambda folder, kind=kind: self._changed(folder, lambda path: _cast(path, kind))
        yield "the same tensor in two files", lambda folder: self._changed(folder, _twice)
        huge = {"num_hidden_layers": 10**9, "hidden_size": 1 << 20, "vocab_size": 1 << 22, "intermediate_size": 1 << 23}
        for key in (*huge, None):
            chosen = huge if key is None else {key: huge[key]}
            yield f"huge {key}", lambda folder, chosen=chosen: self._changed(folder, lambda path: _set(path, **chosen))
        for key, value in (
            ("max_position_embeddings", 1 << 24),
            ("num_hidden_layers", 21),
            ("num_attention_heads", 1 << 14),
        ):
            yield (
                f"large {key}",
                lambda folder, key=key, value=value: self._changed(folder, lambda path: _set(path, **{key: value})),
            )
        yield (
            "experts without end",
            lambda folder: self._changed(
                folder, lambda path: _set(path, num_local_experts=1 << 14, num_experts=1 << 14), 2
            ),
        )

    def _instead(self, folder: Path, make: Make, name: str) -> Read:
        self._changed(folder, lambda path: (path / name).unlink(missing_ok=True))
        return make(folder)

    def drawn(self, rng: random.Random, folder: Path) -> Read:
        number = rng.randrange(len(self.sound))
        match rng.randrange(6):
            case 0 | 1 | 2:
                tree = mutated_tree(rng, json.loads((self.sound[number] / "config.json").read_text()))
                if rng.random() < 0.3 and isinstance(tree, dict):
                    tree["model_type"] = rng.choice(
                        ("qwen2", "qwen3", "gemma2", "mistral", "olmo2", "granite", "smollm3")
                    )
                return self._changed(
                    folder, lambda path: (path / "config.json").write_bytes(spelled(rng, tree)), number
                )
            case 3:
                return self._changed(folder, partial(_mutate_header, rng), number)
            case 4:
                return self._changed(folder, partial(_mutate_data, rng), number)
        return self._changed(folder, partial(_mutate_index, rng), number)


def _set(folder: Path, **keys: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | keys
    (folder / "config.json").write_text(json.dumps(config))


def _index(folder: Path, name: object) -> None:
    (folder / "model.safetensors").unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))


def _cast(folder: Path, kind: str) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    cast = {name: tensor.to(getattr(torch, kind)) for name, tensor in tensors.items()}
    safetensors.torch.save_file(cast, folder / "model.safetensors")


def _twice(folder: Path) -> None:
    for number in (1, 2):
        shutil.copy(folder / "model.safetensors", folder / f"{number}.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))


def header_of(data: bytes) -> tuple[dict, bytes]:
    """The header of a safetensors file, and what follows it."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def mutated_safetensors(rng: random.Random, data: bytes) -> bytes:
    """With another header, which may lie about its own length."""
    header, rest = header_of(data)
    raw = spelled(rng, mutated_tree(rng, header))
    length = len(raw) if rng.random() < 0.9 else rng.choice((0, len(raw) + 1, len(raw) - 1, 2**40, 2**63))
    return struct.pack("<Q", length) + raw + (rest if rng.random() < 0.8 else rest[: rng.randrange(len(rest))])


def _mutate_header(rng: random.Random, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(mutated_safetensors(rng, path.read_bytes()))


def _mutate_data(rng: random.Random, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(mutated_bytes(rng, path.read_bytes()))


def _mutate_index(rng: random.Random, folder: Path) -> None:
    path = folder / "model.safetensors"
    names = list(header_of(path.read_bytes())[0])
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "1.safetensors")}
    path.rename(folder / "1.safetensors")
    (folder / INDEX).write_bytes(spelled(rng, mutated_tree(rng, index)))
