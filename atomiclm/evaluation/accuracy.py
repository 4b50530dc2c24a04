"""How many answers a model gets right, where the data says what the answers are."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from atomiclm.data import Batch
from atomiclm.evaluation.forward import Forward, logits_of
from atomiclm.model.mode import evaluating


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


def answer_accuracy(model: nn.Module, forward: Forward, batches: Iterable[Batch], device: torch.device) -> Accuracy:
    """Count the answer tokens (`Batch.mask`) that are the likeliest next token, given the true text before each.

    Of an answer of several tokens each counts by itself, and is asked after the right beginning. Ties go to the
    lowest id. Dropout is off during the pass, the model's mode is restored after it, and no random number is drawn.
    """
    correct, answers = 0, 0
    with evaluating(model):
        for batch in batches:
            assert batch.mask is not None, "batches of answers mark them"
            is_answer = torch.from_numpy(batch.mask).to(device)
            right = logits_of(forward, batch, device).argmax(-1) == torch.from_numpy(batch.targets).to(device)
            correct += int((right & is_answer).sum())
            answers += int(is_answer.sum())
    return Accuracy(correct, answers)
