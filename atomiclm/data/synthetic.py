"""Text that is computed, the same on every machine, with known answers (copying, recall, a pass key) or entropy."""

import hashlib
import inspect
import json
import string
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import batched
from typing import Any

import numpy as np
import numpy.typing as npt

from atomiclm.data.order import derived_uint64
from atomiclm.data.source import Document, TextSource

MAX_CONTEXTS = 1024  # of a Markov chain
GENERATOR = 1  # version of the text: to be raised when any source here writes another text for equal settings

MARK = "|"  # between what is asked and what answers it
SYMBOLS = string.ascii_letters + string.digits + "!#$%&()*+,-./:;<=>?@[]^_{}~"
"""One byte each, none of them MARK; a source of n symbols uses the first n."""
Answers = tuple[tuple[int, int], ...]  # as `Document.answers`


class SyntheticSource(TextSource):
    """Documents that a rule makes from a seed. Meant for tokenizer=bytes: a symbol is a byte is a token.

    num_documents: how many, at least 2; a share of validation_fraction is held out by a hash of their text
    seed: which documents; of its own, so that runs with other seeds train on the same text
    """

    seed: int
    num_documents: int

    def __post_init__(self) -> None:
        if self.num_documents < 2:
            raise ValueError(f"num_documents: {self.num_documents} cannot be split; give at least 2")

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def stamp(self) -> str | None:
        described = [GENERATOR, type(self).__qualname__, self._arguments()]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    def describe(self) -> str:
        arguments = (f"{name}={value}" for name, value in self._arguments().items())
        return f"{type(self).__name__}({', '.join(arguments)})"


class QuestionSource(SyntheticSource):
    """Documents that each hold a question and its answers.

    answers_only: whether training counts the answers alone, and not the rest, which nothing predicts
    """

    has_answers = True

    def documents(self) -> Iterator[Document]:
        for number in range(self.num_documents):
            text, answers = self.document(Draws(type(self).__name__, self.seed, number))
            yield Document(f"{type(self).__name__} {number}", text, answers)

    @abstractmethod
    def document(self, draws: "Draws") -> tuple[str, Answers]:
        """The text of one document and its answers."""


