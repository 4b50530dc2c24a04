"""Sources that are made of others: a mixture of several, and one without the text that a study reports on."""

import math
from collections.abc import Iterator
from itertools import chain, islice

from atomiclm.data.order import BLOCK_SAMPLES
from atomiclm.data.source import (
    CorpusSource,
    Document,
    SourcePart,
    TextSource,
    document_bytes,
    hash_number,
    training_characters,
)


class Mixture(CorpusSource):
    """Named sources, each a given share of what training sees.

    sources: any sources by name, mixtures among them
    weights: by the same names, positive; a source's share of the training tokens is its weight over their sum

    Each source is split by its own rule and gone through in epochs of its own, in its own order: one with much text
    and little weight may not be seen whole while another is repeated. Every sample is of one source (`MixedDataset`).
    The tokenizer is trained on text of all, see `tokenizer_text`. Validation gives bits per byte of each source, and
    of the whole: all bits over all bytes, so sources count by their validation bytes there, not by their weights.
    """

    def __init__(self, sources: dict[str, CorpusSource], weights: dict[str, float]) -> None:
        if not sources:
            raise ValueError("sources: is empty; name at least one, e.g. data.sources.mine._target_=...")
        for name, source in sources.items():
            if not isinstance(source, CorpusSource):
                rule = "is not a source of text; give a node with a _target_ of atomiclm.data"
                raise ValueError(f"sources.{name}: {rule}")
        if set(weights) != set(sources):
            raise ValueError(
                f"weights: names {', '.join(sorted(weights)) or 'nothing'}, the sources are "
                f"{', '.join(sorted(sources))}; give each source one weight"
            )
        for name, weight in weights.items():
            if not (0.0 < weight < math.inf):
                rule = "is not positive and finite; remove the source to leave it out"
                raise ValueError(f"weights.{name}: {weight} {rule}")
        self.sources = sources
        self.shares = {name: weights[name] / sum(weights.values()) for name in sources}
        for part in self.parts():
            if part.weight * BLOCK_SAMPLES < 2:
                raise ValueError(
                    f"weights: {part.name} has {part.weight:.2g} of the samples; give it at least "
                    f"{2 / BLOCK_SAMPLES:.1e} of all, or remove the source"
                )

    def describe(self) -> str:
        return "; ".join(
            f"{self.shares[name]:.1%} {name}: {source.describe()}" for name, source in self.sources.items()
        )

    def faults(self) -> list[tuple[str, str]]:
        return [
            (f"sources.{name}.{argument}", message)
            for name, source in self.sources.items()
            for argument, message in source.faults()
        ]

    def parts(self) -> tuple[SourcePart, ...]:
        """The sources of all, those of a mixture inside this one as name/name."""
        return tuple(
            SourcePart(
                f"{name}/{part.name}" if part.name else name,
                self.shares[name] * part.weight,
                part.source,
                f"sources.{name}.{part.prefix}",
            )
            for name, source in self.sources.items()
            for part in source.parts()
        )


class DevSplit(TextSource):
    """Another source without its validation text, and with some of its training text held out in its place.

    A learning rate chosen by the validation loss flatters the arm it is chosen for, so trials see the corpus through
    this. Documents are chosen by their hash number h, with v = source.validation_fraction: h < v is gone,
    v <= h < v + fraction (1 - v) is held out. Of a single document, the training part is the document, and the last
    v + fraction (1 - v) of that is held out.

    source: the corpus that the study reports on; not a mixture, whose sources are each wrapped by themselves
    fraction: share of its training documents held out, strictly between 0 and 1
    """

    def __init__(self, source: TextSource, fraction: float = 0.04) -> None:
        if not 0.0 < fraction < 1.0:
            raise ValueError(f"fraction={fraction} must lie strictly between 0 and 1; 0.04 holds out 4 % of the rest")
        taken = source.validation_fraction
        super().__init__(taken + fraction * (1 - taken))
        self.source = source
        self.fraction = fraction
        self.has_answers = source.has_answers
        self.answers_only = source.answers_only

    def describe(self) -> str:
        return f"training text of {self.source.describe()}"

    def source_faults(self) -> list[tuple[str, str]]:
        return [(f"source.{argument}", message) for argument, message in self.source.faults()]

    def stamp(self) -> str | None:
        stamp = self.source.stamp()
        return None if stamp is None else f"dev {self.source.validation_fraction} {self.fraction} {stamp}"

    def anchors(self) -> dict[str, float]:
        return self.source.anchors()  # what is known of the source holds of any part of it

    def documents(self) -> Iterator[Document]:
        documents = self.source.documents()
        taken = self.source.validation_fraction
        first = list(islice(documents, 2))
        if len(first) == 1:
            text = first[0].text
            yield Document(first[0].name, text[: training_characters(len(text), taken)])
        else:
            for document in chain(first, documents):
                if hash_number(document_bytes(document)) >= taken:
                    yield document
        self.left_out = self.source.left_out
