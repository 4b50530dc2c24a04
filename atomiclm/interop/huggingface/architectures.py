"""The architectures there are, the plainest first: a model that several can express is written as the first of them."""

from atomiclm.cli import UserError
from atomiclm.interop.huggingface.architecture import Architecture
from atomiclm.interop.huggingface.experts import DeepseekV2, DeepseekV3, Mixtral, Olmoe, Qwen3Moe
from atomiclm.interop.huggingface.llama import Llama
from atomiclm.interop.huggingface.llama_variants import Gemma2, Granite, Mistral, NanoChat, Olmo2, Qwen2, Qwen3, SmolLM3
from atomiclm.interop.huggingface.older_decoders import GPT2, Bloom, GPTNeoX, Mpt

ARCHITECTURES: tuple[Architecture, ...] = (
    Llama(), GPT2(), Mistral(), Qwen3(), Qwen2(), SmolLM3(), Granite(), Gemma2(), Olmo2(), GPTNeoX(), NanoChat(),
    Bloom(), Mpt(), Mixtral(), Qwen3Moe(), Olmoe(), DeepseekV2(), DeepseekV3(),
)  # fmt: skip


def architecture_of(model_type: str, where: str) -> Architecture:
    """The architecture that `config.json` names. Raises UserError where there is none of that name."""
    for architecture in ARCHITECTURES:
        if architecture.model_type == model_type:
            return architecture
    known = ", ".join(architecture.model_type for architecture in ARCHITECTURES)
    raise UserError(f"{where}: model_type={model_type!r} cannot be read; supported are {known}")