class Draws:
    """Random numbers that depend on `parts` alone: raw Philox-4x64 (Salmon et al., SC 2011), as NumPy promises its
    raw numbers, and not its distributions, for all versions.
    """

    def __init__(self, *parts: int | str) -> None:
        self._generator = np.random.Philox(key=derived_uint64(2, *parts))

    def uniform(self, count: int) -> npt.NDArray[np.float64]:
        """(count,) in [0, 1)."""
        return (self._generator.random_raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def below(self, bound: int, count: int) -> list[int]:
        """Numbers from 0 to bound - 1."""
        numbers: list[int] = (self.uniform(count) * bound).astype(np.int64).tolist()
        return numbers

    def distinct(self, bound: int, count: int) -> list[int]:
        """Different numbers from 0 to bound - 1, in random order."""
        numbers: list[int] = np.argsort(self.uniform(bound), kind="stable")[:count].tolist()
        return numbers


def check_symbols(name: str, count: int) -> None:
    """Raise ValueError when there are not that many symbols."""
    if not 2 <= count <= len(SYMBOLS):
        fix = "give at least 2" if count < 2 else "give fewer"
        raise ValueError(f"{name}: {count} is not between 2 and {len(SYMBOLS)}, the symbols of one byte; {fix}")


@dataclass(eq=False, repr=False)
class Copy(QuestionSource):
    """Random symbols, a mark, and the same symbols again: "qfza|qfza". The second copy is the answer.

    min_length, max_length: symbols to copy, their number drawn evenly between the two
    num_symbols: different symbols; without looking back the best accuracy is 1 / num_symbols
    num_documents, answers_only, seed, validation_fraction: see QuestionSource and SyntheticSource
    """

    min_length: int = 8
    max_length: int = 16
    num_symbols: int = 16
    num_documents: int = 20_000
    answers_only: bool = True
    seed: int = 0
    validation_fraction: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        check_symbols("num_symbols", self.num_symbols)
        if not 1 <= self.min_length <= self.max_length:
            rule = f"is not between 1 and max_length={self.max_length}; give one that is, or a larger max_length"
            raise ValueError(f"min_length: {self.min_length} {rule}")

    def document(self, draws: Draws) -> tuple[str, Answers]:
        length = self.min_length + draws.below(self.max_length - self.min_length + 1, 1)[0]
        word = "".join(SYMBOLS[symbol] for symbol in draws.below(self.num_symbols, length))
        return f"{word}{MARK}{word}", ((length + 1, 2 * length + 1),)


@dataclass(eq=False, repr=False)
class AssociativeRecall(QuestionSource):
    """Keys with values, a mark, and keys again, each to be followed by its value: "aXbYcZ|cZaX".

    num_pairs: keys of one document, all different, each with a value drawn from all
    num_queries: how many of them are asked for, in random order, each at most once; null = all
    num_keys, num_values: different keys and values there are; no symbol is both. Without looking back the best
        accuracy is 1 / num_values
    num_documents, answers_only, seed, validation_fraction: see QuestionSource and SyntheticSource

    Multi-query associative recall, MQAR (Arora et al. 2023, Zoology, arXiv 2312.04927). Departure: there, queries are
    spread over a longer sequence, at distances drawn from a power law; here they follow one another.
    """

    num_pairs: int = 8
    num_queries: int | None = None
    num_keys: int = 24
    num_values: int = 24
    num_documents: int = 20_000
    answers_only: bool = True
    seed: int = 0
    validation_fraction: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        pairs, keys, queries = self.num_pairs, self.num_keys, self.num_queries
        check_symbols("num_keys + num_values", keys + self.num_values)
        if self.num_values < 2:
            raise ValueError(f"num_values: {self.num_values} leaves nothing to recall; give at least 2")
        if not 1 <= pairs <= keys:
            rule = f"is not between 1 and num_keys={keys}; keys must differ, give fewer pairs or more keys"
            raise ValueError(f"num_pairs: {pairs} {rule}")
        if queries is not None and not 1 <= queries <= pairs:
            raise ValueError(f"num_queries: {queries} is not between 1 and num_pairs={pairs}; null asks for all")

    def document(self, draws: Draws) -> tuple[str, Answers]:
        keys = [SYMBOLS[key] for key in draws.distinct(self.num_keys, self.num_pairs)]
        values = [SYMBOLS[self.num_keys + value] for value in draws.below(self.num_values, self.num_pairs)]
        pairs = [key + value for key, value in zip(keys, values, strict=True)]
        asked = draws.distinct(self.num_pairs, self.num_pairs if self.num_queries is None else self.num_queries)
        first = 2 * self.num_pairs + len(MARK)
        answers = tuple((first + 2 * number + 1, first + 2 * number + 2) for number in range(len(asked)))
        return "".join(pairs) + MARK + "".join(pairs[pair] for pair in asked), answers


FILLER = (
    "The river runs to the sea.",
    "A cart goes up the hill.",
    "Rain falls on the roof.",
    "The lamp burns all night.",
    "Two birds sit on a wall.",
)
# The digits follow a sign, so that no common pretoken pattern joins them with a space.
NEEDLE = "The pass key is #{key}. Keep it in mind."
QUESTION = "What is the pass key? It is #"


@dataclass(eq=False, repr=False)
class Passkey(QuestionSource):
    """A number hidden in filler text, and asked for at the end.

    num_digits: of the pass key; without looking back the best accuracy is 1 / 10 a digit
    filler_sentences: sentences of about 25 bytes; the key stands before, after or between any two, evenly drawn
    num_documents, answers_only, seed, validation_fraction: see QuestionSource, SyntheticSource; any tokenizer will do

    Source: Mohtashami and Jaggi (2023), Landmark Attention, arXiv 2305.16300. The sentences are our own.
    """

    num_digits: int = 5
    filler_sentences: int = 4
    num_documents: int = 5000
    answers_only: bool = False
    seed: int = 0
    validation_fraction: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_digits < 1:
            raise ValueError(f"num_digits: {self.num_digits} is no key; give at least 1")
        if self.filler_sentences < 0:
            raise ValueError(f"filler_sentences: {self.filler_sentences} is negative; 0 hides the key in nothing")

    def document(self, draws: Draws) -> tuple[str, Answers]:
        key = "".join(map(str, draws.below(10, self.num_digits)))
        position, shift = draws.below(self.filler_sentences + 1, 1)[0], draws.below(len(FILLER), 1)[0]
        sentences = [FILLER[(shift + number) % len(FILLER)] for number in range(self.filler_sentences)]
        sentences.insert(position, NEEDLE.format(key=key))
        text = " ".join([*sentences, QUESTION])
        return f"{text}{key}.", ((len(text), len(text) + len(key)),)


@dataclass(eq=False, repr=False)
class Markov(SyntheticSource):
    """A random Markov chain over num_symbols bytes: P(next symbol | the last `order` symbols).

    order: symbols that the next one depends on, at least 1
    num_symbols: different symbols; num_symbols ** order contexts, at most 1024, as a dense matrix of them is solved
    sharpness: how certain the next symbol is. The row of each context is p_i = e_i^sharpness / sum_j e_j^sharpness with
        independent e_i from the exponential distribution: at 1 all rows are equally likely (uniform on the simplex),
        towards 0 every symbol is, above 1 rows come closer to naming one symbol. Above 0, at most 4
    num_documents, document_bytes: how many chains are run, and how long each is; at least `order` + 1 bytes
    seed: which transition matrix, and which chains

    With pi the stationary distribution of contexts, pi = pi T, the entropy rate is (Shannon 1948)

        H = - sum_c pi(c) sum_x P(x | c) log2 P(x | c)    bits per byte,

    the anchor "entropy". The first `order` symbols of a document are drawn from pi: every position is in equilibrium. A
    model pays a little more at the start of each window and document, where it has not seen `order` symbols.
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
            raise ValueError(f"sharpness: {self.sharpness} is not above 0 and at most 4; 2 is the default")
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
        found: npt.NDArray[np.float64] = np.clip(np.linalg.solve(equations, np.eye(contexts)[-1]), 0.0, None)
        assert np.abs(found @ step - found).max() < 1e-9, "the stationary distribution is stationary"
        return np.divide(found, found.sum())

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
        for numbers in batched(range(self.num_documents), 256):
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
