"""How good a model is: protocols whose figures say how they came about, and the baselines to compare them with."""

from atomiclm.evaluation.baselines import compressor_bits_per_byte, ngram_bits_per_byte
from atomiclm.evaluation.bits_per_byte import BitsPerByte, Sliding, Validation, validate
from atomiclm.evaluation.by_position import ByPosition, LengthExtrapolation
from atomiclm.evaluation.decode import Decode
from atomiclm.evaluation.induction import Induction
from atomiclm.evaluation.protocol import Conditions, Described, Evaluation, EvaluationProtocol, Measured, Subject
from atomiclm.evaluation.recall import Accuracy, Recall, answer_accuracy
from atomiclm.evaluation.results import EvaluationResult, read_evaluations

__all__ = [
    "Accuracy", "BitsPerByte", "ByPosition", "Conditions", "Decode", "Described", "Evaluation", "EvaluationProtocol",
    "EvaluationResult", "Induction", "LengthExtrapolation", "Measured", "Recall", "Sliding", "Subject", "Validation",
    "answer_accuracy", "compressor_bits_per_byte", "ngram_bits_per_byte", "read_evaluations", "validate",
]  # fmt: skip
