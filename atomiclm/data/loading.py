"""From a prepared corpus to its training batches."""

from collections.abc import Iterator

from atomiclm.data.batches import Batch, Dataset
from atomiclm.data.corpus import PreparedCorpus
from atomiclm.data.mixture import MixedDataset
from atomiclm.data.order import Order
from atomiclm.data.validation import ValidationWindows, validation_batches


def training_batches(
    corpus: PreparedCorpus, context_length: int, order: Order, separate_documents: bool = False
) -> Dataset:
    """The training samples of any corpus: of one source as `order` says, of several mixed by their weights.

    separate_documents: attention and positions stay within documents (`Batch.documents`)

    Where a source counts answers only, `Batch.mask` says so. Raises ValueError when a source is too short for a row.
    """
    datasets = [
        order.dataset(part.train, context_length, separate_documents=separate_documents, answers_only=part.answers_only)
        for part in corpus.parts
    ]
    if len(datasets) == 1:
        return datasets[0]
    names = [part.name for part in corpus.parts]
    return MixedDataset(datasets, [part.weight for part in corpus.parts], order.seed, names)


def create_dataloaders(
    corpus: PreparedCorpus,
    context_length: int,
    batch_size: int,
    order: Order,
    *,
    separate_documents: bool = False,
    validation_batch_size: int | None = None,
    first_step: int = 0,
) -> tuple[Iterator[Batch], dict[str, ValidationWindows]]:
    """(endless training batches from first_step on, a repeatable validation pass for each source) of a corpus."""
    train = training_batches(corpus, context_length, order, separate_documents)
    validation = validation_batches(corpus, context_length, validation_batch_size or batch_size, separate_documents)
    return train.batches(batch_size, first_step), validation
