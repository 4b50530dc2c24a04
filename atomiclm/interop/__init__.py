"""Other people's formats: Hugging Face, tiktoken."""

from typing import TYPE_CHECKING

from atomiclm.lazy import on_first_use

if TYPE_CHECKING:
    from atomiclm.interop.describe import describe, describe_decoder, differences
    from atomiclm.interop.huggingface.load import load_huggingface
    from atomiclm.interop.huggingface.save import Exported, save_huggingface
    from atomiclm.interop.huggingface.tokenizer_import import read_gpt2_files, read_tokenizer
    from atomiclm.interop.pretrained import PretrainedTokenizer
    from atomiclm.interop.tiktoken.encoding import from_tiktoken, to_tiktoken

_MODULE_OF = {
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

__getattr__, __dir__ = on_first_use(__name__, _MODULE_OF)
