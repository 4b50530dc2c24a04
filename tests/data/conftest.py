"""A tokenizer of our own for the tests of the data package: one id a byte, and it remembers what it was trained on."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from atomiclm.data import END_OF_TEXT


class ByteTokenizer:
    """What `atomiclm.data` asks of a tokenizer, and no more. `lossy` drops line feeds, to see that it is noticed."""

    def __init__(self, name="bytes", special_tokens=(END_OF_TEXT,), lossy=False):
        self.name = name
        self.specials = list(special_tokens)
        self.lossy = lossy
        self.trained_on = None

    @property
    def vocab_size(self):
        return 256 + len(self.specials)

    @property
    def special_tokens(self):
        return {text: 256 + index for index, text in enumerate(self.specials)}

    def settings(self):
        return {"name": self.name, "special_tokens": self.specials, "lossy": self.lossy}

    def digest(self):
        return hashlib.sha256(json.dumps([self.settings(), self.trained_on]).encode()).hexdigest()

    def train_from_iterator(self, chunks, num_bytes=None):
        self.trained_on = "".join(chunks)

    def encode_arrays(self, texts):
        rows = [np.frombuffer(text, np.uint8).astype(np.uint32) for text in texts]
        return [row[row != 10] if self.lossy else row for row in rows]

    def decode_bytes(self, ids):
        return bytes(ids)

    def token_bytes(self):
        return [1] * 256 + [0] * len(self.specials)

    def save(self, path):
        Path(path).write_text(json.dumps([self.settings(), self.trained_on]), encoding="utf-8")

    @classmethod
    def load(cls, path):
        settings, trained_on = json.loads(Path(path).read_text(encoding="utf-8"))
        loaded = cls(**settings)
        loaded.trained_on = trained_on
        return loaded


@pytest.fixture
def byte_tokenizer():
    """The class, to be called with other settings where a test wants them."""
    return ByteTokenizer


@pytest.fixture
def corpus_folder(tmp_path):
    """Forty small documents that differ."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(40):
        text = f"document {number}\n" + "the quick brown fox\n" * number
        (folder / f"{number:02}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def stages():
    """A progress callback that keeps what it was told."""

    class Stages(list):
        def __call__(self, stage, done_bytes, total_bytes):
            self.append((stage, done_bytes, total_bytes))

        def names(self):
            return list(dict.fromkeys(stage for stage, _, _ in self))

    return Stages()
