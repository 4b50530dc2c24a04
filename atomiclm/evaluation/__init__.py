"""How good a model is: protocols with a fingerprint, and the anchors a figure is held against.

Names are imported when they are first used (PEP 562), so that settings, descriptions, kept results and anchors cost no
torch. The function `anchors` is not among them: `atomiclm.evaluation.anchors` is the module it lives in.
"""

from typing import TYPE_CHECKING

from atomiclm.lazy import on_first_use

if TYPE_CHECKING:
    from atomiclm.evaluation.accuracy import Accuracy, answer_accuracy
    from atomiclm.evaluation.anchors import compressor_bits_per_byte, ngram_bits_per_byte
    from atomiclm.evaluation.bits_per_byte import BitsPerByte, Validation, validate
    from atomiclm.evaluation.by_position import ByPosition
    from atomiclm.evaluation.conditions import Conditions
    from atomiclm.evaluation.induction import Induction
    from atomiclm.evaluation.length_extrapolation import LengthExtrapolation
    from atomiclm.evaluation.measuring import EvaluationProtocol, Subject
    from atomiclm.evaluation.protocol import Described, cautions, differences, recorded_protocol
    from atomiclm.evaluation.recall import Recall
    from atomiclm.evaluation.report import validation_protocol, validation_row
    from atomiclm.evaluation.results import EvaluationResult, Measured, read_evaluations
    from atomiclm.evaluation.settings import Evaluation
    from atomiclm.evaluation.sliding import Sliding

_MODULE_OF = {
    "Accuracy": "accuracy",
    "BitsPerByte": "bits_per_byte",
    "ByPosition": "by_position",
    "Conditions": "conditions",
    "Described": "protocol",
    "Evaluation": "settings",
    "EvaluationProtocol": "measuring",
    "EvaluationResult": "results",
    "Induction": "induction",
    "LengthExtrapolation": "length_extrapolation",
    "Measured": "results",
    "Recall": "recall",
    "Sliding": "sliding",
    "Subject": "measuring",
    "Validation": "bits_per_byte",
    "answer_accuracy": "accuracy",
    "cautions": "protocol",
    "compressor_bits_per_byte": "anchors",
    "differences": "protocol",
    "ngram_bits_per_byte": "anchors",
    "read_evaluations": "results",
    "recorded_protocol": "protocol",
    "validate": "bits_per_byte",
    "validation_protocol": "report",
    "validation_row": "report",
}

__all__ = [
    "Accuracy",
    "BitsPerByte",
    "ByPosition",
    "Conditions",
    "Described",
    "Evaluation",
    "EvaluationProtocol",
    "EvaluationResult",
    "Induction",
    "LengthExtrapolation",
    "Measured",
    "Recall",
    "Sliding",
    "Subject",
    "Validation",
    "answer_accuracy",
    "cautions",
    "compressor_bits_per_byte",
    "differences",
    "ngram_bits_per_byte",
    "read_evaluations",
    "recorded_protocol",
    "validate",
    "validation_protocol",
    "validation_row",
]

__getattr__, __dir__ = on_first_use(__name__, _MODULE_OF)
