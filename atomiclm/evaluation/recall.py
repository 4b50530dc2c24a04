"""How many answers are right, of the sources that know theirs."""

from atomiclm.data import answer_batches
from atomiclm.evaluation.accuracy import Accuracy, answer_accuracy
from atomiclm.evaluation.conditions import Conditions
from atomiclm.evaluation.measuring import EvaluationProtocol, Subject
from atomiclm.evaluation.results import Measured
from atomiclm.user_error import UserError


class Recall(EvaluationProtocol):
    """Share of the answer tokens that are the likeliest next token, over the validation documents with answers.

    Rows hold whole documents, so every answer stands behind its question (`data.answer_batches`). Of a mixture also the
    share of each source that knows its answers, its name behind a slash.
    """

    name = "recall"

    def measure(self, subject: Subject, conditions: Conditions) -> Measured:
        """See EvaluationProtocol."""
        answered, figures = Accuracy(0, 0), dict[str, float]()
        length = conditions.context_length
        for part in conditions.parts:
            if part.validation.answers is None:
                continue
            batches = answer_batches(part, length, subject.rows(length), conditions.separate_documents)
            accuracy = answer_accuracy(subject.model, subject.forward, batches, subject.device)
            answered += accuracy
            if part.name:
                figures[f"accuracy/{part.name}"] = accuracy.share
        if not answered.answers:
            raise UserError(
                "protocol recall: no source of this run knows its answers (copy, recall and passkey do); protocol "
                "induction asks any model"
            )
        return Measured({"accuracy": answered.share, **figures})
