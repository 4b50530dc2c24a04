"""What every evaluation protocol is, what it measures, and what decides its figures: in words, and as a hash.

How a model is evaluated can move its figure by more than what is in the model: windows that slide by 64 tokens in place
of windows end to end took 0.032 bits per byte off a published record (openai/parameter-golf, 2026). So every figure
says how it came about (`Described`), and unlike figures are never put side by side (`comparison`).
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from atomiclm.cli import UserError
from atomiclm.data import Batch, CorpusPart, PreparedCorpus, ValidationWindows
from atomiclm.model import Decoder, cross_entropy
from atomiclm.model.components import evaluating


@dataclass
class Evaluation:
    """The evaluations of a run while it trains; see conf/evaluation/default.yaml for the meaning of each value."""

    times: int = 5
    batch_size: int = 32
    anchors: bool = True
    samples: int = 2
    sample_times: int = 2
    sample_prompt: str = ""
    sample_tokens: int = 128
    sample_temperature: float = 0.8

    def __post_init__(self) -> None:
        for name in ("times", "samples", "sample_times"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is negative; give 0 for none")
        for name in ("batch_size", "sample_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive; give at least 1")
        if self.sample_temperature < 0:
            rule = "is negative; give 0 for the likeliest token"
            raise ValueError(f"sample_temperature: {self.sample_temperature} {rule}")


@dataclass(frozen=True)
class Described:
    """How figures came about.

    name: the protocol's
    compared: what must agree before two figures may meet (JSON values): the protocol and its settings, the validation
        bytes, documents apart or not; and where a protocol counts in tokens, the tokenizer
    recorded: what may differ because it belongs to an arm: context, precision, tokenizer, its source's name

    Batch size and device are in neither: they change the order of floating-point sums and nothing else.
    """

    name: str
    compared: Mapping[str, Any]
    recorded: Mapping[str, Any]

    @property
    def comparability(self) -> str:
        """`name-hash` over what is compared: figures meet when theirs are equal. A run's `validation/protocol`."""
        return f"{self.name}-{content_hash({'protocol': self.name, **self.compared})}"

    def facts(self) -> dict[str, Any]:
        """As a JSON object; `from_facts` is the inverse."""
        return {"protocol": self.name, "compared": dict(self.compared), "recorded": dict(self.recorded)}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Raise ValueError unless these are what `facts` gave."""
        match facts:
            case {"protocol": str() as name, "compared": Mapping() as compared, "recorded": Mapping() as recorded}:
                return cls(name, compared, recorded)
        needed = "it needs protocol, compared and recorded"
        raise ValueError(f"not the description of a protocol: {needed}, it has {[*facts]}")


def content_hash(value: Any) -> str:
    """The first 8 hex digits of the sha256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True, eq=False)
class Conditions:
    """Everything about an evaluation that is neither the model's weights nor the protocol's own settings.

    corpus: whose validation split
    context_length, trained_length: tokens of a window, and of one in training
    separate_documents: attention and positions stay within documents, as `trainer.separate_documents`
    precision: of matrix products, "float32" or "bfloat16"
    source: which source of a mixture alone; "" = all of them
    """

    corpus: PreparedCorpus[Any]
    context_length: int
    trained_length: int
    separate_documents: bool = False
    precision: str = "float32"
    source: str = ""

    def __post_init__(self) -> None:
        names = [part.name for part in self.corpus.parts if part.name]
        if self.source and self.source not in names:
            known = f"the mixture has {', '.join(names)}" if names else "the corpus is not a mixture, leave it out"
            raise UserError(f"source: there is no source {self.source!r}; {known}")

    @property
    def parts(self) -> tuple[CorpusPart, ...]:
        """The sources that are evaluated."""
        return tuple(part for part in self.corpus.parts if self.source in ("", part.name))

    @property
    def validation_sha256(self) -> str:
        """Of the UTF-8 bytes evaluated: the same text is the same text, whichever corpus it stands in."""
        manifest = self.corpus.manifest
        if self.source:
            return str(manifest["parts"][self.source]["validation"]["sha256"])
        return str(manifest["validation_sha256"])

    @property
    def validation_bytes(self) -> int:
        return sum(part.validation.num_bytes for part in self.parts)


@dataclass(frozen=True, eq=False)
class Scored:
    """What each target of a batch cost.

    nats: (batch, time) float32, -log p of the target
    bytes: (batch, time) int64, what it stands for; 0 where it does not count: special tokens are not text
    """

    batch: Batch
    nats: Tensor
    bytes: Tensor


