"""Count what a configuration costs without training it, and without importing torch where that can be avoided."""

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hydra.errors import InstantiationException

from atomiclm.config.allowed import component
from atomiclm.config.bounds import model_size_faults
from atomiclm.config.build import build
from atomiclm.sketch import sketching
from atomiclm.study.cost import Cost
from atomiclm.training.budget import Budget

_BYTES = {"float32": 4, "bfloat16": 2}
_WIDEST_BYTES = 4  # for precision=auto: what it comes to is known when torch is


@contextmanager
def counted_decoder(model: dict[str, Any]) -> Iterator[Any]:
    """Give the decoder of a validated `model` node, without numbers in it: on the stand-in of torch where it suffices.

    A constructor that needs more of torch than shapes is run on torch's own meta device instead, which takes the three
    seconds of its import.

    Raises:
        ValueError: what a constructor refused (a `PartError` says which), or a size out of bounds.
    """
    for fault in model_size_faults(model):  # the baseline of a match comes here without having been validated
        raise ValueError(str(fault))
    if "torch" not in sys.modules:
        with sketching():
            decoder = _sketched(model)
            if decoder is not None:
                yield decoder
                return
    import torch

    with torch.device("meta"):
        decoder = build(model)
    yield decoder


def _sketched(model: dict[str, Any]) -> Any:
    """The decoder on the stand-in; None when the stand-in does not know enough, or what failed is not a refusal."""
    try:
        return build(model)
    except ValueError:
        raise
    except (RuntimeError, TypeError, AttributeError, ImportError, InstantiationException):
        return None


@dataclass(frozen=True)
class _ModelFigures:
    """What a model costs, whatever trains it. `kept_bytes` is of one sequence, by bytes of a number."""

    parameters_by_role: dict[str, int]
    active_parameters: int
    forward_flops_per_token: int
    training_flops_per_token: int
    needed_flops_per_token: float
    cache_bytes: int
    kept_bytes: dict[int, int]
    shapes: tuple[tuple[tuple[int, ...], str], ...]


def check_model(model: dict[str, Any]) -> None:
    """Make the decoder of a `model` node, without numbers.

    Raises:
        ValueError: what a constructor refused (a `PartError` says which).
    """
    _figures(json.dumps(model))


def check_component(node: dict[str, Any]) -> None:
    """Make a component that needs no sizes.

    Raises:
        ValueError: what its constructor refused.
    """
    with _torch_or_stand_in():
        _sketched(node)


@lru_cache(maxsize=256)
def _figures(model: str) -> _ModelFigures:
    """Count a model, given as JSON: validation, a solver and a table ask for the same one several times."""
    node = json.loads(model)
    length: int = node["context_length"]
    with counted_decoder(node) as decoder:
        roles = importlib.import_module("atomiclm.model.roles").parameter_roles(decoder)
        return _ModelFigures(
            parameters_by_role=decoder.num_parameters_by_role(),
            active_parameters=decoder.num_active_parameters(),
            forward_flops_per_token=decoder.flops_per_token(length),
            training_flops_per_token=decoder.training_flops_per_token(length),
            needed_flops_per_token=decoder.needed_training_flops_per_token(length),
            cache_bytes=decoder.cache_bytes(length),
            kept_bytes={width: decoder.activation_bytes(1, length, width) for width in (2, 4)},
            shapes=tuple((tuple(parameter.shape), roles[name]) for name, parameter in decoder.named_parameters()),
        )


def cost_of(values: dict[str, Any]) -> Cost:
    """Count the run that a configuration describes: `values` are resolved, and validated but for their numbers' types.

    Raises:
        ValueError: what a constructor refused.
    """
    trainer, runtime = values["trainer"], values["runtime"]
    context_length: int = values["model"]["context_length"]
    figures = _figures(json.dumps(values["model"]))
    budget = Budget(*(trainer.get(name) for name in ("max_steps", "max_tokens", "max_seconds")))
    tokens_per_step = trainer["batch_size"] * context_length
    steps = budget.steps(tokens_per_step)
    micro_batch_size = runtime.get("micro_batch_size") or trainer["batch_size"]
    width = _BYTES.get(trainer.get("precision", "auto"), _WIDEST_BYTES)
    return Cost(
        context_length=context_length,
        parameters_by_role=figures.parameters_by_role,
        active_parameters=figures.active_parameters,
        forward_flops_per_token=figures.forward_flops_per_token,
        training_flops_per_token=figures.training_flops_per_token,
        needed_flops_per_token=figures.needed_flops_per_token,
        cache_bytes=figures.cache_bytes,
        activation_bytes=micro_batch_size * figures.kept_bytes[width],
        optimizer_bytes=_optimizer_bytes(figures, json.dumps(values["optim"])),
        steps=steps,
        tokens=None if steps is None else steps * tokens_per_step,
    )


def _optimizer_bytes(figures: _ModelFigures, optim: str) -> int | None:
    settings = json.loads(optim)
    with _torch_or_stand_in():
        state_elements = getattr(component(settings["_target_"]), "state_elements", None)
        if state_elements is None:
            return None
        return 4 * sum(state_elements(shape, role, settings) for shape, role in figures.shapes)


def _torch_or_stand_in() -> AbstractContextManager[None]:
    return nullcontext() if "torch" in sys.modules else sketching()
