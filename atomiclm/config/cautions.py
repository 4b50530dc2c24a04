"""What a configuration may say and its author probably did not mean: told before the run, which goes on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from atomiclm.config.build import build
from atomiclm.optim.rules import unusual_rates
from atomiclm.optim.schedule import Schedule
from atomiclm.training.budget import Budget
from atomiclm.training.rules import too_short_for

_SHOWN = 3


def cautions(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield a line for each setting that is doubtful, once for all runs.

    Args:
        runs: name and validated configuration of each; a name may come several times, for seeds of one arm.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for name, values in runs:
        for path, message in _of_run(values):
            found.setdefault(path, []).append((name, message))
    for path, told in found.items():
        names = list(dict.fromkeys(name for name, _ in told))
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        where = f"  [{len(told)} of {len(runs)} runs: {shown}]" if len(runs) > 1 else ""
        yield f"warning: {path}: {told[0][1]}{where}"


def _of_run(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
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
    for argument, message in too_short_for(trainer, steps):
        yield f"trainer.{argument}", message
