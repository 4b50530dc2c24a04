"""Other people's formats: Hugging Face, tiktoken."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomiclm.interop.describe import describe, describe_decoder, differences
    from atomiclm.interop.huggingface.load import load_huggingface
    from atomiclm.interop.huggingface.save import Exported, save_huggingface
    from atomiclm.interop.huggingface.tokenizer_import import read_gpt2_files, read_tokenizer
    from atomiclm.interop.pretrained import PretrainedTokenizer
    from atomiclm.interop.tiktoken.encoding import from_tiktoken, to_tiktoken

_SUBMODULE = {
    "Exported": "huggingface.save",
    "PretrainedTokenizer": "pretrained",
    "describe": "describe",
    "describe_decoder": "describe",
    "differences": "describe",
    "from_tiktoken": "tiktoken.encoding",
    "load_huggingface": "huggingface.load",
    "read_gpt2_files": "huggingface.tokenizer_import",
    "read_tokenizer": "huggingface.tokenizer_import",
    "save_huggingface": "huggingface.save",
    "to_tiktoken": "tiktoken.encoding",
}

__all__ = [
    "Exported",
    "PretrainedTokenizer",
    "describe",
    "describe_decoder",
    "differences",
    "from_tiktoken",
    "load_huggingface",
    "read_gpt2_files",
    "read_tokenizer",
    "save_huggingface",
    "to_tiktoken",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its submodule the first time it is asked for (PEP 562)."""
    if name not in _SUBMODULE:
        raise AttributeError(f"module 'atomiclm.interop' has no attribute {name!r}")
    value = getattr(import_module(f"atomiclm.interop.{_SUBMODULE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
