"""What a text source is: documents in a fixed order, quick checks, and a stamp that tells whether anything changed."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from atomiclm.cli import UserError


@dataclass(frozen=True, slots=True)
class Document:
    """One self-contained text: a file, a row, a page.

    name: for messages only; it decides nothing
    answers: (first, past the last) UTF-8 byte of each stretch that answers what the text before it asks; in order
    """

    name: str
    text: str
    answers: tuple[tuple[int, int], ...] = ()


class SourceError(UserError):
    """A fault in the text someone pointed at: `argument` is the constructor argument to change."""

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(f"{argument}: {message}")
        self.argument = argument
        self.message = message


class NotUtf8Error(SourceError):
    """Text in another encoding than UTF-8."""


class CorpusSource(ABC):
    """What a corpus is made of: one text source, or a mixture of several."""

    @abstractmethod
    def describe(self) -> str:
        """One line for people."""

    @abstractmethod
    def faults(self) -> list[tuple[str, str]]:
        """(constructor argument, message) for every fault that a quick look finds. Writes nothing."""

    @abstractmethod
    def parts(self) -> tuple["SourcePart", ...]:
        """The text sources and their weights, in a fixed order."""


class TextSource(CorpusSource):
    """A corpus of one source. Subclasses name where the text is; `prepare` splits, tokenizes and stores it.

    validation_fraction: share of the corpus held out for validation, strictly between 0 and 1
    """

    validation_fraction: float
    left_out: int = 0  # documents that the last complete pass of `documents()` passed over, by the source's own rule
    has_answers: bool = False  # whether its documents say which of their bytes are answers
    answers_only: bool = False  # whether only these count as training targets

    def __init__(self, validation_fraction: float) -> None:
        self.validation_fraction = validation_fraction

    def parts(self) -> tuple["SourcePart", ...]:
        return (SourcePart("", 1.0, self, ""),)

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """The documents, in the same order each time, none empty. Raises SourceError when one cannot be read."""

    def source_faults(self) -> list[tuple[str, str]]:
        """What `faults` reports beyond the validation fraction; by default nothing."""
        return []

    def faults(self) -> list[tuple[str, str]]:
        return fraction_faults(self.validation_fraction) + self.source_faults()

    def stamp(self) -> str | None:
        """A text that changes whenever the documents may have changed, found without reading them; None: read them."""
        return None

    def anchors(self) -> dict[str, float]:
        """What is known of the source without looking at its text, in bits per byte, by name; by default nothing."""
        return {}


@dataclass(frozen=True, slots=True)
class SourcePart:
    """One text source of a corpus.

    name: what the mixture calls it; "" alone
    weight: share of the training samples; those of a corpus add up to 1
    prefix: what stands before the source's own arguments in the path of a setting
    """

    name: str
    weight: float
    source: TextSource
    prefix: str


def fraction_faults(validation_fraction: float) -> list[tuple[str, str]]:
    """The fault of a validation fraction outside (0, 1), if it is."""
    if 0.0 < validation_fraction < 1.0:
        return []
    return [
        (
            "validation_fraction",
            f"must lie strictly between 0 and 1, it is {validation_fraction}; 0.1 holds out a tenth of the corpus",
        )
    ]
