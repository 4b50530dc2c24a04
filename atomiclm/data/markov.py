"""A source whose entropy is known: no model can do better, a good one comes close."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from atomiclm.data.source import Document
from atomiclm.data.synthetic import SYMBOLS, Draws, SyntheticSource, check_symbols

MAX_CONTEXTS = 1024  # of which the stationary distribution is solved for, a dense matrix of their square
DOCUMENTS_AT_ONCE = 256


@dataclass(eq=False, repr=False)
class Markov(SyntheticSource):
    """A random Markov chain over num_symbols bytes: P(next symbol | the last `order` symbols).

    order: symbols that the next one depends on, at least 1
    num_symbols: different symbols; num_symbols ** order contexts, at most 1024
    sharpness: how certain the next symbol is. The row of each context is p_i = e_i^sharpness / sum_j e_j^sharpness with
        independent e_i from the exponential distribution: at 1 all rows are equally likely (uniform on the simplex),
        towards 0 every symbol is, above 1 rows come closer to naming one symbol. Above 0, at most 4
    num_documents, document_bytes: how many chains are run, and how long each is; at least `order` + 1 bytes
    seed: which transition matrix, and which chains
    validation_fraction: share of the documents held out

    With pi the stationary distribution of contexts, pi = pi T, the entropy rate is (Shannon 1948)

        H = - sum_c pi(c) sum_x P(x | c) log2 P(x | c)    bits per byte,

    the anchor "entropy". The first `order` symbols of a document are drawn from pi, so every position of every document
    is in equilibrium. Held against it, a model pays a little more at the start of each window and document, where it
    has not seen `order` symbols, and the end of a document (not charged) takes probability from the last symbols.
    """

    order: int = 1
    num_symbols: int = 16
    sharpness: float = 2.0
    num_documents: int = 2000
    document_bytes: int = 512
    seed: int = 0
    validation_fraction: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        order, symbols = self.order, self.num_symbols
        check_symbols("num_symbols", symbols)
        if order > 64:  # their number alone would take long to compute
            raise ValueError(f"order: {order} makes more than {MAX_CONTEXTS} contexts; give at most 10")
        if order < 1 or symbols**order > MAX_CONTEXTS:
            raise ValueError(
                f"order: {order} with {symbols} symbols makes {symbols ** max(order, 0)} contexts; "
                f"give an order of at least 1 and at most {MAX_CONTEXTS} contexts"
            )
        if not 0.0 < self.sharpness <= 4.0:
            raise ValueError(f"sharpness: {self.sharpness} is not above 0 and at most 4")
        if self.document_bytes <= order:
            raise ValueError(
                f"document_bytes: {self.document_bytes} bytes are all context, order is {order}; give more"
            )

    @cached_property
    def transition(self) -> npt.NDArray[np.float64]:
        """P (contexts, num_symbols): a context is its symbols as digits of a number, the latest one last."""
        contexts = self.num_symbols**self.order
        draws = Draws("Markov transition", self.seed).uniform(contexts * self.num_symbols)
        weights = (-np.log1p(-draws)).reshape(contexts, self.num_symbols) ** self.sharpness
        probabilities: npt.NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
        return probabilities

    @cached_property
    def stationary(self) -> npt.NDArray[np.float64]:
        """Pi (contexts,), the only distribution that the chain leaves as it is: every symbol can follow everywhere."""
        contexts = len(self.transition)
        step = np.zeros((contexts, contexts))
        rows = np.repeat(np.arange(contexts), self.num_symbols)
        following = (rows * self.num_symbols + np.tile(np.arange(self.num_symbols), contexts)) % contexts
        np.add.at(step, (rows, following), self.transition.ravel())
        equations = step.T - np.eye(contexts)
        equations[-1] = 1.0  # one of them follows from the others; that all add up to 1 does not
        found = np.clip(np.linalg.solve(equations, np.eye(contexts)[-1]), 0.0, None)
        assert np.abs(found @ step - found).max() < 1e-9, "the stationary distribution is stationary"
        return found / found.sum()

    @property
    def entropy_bits(self) -> float:
        """H above, in bits per symbol, which is bits per byte."""
        logs = np.log2(self.transition, out=np.zeros_like(self.transition), where=self.transition > 0)
        return float(-(self.stationary[:, None] * self.transition * logs).sum())

    def anchors(self) -> dict[str, float]:
        return {"entropy": self.entropy_bits}

    def documents(self) -> Iterator[Document]:
        symbols = np.frombuffer(SYMBOLS.encode(), dtype=np.uint8)
        cumulative = self.transition.cumsum(axis=1)[:, :-1]  # what is above the last border is the last symbol
        starts = self.stationary.cumsum()[:-1]
        contexts = len(self.transition)
        for first in range(0, self.num_documents, DOCUMENTS_AT_ONCE):
            numbers = range(first, min(first + DOCUMENTS_AT_ONCE, self.num_documents))
            steps = self.document_bytes - self.order + 1
            draws = np.stack([Draws("Markov", self.seed, number).uniform(steps) for number in numbers])
            context = np.searchsorted(starts, draws[:, 0], side="right")
            chosen = np.empty((len(numbers), self.document_bytes), dtype=np.int64)
            for position in range(self.order):
                chosen[:, position] = context // self.num_symbols ** (self.order - 1 - position) % self.num_symbols
            for position in range(self.order, self.document_bytes):
                draw = draws[:, position - self.order + 1, None]
                chosen[:, position] = (cumulative[context] <= draw).sum(axis=1)
                context = (context * self.num_symbols + chosen[:, position]) % contexts
            for number, row in zip(numbers, symbols[chosen], strict=True):
                yield Document(f"Markov {number}", row.tobytes().decode())
