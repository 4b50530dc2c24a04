"""Which architecture of transformers computes what a decoder computes, if any does."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from atomiclm.cli import UserError, from_user
from atomiclm.interop.describe import Description, describe_decoder, differences
from atomiclm.interop.huggingface.architecture import Architecture
from atomiclm.interop.huggingface.architectures import ARCHITECTURES
from atomiclm.interop.huggingface.config_json import ConfigJson
from atomiclm.model import Decoder


def build(architecture: Architecture, config: Mapping[str, Any], where: str) -> Decoder:
    """The decoder that a configuration describes, on the current default device, its parameters as modules start.

    Raises:
        ValueError: the configuration asks for something that is not here, or has keys that nobody understands.
    """
    keys = ConfigJson(config, where)
    arguments = architecture.read(keys)
    keys.finish()
    return Decoder(**arguments, init=_as_it_is)


def express(model: Decoder) -> tuple[Architecture, dict[str, Any]]:
    """The first architecture, and its configuration, that say all of a decoder.

    Each writes the nearest configuration it has; the decoder is built back from that and the two are compared, option
    by option. So nothing is lost in silence, whatever a component added later may do.

    Raises:
        ValueError: none does; the message names the nearest architecture and the options it has no words for.
    """
    ours = describe_decoder(model)
    nearest: _Attempt | None = None
    for architecture in ARCHITECTURES:
        attempt = _try(architecture, model, ours)
        if not attempt.faults:
            return architecture, attempt.config
        if nearest is None or attempt.distance < nearest.distance:
            nearest = attempt
    assert nearest is not None, "there are architectures"
    raise UserError(
        "no architecture of transformers computes what this model computes. The nearest is "
        f"{nearest.architecture.class_name}, which cannot say:\n  " + "\n  ".join(nearest.faults)
    )


@dataclass(frozen=True)
class _Attempt:
    """How well one architecture says a model: the options it cannot, and how far that leaves it behind others."""

    architecture: Architecture
    config: dict[str, Any]
    faults: list[str]
    distance: float


def _try(architecture: Architecture, model: Decoder, ours: Description) -> _Attempt:
    try:
        config = architecture.write(model)
        with torch.device("meta"), from_user():
            back = build(architecture, config, "config.json")
    except UserError as error:
        # The sizes of this model are beyond this architecture, which is farther than any option.
        return _Attempt(architecture, {}, [str(error)], math.inf)
    faults = [f"{path}: {text}" for path, text in differences(ours, describe_decoder(back)).items()]
    limits = [] if faults else list(architecture.limits(model))  # which leave it nearer than any option does
    return _Attempt(architecture, config, faults or limits, len(faults) + 0.5 * bool(limits))


def _as_it_is(model: Decoder) -> None:
    """Leave the parameters as their modules made them."""
