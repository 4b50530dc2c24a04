"""`atomiclm plan ...the overrides of a training...`: what a configuration costs. Nothing is trained or read.

Of an experiment, or of a sweep (-m), it prints a table with one row an arm; seeds cost the same and are one arm.
"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from atomiclm.cli import UserError, report
from atomiclm.config.app import run_app
from atomiclm.config.command_line import composing
from atomiclm.config.compose import key_and_value, value_of
from atomiclm.config.expand_overrides import expand_overrides, study_of
from atomiclm.config.match import Cost, cost_of, machine_rate
from atomiclm.config.plugins import in_own_sweep, job_overrides
from atomiclm.config.run import RunConfig, read_cell, read_config
from atomiclm.config.validate import cautions
from atomiclm.sweep import Study
from atomiclm.sweep.cost_table import CostRow, cost_table, describe_cost, figures, span
from atomiclm.sweep.ledger import LEDGER_FILE, read_ledger
from atomiclm.sweep.side_by_side import share_machine
from atomiclm.tracking import Console


def main() -> None:
    gc.disable()  # a short life with many small objects: collecting them is a tenth of it
    planned: dict[str, tuple[list[str], RunConfig]] = {}
    cells: list[RunConfig] = []  # of a sweep
    baseline: str | None = None
    console = cache(Console)  # made when it is first used: by then notes go to standard error

    def plan(config: DictConfig) -> None:
        """Note one configuration, the arms of its experiment, or a cell of a sweep."""
        nonlocal baseline
        overrides = job_overrides()
        with composing(overrides):
            study = study_of(config)
            baseline = study.baseline
            arms = arms_of_experiment(overrides, study)
            for number, arm in enumerate(arms, 1):
                console().still(f"checking arm {number} of {len(arms)}", after=2.0)
                read = read_config(config) if arms == [overrides] else read_cell(arm)
                planned.setdefault(read.variant, (arm, read))
            if in_own_sweep():
                cells.append(read)

    def show() -> None:
        console().still("counting parameters and FLOPs", after=0.0)
        import torch  # noqa: F401 - which takes seconds

        console().still("")
        baseline_first = sorted(planned.values(), key=lambda one: value_of("arm", one[0]) != baseline)
        _print([overrides for overrides, _ in baseline_first], [arm for _, arm in baseline_first], cells)

    run_app(plan, works=False, finish=show)


def arms_of_experiment(overrides: Sequence[str], study: Study) -> list[list[str]]:
    """Return the overrides of every arm of a study, `overrides` among them, or these alone where they choose an arm or
    there is none. An arm's setting that is tuned is shown at the middle of its grid."""
    if not study.arms or value_of("arm", overrides) is not None:
        return [list(overrides)]
    tuning = study.tuning
    untuned = {arm: tuning.grid(arm)[len(tuning.values) // 2] for arm in study.arms} if tuning else None
    return [expand_overrides([*overrides, f"arm={arm}"], untuned) for arm in study.arms]


def settings_that_differ(arms: Sequence[Sequence[str]]) -> list[Mapping[str, str]]:
    """Return, for every arm, those of its settings in which not all arms agree; of a study's arms their names."""
    settings = [dict(map(key_and_value, arm)) for arm in arms]
    if all("arm" in arm for arm in settings):
        return [{"arm": arm["arm"]} for arm in settings]
    keys = [key for key in dict.fromkeys(key for arm in settings for key in arm) if key != "seed"]
    differing = [key for key in keys if len({arm.get(key) for arm in settings}) > 1]
    return [{key: arm.get(key, "") for key in differing} for arm in settings]


def _print(overrides: Sequence[Sequence[str]], runs: Sequence[RunConfig], cells: Sequence[RunConfig]) -> None:
    values: dict[str, Any] = runs[0].values
    costs = [cost_of(run.values) for run in runs]
    rate = machine_rate(values)
    differing = settings_that_differ(overrides)
    if len(runs) == 1:
        lines = [f"{values['name']}/{runs[0].folder.name}"]
        lines += [f"  {label:22} {text}" for label, text in describe_cost(costs[0], rate)]
    else:
        first = " ".join(filter(None, differing[0].values()))
        context = f"context {costs[0].context_length}; differences are to {first}"
        lines = [f"{values['name']}: {len(runs)} arms, {context}"]
        solved = [run.matched.solution if run.matched else None for run in runs]
        rows = [CostRow(*parts) for parts in zip(differing, costs, solved, strict=True)]
        lines += [f"  {line}" for line in cost_table(rows, rate)]
        known = f"at {rate.flops_per_second:.2e} FLOP/s, {rate.origin}, to what like runs here reached"
        lines.append(f"  time of steps: {known}")
    lines += [f"  {matched}" for matched in dict.fromkeys(str(run.matched) for run in runs if run.matched)]
    facts: dict[str, Any] = {}
    if len(cells) > 1:
        costs_of = dict(zip((run.variant for run in runs), costs, strict=True))
        text, facts = _sweep(cells, [costs_of[cell.variant] for cell in cells])
        lines.append(f"  {text}")
    names = [" ".join(settings.values()) for settings in differing]
    warned = list(cautions([(name, run.values) for name, run in zip(names, runs, strict=True)]))
    seeds = list(_seeds(Path(values["output_dir"]) / values["name"]))
    arms = [
        {"settings": settings, "run_id": run.run_id, "matched": run.matched and run.matched.solution, **figures(cost)}
        for settings, run, cost in zip(differing, runs, costs, strict=True)
    ]
    facts |= {"name": values["name"], "flops_per_second": rate.flops_per_second, "cautions": warned, "arms": arms}
    report([*lines, *(f"  {line}" for line in [*warned, *seeds])], facts)


def _sweep(cells: Sequence[RunConfig], costs: Sequence[Cost]) -> tuple[str, dict[str, Any]]:
    """How long the cells of a sweep take here, several at a time where that pays off: in words, and by name."""
    ledger, values = read_ledger(cells[0].folder.parent), cells[0].values
    share = share_machine(cells, cells, ledger.threads_here() if ledger else None)
    facts = {"cells": len(cells), "cells_at_once": share.cells, "threads": share.threads}
    text = f"{len(cells)} cells, {share.cells} at a time, {share.threads_each}"
    if any(cost.tokens is None for cost in costs):
        return text, facts
    rate = machine_rate({**values, "runtime": {**values["runtime"], "num_threads": share.threads}})
    times = [rate.seconds(cost) for cost in costs]
    least = sum(least for least, _ in times) / share.cells
    most = None if any(most is None for _, most in times) else sum(most or 0 for _, most in times) / share.cells
    return f"{text}: {span(least, most)}", {**facts, "seconds_at_least": least, "seconds_at_most": most}


def _seeds(folder: Path) -> Iterator[str]:
    """How many seeds the study takes, by the noise of those of its runs that have ended."""
    if not (folder / LEDGER_FILE).is_file():
        return
    from atomiclm.comparison.analysis import compare_folder  # statistics, for which there must be something to count
    from atomiclm.comparison.seeds import factor_lines, seed_lines

    try:
        comparison = compare_folder(folder)
        report = comparison.factors
        lines = factor_lines(comparison, report) if report else seed_lines(comparison)
        yield from (f"seeds: {line}" for line in lines)
    except UserError as error:
        yield f"seeds: {folder} tells nothing yet: {error}"


if __name__ == "__main__":
    main()
