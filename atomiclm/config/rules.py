"""Rules about values: what each component demands of its own, and what ties components together.

The demands themselves live with the components, in modules that do not import torch; this file only says at which
config path each is asked, and turns their `ValueError`s into faults.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hydra.errors import InstantiationException

from atomiclm.config.bounds import model_size_faults, source_size_faults
from atomiclm.config.errors import Fault

Config = dict[str, Any]
Rule = Callable[[Config], Iterator[Fault]]


def broken_rules(config: Config, faulty_paths: Sequence[str]) -> Iterator[Fault]:
    """Yield the faults of every rule whose groups passed the signature check.

    A rule that reads a node already known to be wrong would only report the same mistake again, or trip over it.
    """
    for groups, rule in _RULES:
        if any(_concerns(path, group) for path in faulty_paths for group in groups):
            continue
        if all(isinstance(config.get(group.split(".")[0]), dict) for group in groups):
            yield from rule(config)


def _concerns(path: str, group: str) -> bool:
    return path == group or path.startswith((f"{group}.", f"{group}["))


_REFUSALS = (ValueError, TypeError, InstantiationException)
"""What a constructor raises when it refuses its arguments."""


def _construction(group: str) -> Rule:
    """Make a component; its constructor speaks for itself."""
    return lambda config: _refusals(group, config[group], [])


def _refusals(path: str, node: Config, known: Sequence[Fault]) -> Iterator[Fault]:
    """Yield the `known` faults of a node and what its parts refuse; where there are none, what it refuses itself."""
    parts = [(key, value) for key, value in node.items() if isinstance(value, dict) and "_target_" in value]
    faults = [*known, *(fault for key, part in parts for fault in _refusals(f"{path}.{key}", part, []))]
    yield from faults
    if faults:
        return
    from atomiclm.config.build import build
    from atomiclm.config.counting import on_shapes

    try:
        made = on_shapes(lambda: build(node))
    except _REFUSALS as error:
        yield _refusal(path, node, error)
        return
    method = _METHODS.get(path)
    if method and not callable(getattr(made, method, None)):
        rule = f"{type(made).__name__} is none of {path}'s components, which have a method {method}"
        yield Fault(f"{path}._target_", f"{rule}; choose an option of the group")


_METHODS = {
    "tokenizer": "train_from_iterator",
    "data": "faults",
    "schedule": "multiplier",
    "trainer": "fit",
    "trainer.order": "dataset",
    "trainer.objective": "__call__",
    "trainer.bad_steps": "action",
    "trainer.spikes": "limit",
    "trainer.weight_average": "update",
    "tracking": "start",
}
"""A method by which a component of the group is known, whatever its class: one of another group lacks it."""


def _refusal(path: str, node: Config, error: Exception) -> Fault:
    """The fault of a node whose constructor has refused; at the argument, where the message begins with its name."""
    argument, colon, message = str(error).partition(": ")
    if colon and argument.partition(".")[0] in node:
        return Fault(f"{path}.{argument}", message)
    return Fault(path, str(error))


def _tokenizer(config: Config) -> Iterator[Fault]:
    node = config["tokenizer"]
    faults = list(_refusals("tokenizer", node, []))
    yield from faults
    if faults:
        return
    from atomiclm.config.build import build
    from atomiclm.data import check_separator

    try:
        check_separator(build(node))
    except ValueError as error:
        yield _refusal("tokenizer", node, error)


def _model(config: Config) -> Iterator[Fault]:
    """Make the decoder, with shapes and no numbers: every constructor in it speaks for itself."""
    from atomiclm.config.counting import check_model

    if any(True for _ in _model_sizes(config)):
        return
    try:
        check_model(config["model"])
    except _REFUSALS as error:
        path = getattr(error, "path", None)
        yield Fault(f"model.{path}" if path else "model", getattr(error, "reason", str(error)))


def _model_sizes(config: Config) -> Iterator[Fault]:
    model = config["model"]
    yield from model_size_faults(model)
    for key in ("vocab_size", "dim", "num_layers", "context_length"):
        if isinstance(model.get(key), int) and model[key] < 1:
            yield Fault(f"model.{key}", f"{model[key]} is not positive; give at least 1")
    dropout = model.get("dropout", 0.0)
    if not 0.0 <= dropout < 1.0:
        yield Fault("model.dropout", f"{dropout} is not in [0, 1)")


def _vocabulary(config: Config) -> Iterator[Fault]:
    needed, available = config["tokenizer"].get("vocab_size"), config["model"].get("vocab_size")
    if needed and available and available < needed:
        yield Fault(
            "model.vocab_size", f"{available} is less than tokenizer.vocab_size={needed}; give at least {needed}"
        )


def _data(config: Config) -> Iterator[Fault]:
    from atomiclm.config.build import build

    if too_large := list(source_size_faults(config["data"])):
        yield from too_large
        return
    faults = list(_refusals("data", config["data"], []))
    yield from faults
    if faults:
        return
    source = build(config["data"])
    for argument, message in source.faults():
        yield Fault(f"data.{argument}", message)


def _optimizer(config: Config) -> Iterator[Fault]:
    """Its settings; where these and the model are sound, it is made for the model's parameters."""
    from atomiclm.optim.rules import check_optimizer as check_settings

    faults = [Fault(f"optim.{argument}", message) for argument, message in check_settings(config["optim"])]
    yield from faults
    if faults or any(True for rule in (_model_sizes, _model) for _ in rule(config)):
        return
    from atomiclm.config.counting import check_optimizer

    try:
        check_optimizer(json.dumps(config["model"]), json.dumps(config["optim"]))
    except _REFUSALS as error:
        yield _refusal("optim", config["optim"], error)


