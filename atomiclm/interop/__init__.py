"""Other people's formats: Hugging Face, tiktoken."""

from atomiclm.interop.describe import describe, describe_decoder, differences
from atomiclm.interop.huggingface.load import load_huggingface
from atomiclm.interop.huggingface.save import Exported, save_huggingface
from atomiclm.interop.pretrained import PretrainedTokenizer
from atomiclm.interop.tiktoken import from_tiktoken, to_tiktoken
from atomiclm.interop.tokenizer_json import read_gpt2_files, read_tokenizer

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
