"""How good a model is: bits per byte, and the anchors it is held against.

Names are imported when they are first used (PEP 562), so that settings and anchors cost no torch. The function
`anchors` is not among them: `atomiclm.evaluation.anchors` is the module it lives in.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomiclm.evaluation.anchors import compressor_bits_per_byte, ngram_bits_per_byte
    from atomiclm.evaluation.bits_per_byte import Validation, validate
    from atomiclm.evaluation.settings import Evaluation

_MODULES = {
    "Evaluation": "settings",
    "Validation": "bits_per_byte",
    "compressor_bits_per_byte": "anchors",
    "ngram_bits_per_byte": "anchors",
    "validate": "bits_per_byte",
}

__all__ = ["Evaluation", "Validation", "compressor_bits_per_byte", "ngram_bits_per_byte", "validate"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