@dataclass(frozen=True, eq=False)
class Subject:
    """A model to measure. Nothing in here decides a figure but its weights.

    forward: the model, or what stands for it (compiled, in another precision): (batch, time) tokens, and `documents` of
        the same shape where they are kept apart, to logits
    tokens_per_batch: about how many inputs one forward pass has, however long its windows are
    """

    model: Decoder
    forward: Callable[..., Tensor]
    device: torch.device
    tokens_per_batch: int
    # How the rows of a batch are scored; several processes each score a part.
    divide: Callable[[Batch, Callable[[Batch], Tensor]], Tensor] = lambda batch, score: score(batch)

    def rows(self, length: int) -> int:
        """Windows of that length in one forward pass."""
        return max(1, self.tokens_per_batch // length)

    def refusal(self, length: int) -> str | None:
        """Why the model cannot read so many tokens; None if it can."""
        limit = self.model.position.max_length
        if limit is None or length <= limit:
            return None
        return f"{type(self.model.position).__name__} has {limit} positions, and {length} tokens are needed"

    def logits(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor, Tensor]]:
        """(batch, logits (batch, time, vocab_size), targets (batch, time)) of each, the last two on the device.

        Dropout is off during the pass, the model's mode is restored after it, and no random number is drawn.
        """
        with evaluating(self.model):
            for batch in batches:
                inputs, targets = (torch.from_numpy(ids).to(self.device) for ids in (batch.inputs, batch.targets))
                apart = {}  # passed only where documents are kept apart
                if batch.documents is not None:
                    apart["documents"] = torch.from_numpy(batch.documents).to(self.device)
                yield batch, self.forward(inputs, **apart), targets

    def scored(self, batches: Iterable[Batch], token_bytes: Sequence[int]) -> Iterator[Scored]:
        """What each target costs. token_bytes: (vocab_size,) bytes that each id stands for."""
        lengths = torch.tensor(token_bytes, device=self.device)

        def score(part: Batch) -> Tensor:
            ((_, logits, targets),) = self.logits([part])
            return cross_entropy(logits, targets, reduction="none")

        for batch in batches:
            target_bytes = lengths[torch.from_numpy(batch.targets).to(self.device)]
            if batch.mask is not None:
                target_bytes = target_bytes * torch.from_numpy(batch.mask).to(self.device)
            yield Scored(batch, self.divide(batch, score), target_bytes)

    def validation(
        self, conditions: Conditions, part: CorpusPart, length: int, stride: int | None = None
    ) -> Iterator[Scored]:
        """A pass over the validation text of a source in windows of `length`; see `data.ValidationWindows`."""
        separator = part.validation.separator if conditions.separate_documents else None
        windows = ValidationWindows(part.validation.tokens, length, self.rows(length), separator, stride)
        return self.scored(windows, conditions.corpus.tokenizer.token_bytes())


Curve = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Measured:
    """The figures of one protocol.

    figures: by name; `name/part` where there are several of a kind
    curves: columns of equal length, by name of the curve
    notes: what could not be measured, and why
    """

    figures: Mapping[str, float]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    notes: Sequence[str] = ()


class EvaluationProtocol(ABC):
    """One way of evaluating a model. Its constructor's arguments are its settings.

    name: in files and on the command line
    revision: of what is measured; to be raised when equal settings come to mean something else
    counts_tokens: whether figures count in tokens, so that they meet only under one tokenizer
    independent_of: the condition that decides nothing here, and is left out of the description
    """

    name: ClassVar[str]
    revision: ClassVar[int] = 1
    counts_tokens: ClassVar[bool] = False
    independent_of: ClassVar[str] = ""

    def settings(self, conditions: Conditions) -> dict[str, Any]:
        """What is set, as JSON values, with defaults worked out. ValueError: a setting does not fit the conditions."""
        return {}

    def describe(self, conditions: Conditions) -> Described:
        """How the figures come about."""
        compared = {
            "revision": self.revision,
            **self.settings(conditions),
            "validation_sha256": conditions.validation_sha256,
            "separate_documents": conditions.separate_documents,
        }
        recorded = {"context_length": conditions.context_length, "precision": conditions.precision}
        (compared if self.counts_tokens else recorded)["tokenizer_sha256"] = conditions.corpus.tokenizer.digest()
        if conditions.source:
            recorded["source"] = conditions.source
        for half in (compared, recorded):
            half.pop(self.independent_of, None)
        return Described(self.name, compared, recorded)

    @abstractmethod
    def measure(self, subject: Subject, conditions: Conditions) -> Measured:
        """Raises ValueError where the text does not allow it; what the model does not allow is a note in the result."""
