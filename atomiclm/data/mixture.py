"""Several sources in one corpus, which of them each training sample comes from, and the batches of any corpus."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from atomiclm.cli import UserError
from atomiclm.data.batches import Batch, Dataset, Ids
from atomiclm.data.corpus import PreparedCorpus
from atomiclm.data.order import Order
from atomiclm.data.permutation import NUM_ROUNDS, derived_uint64, permuted
from atomiclm.data.source import CorpusSource, SourcePart
from atomiclm.data.validation import ValidationWindows, validation_batches

BLOCK_SAMPLES = 4096
"""Samples that `MixedDataset` deals at a time; every source must get at least two of them."""


class Mixture(CorpusSource):
    """Named sources, each a given share of what training sees.

    sources: any sources by name, mixtures among them
    weights: by the same names, positive; a source's share of the training tokens is its weight over their sum

    Each source is split by its own rule and gone through in epochs of its own, in its own order: one with much text
    and little weight may not be seen whole while another is repeated. Which source a sample is from depends on the
    seed and its number alone (`MixedDataset`). Every sample is of one source. The tokenizer is trained on text
    of all, see `tokenizer_text`. Validation gives bits per byte of each source, and of the whole: all bits over all
    bytes, so sources count by their validation bytes there, not by their weights.
    """

    def __init__(self, sources: dict[str, CorpusSource], weights: dict[str, float]) -> None:
        if not sources:
            raise ValueError("sources: is empty; name at least one, e.g. data.sources.mine._target_=...")
        for name, source in sources.items():
            if not isinstance(source, CorpusSource):
                raise ValueError(
                    f"sources.{name}: is not a source of text; give a node with a _target_ of atomiclm.data"
                )
            if not name or "/" in name:
                raise ValueError(f"sources: {name!r} is not a name; use letters, digits and _")
        if set(weights) != set(sources):
            raise ValueError(
                f"weights: names {', '.join(sorted(weights)) or 'nothing'}, the sources are "
                f"{', '.join(sorted(sources))}; give each source one weight"
            )
        for name, weight in weights.items():
            if not (0.0 < weight < math.inf):
                raise ValueError(
                    f"weights.{name}: {weight} is not positive and finite; remove the source to leave it out"
                )
        if sum(weights.values()) == math.inf:
            raise ValueError(
                "weights: add up to more than a number can hold; only their ratios count, give smaller ones"
            )
        self.sources = sources
        self.weights = weights
        check_shares({part.name: part.weight for part in self.parts()})

    def describe(self) -> str:
        total = sum(self.weights.values())
        each = (f"{self.weights[name] / total:.1%} {name}: {part.describe()}" for name, part in self.sources.items())
        return "; ".join(each)

    def faults(self) -> list[tuple[str, str]]:
        return [
            (f"sources.{name}.{argument}", message)
            for name, source in self.sources.items()
            for argument, message in source.faults()
        ]

    def parts(self) -> tuple[SourcePart, ...]:
        """The sources of all, those of a mixture inside this one as name/name."""
        total = sum(self.weights.values())
        return tuple(
            SourcePart(
                f"{name}/{part.name}" if part.name else name,
                self.weights[name] / total * part.weight,
                part.source,
                f"sources.{name}.{part.prefix}",
            )
            for name, source in self.sources.items()
            for part in source.parts()
        )


class MixedDataset(Dataset):
    """Samples of several datasets, interleaved at random in the proportion of their weights.

    datasets: one a source; each is walked through in its own sequence, epoch after epoch, whatever the others do
    weights: shares of the samples, positive; only their ratios count
    seed: which of the equally likely interleavings
    names: of the sources, for `facts` and messages

    Samples are dealt in blocks of B = 4096. With W_s the sum of the weights before source s (of a total of 1), source s
    gets n_s(b) = (floor((b + 1) B W_{s+1}) - floor(b B W_{s+1})) - (floor((b + 1) B W_s) - floor(b B W_s)) samples of
    block b, in an order drawn from (seed, b). So after any number of blocks its count is within 1 of its share, which
    sample i is depends on (seed, i) alone, and finding it costs one block, however large i is. (Independent draws
    would have the same shares on average, with a spread that adds noise to a comparison, and a memory of all before.)
    """

    def __init__(
        self, datasets: Sequence[Dataset], weights: Sequence[float], seed: int, names: Sequence[str] | None = None
    ) -> None:
        names = [str(number) for number in range(len(datasets))] if names is None else names
        assert len(datasets) == len(weights) == len(names) >= 1
        shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
        check_shares(dict(zip(names, shares.tolist(), strict=True)))
        self.datasets = datasets
        self.names = names
        self.seed = seed
        self.context_length = datasets[0].context_length
        self._borders = np.concatenate([[0.0], np.cumsum(shares)[:-1], [1.0]])

    def facts(self) -> dict[str, float]:
        return {
            f"{key}/{name}": value
            for name, dataset in zip(self.names, self.datasets, strict=True)
            for key, value in dataset.facts().items()
        }

    def samples(self, first_index: int, count: int) -> Batch:
        sources, ranks = self.dealt(first_index, count)
        rows, batches = [], []
        for source, dataset in enumerate(self.datasets):
            here = np.flatnonzero(sources == source)
            if len(here):
                rows.append(here)
                batches.append(dataset.samples(int(ranks[here[0]]), len(here)))
        return _merged(rows, batches)

    def dealt(self, first_index: int, count: int) -> tuple[Ids, Ids]:
        """(source, rank among that source's samples) of samples first_index and following, (count,) each."""
        sources, ranks = np.empty((2, count), dtype=np.int64)
        done = 0
        while done < count:
            block, skipped = divmod(first_index + done, BLOCK_SAMPLES)
            taken = min(BLOCK_SAMPLES - skipped, count - done)
            before, after = (np.floor(edge * BLOCK_SAMPLES * self._borders) for edge in (block, block + 1))
            ends = (after - before).astype(np.int64)  # where in the block, before shuffling, each source ends
            keys = derived_uint64(NUM_ROUNDS, "mixture", self.seed, block)
            dealt = np.searchsorted(ends[1:], permuted(np.arange(BLOCK_SAMPLES), BLOCK_SAMPLES, keys), side="right")
            for source in range(len(self.datasets)):
                here = np.flatnonzero(dealt == source)
                first_rank = int(before[source + 1] - before[source])
                within = (here >= skipped) & (here < skipped + taken)
                positions = here[within] - skipped + done
                sources[positions] = source
                ranks[positions] = first_rank + np.flatnonzero(within)
            done += taken
        return sources, ranks


def _merged(rows: list[Ids], batches: list[Batch]) -> Batch:
    """One batch whose rows are those of `batches`, each in its position. No mask beside a mask means that all count."""
    order = np.argsort(np.concatenate(rows))

    def joined(name: str, absent: int) -> Any:
        parts = [getattr(batch, name) for batch in batches]
        if all(part is None for part in parts):
            return None
        kind = np.bool_ if name == "mask" else np.int64
        shapes = [batch.inputs.shape for batch in batches]
        filled = [np.full(s, absent, kind) if p is None else p for p, s in zip(parts, shapes, strict=True)]
        return np.concatenate(filled)[order]

    return Batch(joined("inputs", 0), joined("targets", 0), joined("mask", 1), joined("documents", 0))


def check_shares(shares: Mapping[str, float]) -> None:
    """Raise UserError where a source has too small a share of the samples, by name."""
    for name, share in shares.items():
        if share * BLOCK_SAMPLES < 2:
            raise UserError(
                f"weights: {name} has {share:.2g} of the samples; give it at least {2 / BLOCK_SAMPLES:.1e} of all, "
                "or remove the source"
            )


def training_batches(
    corpus: PreparedCorpus, context_length: int, order: Order, separate_documents: bool = False
) -> Dataset:
    """Training samples: of one source as `order` says, of several mixed by their weights.

    separate_documents: attention and positions stay within documents (`Batch.documents`)

    Where a source counts answers only, `Batch.mask` says so. Raises ValueError when a source is too short for a row.
    """
    datasets = [
        order.dataset(part.train, context_length, separate_documents=separate_documents, answers_only=part.answers_only)
        for part in corpus.parts
    ]
    if len(datasets) == 1:
        return datasets[0]
    return MixedDataset(datasets, [p.weight for p in corpus.parts], order.seed, [p.name for p in corpus.parts])


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