def _trainer(config: Config) -> Iterator[Fault]:
    from atomiclm.training.rules import check_trainer

    known = [Fault(f"trainer.{argument}", message) for argument, message in check_trainer(config["trainer"])]
    yield from _refusals("trainer", config["trainer"], known)


def _runtime(config: Config) -> Iterator[Fault]:
    from atomiclm.training.rules import check_runtime

    for argument, message in check_runtime(config["runtime"], batch_size=config["trainer"]["batch_size"]):
        yield Fault(f"runtime.{argument}", message)


def _incompatible_choices(config: Config) -> Iterator[Fault]:
    """Choices that are each sound and together are not; known by the shipped classes, whatever option named them."""
    model, trainer, optimizer = config["model"], config["trainer"], _class_name(config["optim"])
    if _class_name(model.get("init")) == "MaximalUpdateInit" and optimizer not in _ADAM_LIKE:
        yield Fault(
            "model.init",
            f"muP's learning rates are those of Adam (table 8 of arXiv 2203.03466) and {optimizer} needs others; use "
            "optim=adamw, or another init",
        )
    if optimizer == "ScheduleFreeAdamW" and trainer.get("weight_average") is not None:
        yield Fault("trainer.weight_average", f"{optimizer} averages the weights itself; give null, or another optim")
    lookahead = model.get("lookahead")
    depth = lookahead.get("depth") if isinstance(lookahead, dict) else None
    if isinstance(depth, int) and isinstance(model.get("context_length"), int) and depth >= model["context_length"]:
        yield Fault(
            "model.lookahead.depth",
            f"{depth} tokens ahead do not fit model.context_length={model['context_length']}; give fewer",
        )


def _class_name(node: Any) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2] if isinstance(node, dict) else ""


_ADAM_LIKE = ("AdamW", "ScheduleFreeAdamW")

_RULES: tuple[tuple[tuple[str, ...], Rule], ...] = (
    (("tokenizer",), _tokenizer),
    (("schedule",), _construction("schedule")),
    (("tracking",), _construction("tracking")),
    (("match",), _construction("match")),
    (("data",), _data),
    (("model",), _model_sizes),
    (("model",), _model),
    (("tokenizer", "model"), _vocabulary),
    (("model", "optim"), _optimizer),
    (("trainer",), _trainer),
    (("trainer", "runtime"), _runtime),
    (("evaluation",), _construction("evaluation")),
    (("model", "optim", "trainer"), _incompatible_choices),
)
