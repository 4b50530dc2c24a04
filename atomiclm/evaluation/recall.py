"""How many answers are right, of the sources that know theirs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch

from atomiclm.cli import UserError
from atomiclm.data import Batch, answer_batches
from atomiclm.evaluation.protocol import Conditions, EvaluationProtocol, Measured, Subject


class Recall(EvaluationProtocol):
    """Share of the answer tokens that are the likeliest next token, over the validation documents with answers.

    Rows hold whole documents, so every answer follows its question (`data.answer_batches`). Of a mixture also the
    share of each source that knows its answers, its name behind a slash.
    """

    name = "recall"

    def measure(self, subject: Subject, conditions: Conditions) -> Measured:
        answered, figures = Accuracy(0, 0), dict[str, float]()
        length = conditions.context_length
        for part in conditions.parts:
            if part.validation.answers is None:
                continue
            batches = answer_batches(part, length, subject.rows(length), conditions.separate_documents)
            accuracy = answer_accuracy(subject, batches)
            answered += accuracy
            if part.name:
                figures[f"accuracy/{part.name}"] = accuracy.share
        if not answered.answers:
            raise UserError(
                "protocol recall: no source of this run knows its answers (copy, recall and passkey do); protocol "
                "induction is for any model"
            )
        return Measured({"accuracy": answered.share, **figures})


@dataclass(frozen=True)
class Accuracy:
    """Counts of answer tokens. The passes over several sources add up."""

    correct: int
    answers: int

    def __add__(self, other: Self) -> "Accuracy":
        return Accuracy(self.correct + other.correct, self.answers + other.answers)

    @property
    def share(self) -> float:
        """Share of the answer tokens that were right."""
        return self.correct / self.answers


def answer_accuracy(subject: Subject, batches: Iterable[Batch]) -> Accuracy:
    """Count the answer tokens (`Batch.mask`) that are the likeliest next token, given the true text before each.

    Of an answer of several tokens each counts by itself, and is asked after the right beginning. Ties go to the
    lowest id.
    """
    correct, answers = 0, 0
    for batch, logits, targets in subject.logits(batches):
        assert batch.mask is not None, "batches of answers mark them"
        is_answer = torch.from_numpy(batch.mask).to(subject.device)
        correct += int(((logits.argmax(-1) == targets) & is_answer).sum())
        answers += int(is_answer.sum())
    return Accuracy(correct, answers)
