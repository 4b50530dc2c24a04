"""What a family of inputs is: files of one kind, and the reader that they are put before."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

from fuzz.hostile import everything

type Read = Callable[[], object]
type Make = Callable[[Path], Read]
"""Writes an input into an empty folder, and returns what reads it."""


class Family(ABC):
    """Inputs of one kind. Constructing it loads what its reader needs, and reads a valid file, so that this is done.

    folder: for files that inputs are made of
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def shaped(self) -> Iterator[tuple[str, Make]]:
        """Inputs that somebody thought of, by name."""

    @abstractmethod
    def drawn(self, rng: random.Random, folder: Path) -> Read:
        """An input that nobody thought of, in `folder`."""


def anything(name: str, read: Callable[[Path], object]) -> Iterator[tuple[str, Make]]:
    """Every hostile file of `hostile.py` under that name, before that reader."""

    def make(folder: Path, put: Callable[[Path], object]) -> Read:
        put(folder / name)
        return lambda: read(folder / name)

    for what, put in everything():
        yield f"{name}: {what}", lambda folder, put=put: make(folder, put)


def written(name: str, data: bytes, read: Callable[[Path], object]) -> Make:
    """The input that is one file."""

    def make(folder: Path) -> Read:
        (folder / name).write_bytes(data)
        return lambda: read(folder / name)

    return make
