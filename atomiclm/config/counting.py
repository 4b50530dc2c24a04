"""Count what a configuration costs without training it, and without importing torch where that can be avoided."""

import importlib
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hydra.errors import InstantiationException

from atomiclm.config.allowed import component
from atomiclm.config.bounds import model_size_faults
from atomiclm.config.build import build
from atomiclm.config.cost import Cost
from atomiclm.sketch import sketching
from atomiclm.training.budget import Budget
from atomiclm.user_error import UserError

_BYTES = {"float32": 4, "bfloat16": 2}
_WIDEST_BYTES = 4  # for precision=auto: what it comes to is known when torch is


def on_shapes[T](make: Callable[[], T]) -> T:
    """Return what `make` makes of modules with shapes and no numbers: on the stand-in of torch where that suffices.

    A constructor that needs more of torch than shapes is run on torch's own meta device instead, which takes the three
    seconds of its import.
    """
    if "torch" not in sys.modules:
        with sketching():
            try:
                return make()
            except ValueError:
                raise
            except (RuntimeError, TypeError, AttributeError, ImportError, InstantiationException):
                pass  # the stand-in does not know enough, or a constructor is wrong: torch itself will show which
    import torch

    with torch.device("meta"):
        return make()


def decoder(model: dict[str, Any]) -> Any:
    """Make the decoder of a `model` node that passed the signature check; for use inside `on_shapes`.

    Raises:
        UserError: what a constructor refused (a `PartError` says which), or a size out of bounds.
    """
    for fault in model_size_faults(model):  # the baseline of a match comes here without having been validated
        raise UserError(str(fault))
    return build(model)


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


@lru_cache(maxsize=256)
def check_optimizer(model: str, optim: str) -> None:
    """Make an optimizer for the parameters of a sound model, both given as JSON nodes: the cells of a sweep share them.

    Raises:
        ValueError: what its constructor refused.
    """

    def make() -> None:
        made = decoder(json.loads(model))
        roles = importlib.import_module("atomiclm.model.components").parameter_roles(made)
        build(json.loads(optim))(made.named_parameters(), roles, made.lr_multipliers)

    on_shapes(make)


@lru_cache(maxsize=256)
def _figures(model: str) -> _ModelFigures:
    """Count a model, given as JSON: validation, a solver and a table ask for the same one several times."""
    node = json.loads(model)
    length: int = node["context_length"]

    def count() -> _ModelFigures:
        made = decoder(node)
        roles = importlib.import_module("atomiclm.model.components").parameter_roles(made)
        return _ModelFigures(
            parameters_by_role=made.num_parameters_by_role(),
            active_parameters=made.num_active_parameters(),
            forward_flops_per_token=made.flops_per_token(length),
            training_flops_per_token=made.training_flops_per_token(length),
            needed_flops_per_token=made.needed_training_flops_per_token(length),
            cache_bytes=made.cache_bytes(length),
            kept_bytes={width: made.activation_bytes(1, length, width) for width in (2, 4)},
            shapes=tuple((tuple(parameter.shape), roles[name]) for name, parameter in made.named_parameters()),
        )

    return on_shapes(count)


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
