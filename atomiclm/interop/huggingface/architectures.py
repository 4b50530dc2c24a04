"""The architectures there are, the plainest first: a model that several can express is written as the first of them."""

from atomiclm.interop.huggingface.architecture import Architecture
from atomiclm.interop.huggingface.bloom import Bloom
from atomiclm.interop.huggingface.deepseek import DeepseekV2, DeepseekV3
from atomiclm.interop.huggingface.experts import Mixtral, Olmoe, Qwen3Moe
from atomiclm.interop.huggingface.gemma2 import Gemma2
from atomiclm.interop.huggingface.gpt2 import GPT2
from atomiclm.interop.huggingface.gpt_neox import GPTNeoX
from atomiclm.interop.huggingface.granite import Granite
from atomiclm.interop.huggingface.llama import Llama
from atomiclm.interop.huggingface.mistral import Mistral
from atomiclm.interop.huggingface.mpt import Mpt
from atomiclm.interop.huggingface.nanochat import NanoChat
from atomiclm.interop.huggingface.olmo2 import Olmo2
from atomiclm.interop.huggingface.qwen import Qwen2, Qwen3
from atomiclm.interop.huggingface.smollm3 import SmolLM3
from atomiclm.user_error import UserError

ARCHITECTURES: tuple[Architecture, ...] = (
    Llama(), GPT2(), Mistral(), Qwen3(), Qwen2(), SmolLM3(), Granite(), Gemma2(), Olmo2(), GPTNeoX(), NanoChat(),
    Bloom(), Mpt(), Mixtral(), Qwen3Moe(), Olmoe(), DeepseekV2(), DeepseekV3(),
)  # fmt: skip


def architecture_of(model_type: str, where: str) -> Architecture:
    """The architecture that `config.json` names.

    Raises:
        ValueError: there is none of that name here.
    """
    for architecture in ARCHITECTURES:
        if architecture.model_type == model_type:
            return architecture
    known = ", ".join(architecture.model_type for architecture in ARCHITECTURES)
    raise UserError(f"{where}: model_type={model_type!r} cannot be read; known are {known}")
