"""What a model is fed: a batch of token rows, and where batches come from."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.unsignedinteger[Any]]
Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of tokens and what should follow each of them.

    inputs: (batch, time) int64
    targets: (batch, time) int64, the token after each input
    mask: (batch, time) bool, True where the target counts; None: all count
    documents: (batch, time) int64, inputs of one row with equal ids may attend to each other, and positions count
        from the first of them; None: each row is one document
    """

    inputs: Ids
    targets: Ids
    mask: Flags | None = None
    documents: Ids | None = None


class Dataset(ABC):
    """Training samples in a fixed sequence: a pure function of the index, so that resuming needs the step alone.

    context_length: tokens a sample feeds to the model
    """

    context_length: int

    @abstractmethod
    def samples(self, first_index: int, count: int) -> Batch:
        """Samples first_index, first_index + 1, ... (count of them), one a row."""

    def facts(self) -> dict[str, float]:
        """Figures worth reporting of how the corpus was cut into rows; by default none."""
        return {}

    def batch(self, step: int, batch_size: int) -> Batch:
        """Samples step * batch_size and following. Steps count from 0.

        The samples of step s at batch size 2 B are those of steps 2 s and 2 s + 1 at B.
        """
        return self.samples(step * batch_size, batch_size)

    def batches(self, batch_size: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of first_step, first_step + 1, ... without end."""
        return (self.batch(step, batch_size) for step in itertools.count(first_step))


def document_ids(inputs: Ids, separator: int) -> Ids:
    """(batch, time) which document of its row each input lies in, counted at the separators that begin documents."""
    return np.cumsum(inputs == separator, axis=1, dtype=np.int64)
