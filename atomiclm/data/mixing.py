"""Which source each training sample of a mixture comes from."""

from collections.abc import Sequence

import numpy as np

from atomiclm.data.batches import Batch, Dataset, Flags, Ids
from atomiclm.data.mixture import BLOCK_SAMPLES, check_shares
from atomiclm.data.permutation import NUM_ROUNDS, derived_uint64, permuted


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
        """The facts of each source, its name behind a slash."""
        return {
            f"{key}/{name}": value
            for name, dataset in zip(self.names, self.datasets, strict=True)
            for key, value in dataset.facts().items()
        }

    def samples(self, first_index: int, count: int) -> Batch:
        """See Dataset."""
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
                places = here[within] - skipped + done
                sources[places] = source
                ranks[places] = first_rank + np.flatnonzero(within)
            done += taken
        return sources, ranks


def _merged(rows: list[Ids], batches: list[Batch]) -> Batch:
    """One batch whose rows are those of `batches`, each at its place. No mask beside a mask means that all count."""
    count, context_length = sum(map(len, rows)), batches[0].inputs.shape[1]
    inputs, targets = np.empty((2, count, context_length), dtype=np.int64)
    mask: Flags | None = None
    documents: Ids | None = None
    if any(batch.mask is not None for batch in batches):
        mask = np.ones((count, context_length), dtype=np.bool_)
    if any(batch.documents is not None for batch in batches):
        documents = np.zeros((count, context_length), dtype=np.int64)
    for here, batch in zip(rows, batches, strict=True):
        inputs[here], targets[here] = batch.inputs, batch.targets
        if mask is not None and batch.mask is not None:
            mask[here] = batch.mask
        if documents is not None and batch.documents is not None:
            documents[here] = batch.documents
    return Batch(inputs, targets, mask, documents)
