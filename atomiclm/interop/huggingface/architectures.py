"""Which architecture of transformers computes what a decoder computes; and the decoder of a `config.json`."""

from collections.abc import Mapping
from typing import Any

import torch

from atomiclm.cli import UserError, from_user
from atomiclm.interop.describe import describe_decoder, differences
from atomiclm.interop.huggingface.architecture import Architecture
from atomiclm.interop.huggingface.config_json import ConfigJson
from atomiclm.interop.huggingface.experts import DEEPSEEK_V2, DEEPSEEK_V3, MIXTRAL, OLMOE, QWEN3_MOE
from atomiclm.interop.huggingface.llama import GEMMA2, GRANITE, LLAMA, MISTRAL, NANOCHAT, OLMO2, QWEN2, QWEN3, SMOLLM3
from atomiclm.interop.huggingface.older_decoders import BLOOM, GPT2, GPT_NEOX, MPT
from atomiclm.model import Decoder

ARCHITECTURES = (
    LLAMA, GPT2, MISTRAL, QWEN3, QWEN2, SMOLLM3, GRANITE, GEMMA2, OLMO2, GPT_NEOX, NANOCHAT, BLOOM, MPT, MIXTRAL,
    QWEN3_MOE, OLMOE, DEEPSEEK_V2, DEEPSEEK_V3,
)  # fmt: skip
"""The plainest first: a model that several can express is written as the first of them."""


def architecture_of(model_type: str, where: str) -> Architecture:
    """The architecture that `config.json` names. Raises UserError where there is none of that name."""
    for architecture in ARCHITECTURES:
        if architecture.model_type == model_type:
            return architecture
    known = ", ".join(architecture.model_type for architecture in ARCHITECTURES)
    raise UserError(f"{where}: model_type={model_type!r} cannot be read; supported are {known}")


def build(architecture: Architecture, config: Mapping[str, Any], where: str) -> Decoder:
    """The decoder that a configuration describes, on the current default device, its parameters as modules start.

    Raises ValueError where the configuration asks for something that is not here, or has keys that nobody understands.
    """
    return Decoder(**read_arguments(architecture, config, where), init=lambda _: None)


def read_arguments(architecture: Architecture, config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments of that decoder. Raises as `build`."""
    keys = ConfigJson(config, where)
    arguments = architecture.read(keys)
    keys.finish()
    return arguments


def express(model: Decoder) -> tuple[Architecture, dict[str, Any]]:
    """The first architecture, and its configuration, that say all of a decoder.

    Each writes the nearest configuration it has; the decoder is built back from that and the two are compared, option
    by option. Raises UserError where none does: the message names the nearest architecture and the options it has no
    words for.
    """
    ours = describe_decoder(model)
    refusals: list[tuple[float, Architecture, list[str]]] = []
    for architecture in ARCHITECTURES:
        try:
            config = architecture.write(model)
            with torch.device("meta"), from_user():
                back = build(architecture, config, "config.json")
            limits = list(architecture.limits(model))
        except UserError:
            continue  # the sizes of this model are beyond this architecture, which is farther than any option
        faults = [f"{path}: {text}" for path, text in differences(ours, describe_decoder(back)).items()]
        if not faults and not limits:
            return architecture, config
        refusals.append((len(faults) or 0.5, architecture, faults or limits))
    _, nearest, faults = min(refusals, key=lambda refusal: refusal[0])
    raise UserError(
        "no architecture of transformers computes what this model computes. The nearest is "
        f"{nearest.class_name}, which does not have:\n  " + "\n  ".join(faults)
    )
