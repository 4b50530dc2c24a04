"""Several sources in one corpus."""

import math
from collections.abc import Mapping

from atomiclm.data.source import CorpusSource, SourcePart
from atomiclm.user_error import UserError

BLOCK_SAMPLES = 4096
"""Samples that `mixing.MixedDataset` deals at a time; every source must get at least two of them."""


class Mixture(CorpusSource):
    """Named sources, each a given share of what training sees.

    sources: any sources by name, mixtures among them
    weights: by the same names, positive; a source's share of the training tokens is its weight over their sum

    Each source is split by its own rule and gone through in epochs of its own, in its own order: one with much text
    and little weight may not be seen whole while another is repeated. Which source a sample is from depends on the
    seed and its number alone (`mixing.MixedDataset`). Every sample is of one source. The tokenizer is trained on text
    of all, see `tokenizer_text`. Validation gives bits per byte of each source, and of the whole: all bits over all
    bytes, so sources count by their validation bytes there, not by their weights.
    """

    def __init__(self, sources: dict[str, CorpusSource], weights: dict[str, float]) -> None:
        if not sources:
            raise ValueError("sources: holds none; name at least one, e.g. data.sources.mine._target_=...")
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
        """Each source and its share."""
        total = sum(self.weights.values())
        return "; ".join(
            f"{self.weights[name] / total:.1%} {name}: {source.describe()}" for name, source in self.sources.items()
        )

    def faults(self) -> list[tuple[str, str]]:
        """Those of each source, under its name."""
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


def check_shares(shares: Mapping[str, float]) -> None:
    """Raise UserError where a source has too small a share of the samples, by name."""
    for name, share in shares.items():
        if share * BLOCK_SAMPLES < 2:
            raise UserError(
                f"weights: {name} has {share:.2g} of the samples; give it at least {2 / BLOCK_SAMPLES:.1e} of all, "
                "or remove the source"
            )
