"""Rules that tie several groups of a configuration together; those of one component stand in its constructor."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from atomiclm.config.build import build
from atomiclm.config.errors import Fault

_SHOWN = 3


def broken_rules(values: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong between groups.

    Args:
        values: the configuration.
        made: the components of its groups; those that were refused are left out, and the rules they are part of.
    """
    from atomiclm.data import check_separator

    if "tokenizer" in made:
        yield from _refused("tokenizer", check_separator, made["tokenizer"])
    if "data" in made:
        yield from (Fault(f"data.{argument}", message) for argument, message in made["data"].faults())
    if {"tokenizer", "model"} <= made.keys():
        needed, available = values["tokenizer"].get("vocab_size"), values["model"].get("vocab_size")
        if needed and available and available < needed:
            rule = f"{available} is less than tokenizer.vocab_size={needed}; give at least {needed}"
            yield Fault("model.vocab_size", rule)
    if {"trainer", "runtime"} <= made.keys():
        micro, batch_size = values["runtime"].get("micro_batch_size"), values["trainer"]["batch_size"]
        if micro and batch_size % micro:
            yield Fault("runtime.micro_batch_size", f"{micro} does not divide trainer.batch_size={batch_size}")
    if {"trainer", "optim"} <= made.keys():
        yield from _refused("trainer", made["trainer"].refuse_two_averages, made["optim"])
    if {"model", "optim"} <= made.keys():
        optimizer, init = _class_name(values["optim"]), _class_name(values["model"].get("init"))
        if init == "MaximalUpdateInit" and optimizer not in ("AdamW", "ScheduleFreeAdamW"):
            rule = f"muP's learning rates are those of Adam (table 8 of arXiv 2203.03466) and {optimizer} needs others"
            yield Fault("model.init", f"{rule}; use optim=adamw, or another init")
    if "model" in made:
        depth, length = (values["model"].get("lookahead") or {}).get("depth"), values["model"]["context_length"]
        if isinstance(depth, int) and depth >= length:
            rule = f"{depth} tokens ahead do not fit model.context_length={length}; give fewer"
            yield Fault("model.lookahead.depth", rule)


def _refused(group: str, check: Callable[..., None], *arguments: Any) -> Iterator[Fault]:
    """What a check says in a ValueError that begins with the name of the group's setting."""
    try:
        check(*arguments)
    except ValueError as error:
        name, _, message = str(error).partition(": ")
        yield Fault(f"{group}.{name}", message)


def _class_name(node: Any) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2] if isinstance(node, dict) else ""


# ---------------------------------------------------------------------------------------------------------------------
# What a configuration may say and its author probably did not mean: printed before the run, which goes on.


def cautions(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield a line for each setting that is doubtful, once for all runs.

    Args:
        runs: name and validated configuration of each; a name may come several times, for seeds of one arm.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for name, values in runs:
        for path, message in _doubts(values):
            found.setdefault(path, []).append((name, message))
    for path, told in found.items():
        names = list(dict.fromkeys(name for name, _ in told))
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        where = f"  [{len(told)} of {len(runs)} runs: {shown}]" if len(runs) > 1 else ""
        yield f"warning: {path}: {told[0][1]}{where}"


def _doubts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from atomiclm.optim import Schedule, unusual_rates
    from atomiclm.training import Budget, ExponentialAverage, SpikeDetector

    for argument, message in unusual_rates(values["optim"]):
        yield f"optim.{argument}", message
    trainer = values["trainer"]
    budget = Budget(*(trainer[limit] for limit in ("max_steps", "max_tokens", "max_seconds")))
    steps = budget.steps(trainer["batch_size"] * values["model"]["context_length"])
    if steps is None:  # a budget in seconds; how many steps that is, training will show
        return
    schedule = build(values["schedule"])
    if isinstance(schedule, Schedule):
        for argument, message in schedule.cautions(steps, values["optim"].get("lr")):
            yield f"schedule.{argument}", message
    for part in ("weight_average", "spikes"):
        made = build(trainer[part]) if trainer.get(part) else None
        if isinstance(made, ExponentialAverage | SpikeDetector):
            for argument, message in made.cautions(steps):
                yield f"trainer.{part}.{argument}", message
