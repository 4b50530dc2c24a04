"""Rules about values: what each component demands of its own, and what ties components together.

The demands themselves live with the components, in modules that do not import torch; this file only says at which
config path each is asked, and turns their `ValueError`s into faults.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hydra.errors import InstantiationException

from atomiclm.config.bounds import model_size_faults, source_size_faults
from atomiclm.config.faults import Fault

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


def _construction(group: str) -> Rule:
    """A component that is cheap to make and imports no torch: make it, and let it speak for itself."""

    def rule(config: Config) -> Iterator[Fault]:
        from atomiclm.config.build import build

        try:
            build(config[group])
        except (ValueError, TypeError, InstantiationException) as error:
            yield Fault(group, str(error))

    return rule


def _model(config: Config) -> Iterator[Fault]:
    """Make the decoder, with shapes and no numbers: every constructor in it speaks for itself."""
    from atomiclm.config.counting import check_model

    if any(True for _ in _model_sizes(config)):
        return
    try:
        check_model(config["model"])
    except (ValueError, TypeError, InstantiationException) as error:
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
    try:
        source = build(config["data"])
    except (ValueError, TypeError, InstantiationException) as error:
        yield Fault("data", str(error))
        return
    if not callable(getattr(source, "faults", None)):
        yield Fault("data._target_", f"{type(source).__name__} is no source of text; choose an option of the group")
        return
    for argument, message in source.faults():
        yield Fault(f"data.{argument}", message)


def _optimizer(config: Config) -> Iterator[Fault]:
    from atomiclm.optim.rules import check_optimizer

    for argument, message in check_optimizer(config["optim"]):
        yield Fault(f"optim.{argument}", message)


def _trainer(config: Config) -> Iterator[Fault]:
    from atomiclm.training.rules import check_trainer

    for argument, message in check_trainer(config["trainer"]):
        yield Fault(f"trainer.{argument}", message)


def _objective(config: Config) -> Iterator[Fault]:
    from atomiclm.config.counting import check_component

    try:
        check_component(config["trainer"]["objective"])
    except (ValueError, TypeError) as error:
        yield Fault("trainer.objective", str(error))


def _runtime(config: Config) -> Iterator[Fault]:
    from atomiclm.training.rules import check_runtime

    for argument, message in check_runtime(config["runtime"], batch_size=config["trainer"]["batch_size"]):
        yield Fault(f"runtime.{argument}", message)


def _evaluation(config: Config) -> Iterator[Fault]:
    from atomiclm.evaluation.rules import check_evaluation

    for argument, message in check_evaluation(config["evaluation"]):
        yield Fault(f"evaluation.{argument}", message)


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
    (("tokenizer",), _construction("tokenizer")),
    (("schedule",), _construction("schedule")),
    (("tracking",), _construction("tracking")),
    (("match",), _construction("match")),
    (("data",), _data),
    (("model",), _model_sizes),
    (("model",), _model),
    (("tokenizer", "model"), _vocabulary),
    (("optim",), _optimizer),
    (("trainer",), _trainer),
    (("trainer",), _objective),
    (("trainer", "runtime"), _runtime),
    (("evaluation",), _evaluation),
    (("model", "optim", "trainer"), _incompatible_choices),
)
