"""The evaluations of a run while it trains: how often, and the row that its record gets each time."""

from dataclasses import dataclass
from typing import Any

import torch

from atomiclm.data import PreparedCorpus
from atomiclm.evaluation.bits_per_byte import BitsPerByte
from atomiclm.evaluation.protocol import Conditions, Described, Forward, Subject
from atomiclm.evaluation.recall import Recall
from atomiclm.model import Decoder


@dataclass
class Evaluation:
    """The evaluations of a run; see conf/evaluation/default.yaml for the meaning of each value.

    Raises:
        ValueError: a value is out of range.
    """

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
            raise ValueError(
                f"sample_temperature: {self.sample_temperature} is negative; give 0 for the likeliest token"
            )


def validation_row(
    model: Decoder,
    forward: Forward,
    corpus: PreparedCorpus,
    batch_size: int,
    device: torch.device,
    separate_documents: bool = False,
) -> dict[str, Any]:
    """Return the figures by name; of a mixture also those of each source, its name behind a slash.

    validation/loss             nats per token over all sources
    validation/bits_per_byte    all bits over all bytes: every byte of the split is predicted once
    validation/accuracy         share of the answer tokens predicted, where a source knows its answers
    validation/separate_documents   True where documents were kept apart, as in the training: another protocol, whose
                                figures are not those of windows that run over document borders
    validation/protocol         `Described.comparability`: figures meet where it is the same text

    batch_size: windows of model.context_length in one forward pass
    forward: the model, or what stands for it; `forward(tokens, documents=...)` where documents are kept apart
    """
    conditions = Conditions(corpus, model.context_length, model.context_length, separate_documents)
    subject = Subject(model, forward, device, batch_size * model.context_length)
    figures = dict(BitsPerByte().measure(subject, conditions).figures)
    if any(part.validation.answers is not None and part.validation.answers.any() for part in corpus.parts):
        figures |= Recall().measure(subject, conditions).figures
    row: dict[str, Any] = {f"validation/{name}": value for name, value in figures.items()}
    if separate_documents:
        row["validation/separate_documents"] = True
    row["validation/protocol"] = BitsPerByte().describe(conditions).comparability
    return row


def validation_protocol(
    corpus: PreparedCorpus, context_length: int, separate_documents: bool, precision: str
) -> Described:
    """How the figures of `validation_row` come about; its `facts()` stand in a run's summary under `protocol`.

    precision: "float32" or "bfloat16", what the run's matrix products are in
    """
    return BitsPerByte().describe(Conditions(corpus, context_length, context_length, separate_documents, precision))
