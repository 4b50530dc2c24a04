"""A part of the training text to choose settings on, so that the validation text is looked at only to report."""

from collections.abc import Iterator
from itertools import chain, islice

from atomiclm.data.source import Document, TextSource
from atomiclm.data.split import document_bytes, hash_number


class DevSplit(TextSource):
    """Another source without its validation text, and with some of its training text held out in its place.

    A learning rate chosen by the validation loss flatters the arm it is chosen for. Trials therefore see the corpus
    through this: what `source` holds out is not there at all, neither to train on nor to be scored on, and of the rest
    `fraction` is held out. Documents are chosen by the number of their hash as ever (see `split`): below
    `source.validation_fraction` they are gone, up to v + fraction (1 - v) they are the dev split. Of a document alone,
    the training part is the document, and the last v + fraction (1 - v) of that is held out.

    source: the corpus that the study reports on; not a mixture, whose sources are each wrapped by themselves
    fraction: share of its training documents held out, strictly between 0 and 1
    """

    def __init__(self, source: TextSource, fraction: float = 0.04) -> None:
        if not 0.0 < fraction < 1.0:
            raise ValueError(f"fraction={fraction} must lie strictly between 0 and 1")
        taken = source.validation_fraction
        super().__init__(taken + fraction * (1 - taken))
        self.source = source
        self.fraction = fraction
        self.has_answers = source.has_answers
        self.answers_only = source.answers_only

    def describe(self) -> str:
        """The source, and that its validation text is left out."""
        return f"training text of {self.source.describe()}"

    def source_faults(self) -> list[tuple[str, str]]:
        """Those of the source."""
        return [(f"source.{argument}", message) for argument, message in self.source.faults()]

    def stamp(self) -> str | None:
        """The source's, and where it is cut."""
        stamp = self.source.stamp()
        return None if stamp is None else f"dev {self.source.validation_fraction} {self.fraction} {stamp}"

    def anchors(self) -> dict[str, float]:
        """What is known of the source holds of any part of it."""
        return self.source.anchors()

    def documents(self) -> Iterator[Document]:
        """The documents that `source` trains on."""
        documents = self.source.documents()
        taken = self.source.validation_fraction
        first = list(islice(documents, 2))
        if len(first) == 1:
            text = first[0].text
            yield Document(first[0].name, text[: int(len(text) * (1 - taken))])
        else:
            for document in chain(first, documents):
                if hash_number(document_bytes(document)) >= taken:
                    yield document
        self.left_out = self.source.left_out
