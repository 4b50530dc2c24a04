"""`python -m atomiclm.plan ...the overrides of a training...`: what a configuration costs. Nothing is trained or read.

Of an experiment, or of a sweep (-m), it prints a table with one row an arm; seeds cost the same and are one arm.
"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from atomiclm.cli import UserError
from atomiclm.config.app import run_app, while_read
from atomiclm.config.command_line import composing
from atomiclm.config.compose import override_key, override_value, value_of
from atomiclm.config.expand_overrides import expand_overrides, study_of
from atomiclm.config.plugins import job_overrides
from atomiclm.config.run import RunConfig, read_cell, read_config
from atomiclm.config.validate import cautions
from atomiclm.machine import default_cache_dir
from atomiclm.sweep import Study
from atomiclm.sweep.cost_table import CostRow, Rate, cost_table, describe_cost
from atomiclm.sweep.ledger import LEDGER_FILE


def main() -> None:
    """Run the command."""
    gc.disable()  # a short life with many small objects: collecting them is a tenth of it
    planned: dict[str, tuple[list[str], RunConfig]] = {}

    def plan(config: DictConfig) -> None:
        """Note one configuration, the arms of its experiment, or a cell of a sweep."""
        overrides = job_overrides()
        with composing(overrides):
            arms = arms_of_experiment(overrides, study_of(config))
            for arm in arms:
                read = read_config(config) if arms == [overrides] else read_cell(arm)
                planned.setdefault(read.variant, (arm, read))

    run_app(plan, works=False)
    if not planned:
        return
    with while_read():
        _print([overrides for overrides, _ in planned.values()], [arm for _, arm in planned.values()])


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
    settings = [{override_key(override): override_value(override) for override in arm} for arm in arms]
    if all("arm" in arm for arm in settings):
        return [{"arm": arm["arm"]} for arm in settings]
    shared = set(settings[0].items()).intersection(*(arm.items() for arm in settings))
    keys = [key for key in dict.fromkeys(key for arm in settings for key in arm) if key != "seed"]
    differing = [key for key in keys if any((key, arm.get(key)) not in shared for arm in settings)]
    return [{key: arm.get(key, "") for key in differing} for arm in settings]


def _print(overrides: Sequence[Sequence[str]], runs: Sequence[RunConfig]) -> None:
    from atomiclm.config.match import cost_of

    values: dict[str, Any] = runs[0].values
    costs = [cost_of(run.values) for run in runs]
    rate = machine_rate(values)
    if len(runs) == 1:
        print(f"{values['name']}/{runs[0].folder.name}")
        for label, text in describe_cost(costs[0], rate):
            print(f"  {label:22} {text}")
    else:
        print(
            f"{values['name']}: {len(runs)} arms, context {costs[0].context_length}; differences are to the first arm"
        )
        differing = settings_that_differ(overrides)
        solved = [run.matched.solution if run.matched else None for run in runs]
        rows = [CostRow(*parts) for parts in zip(differing, costs, solved, strict=True)]
        for line in cost_table(rows, rate):
            print(f"  {line}")
        print(f"  time of steps: at {rate.flops_per_second:.2e} FLOP/s, {rate.origin}, to what like runs here reached")
    for matched in dict.fromkeys(str(run.matched) for run in runs if run.matched):
        print(f"  {matched}")
    names = [" ".join(settings.values()) for settings in settings_that_differ(overrides)]
    for line in cautions([(name, run.values) for name, run in zip(names, runs, strict=True)]):
        print(f"  {line}")
    for line in _seeds(Path(values["output_dir"]) / values["name"]):
        print(f"  {line}")


def _seeds(folder: Path) -> Iterator[str]:
    """How many seeds the study takes, by the noise of those of its runs that have ended."""
    if not (folder / LEDGER_FILE).is_file():
        return
    from atomiclm.comparison.analysis import compare_folder  # statistics, for which there must be something to count
    from atomiclm.comparison.seeds import factor_lines, seeds_report

    try:
        comparison = compare_folder(folder)
        report = comparison.factors
        lines = factor_lines(comparison, report) if report else seeds_report(comparison).lines()
        yield from (f"seeds: {line}" for line in lines)
    except UserError as error:
        yield f"seeds: {folder} tells nothing yet: {error}"


def machine_rate(values: dict[str, Any]) -> Rate:
    """Return the best rate of matrix products that training here saw, or the rate of this processor now."""
    import torch  # --help is answered without it

    from atomiclm.training.runtime import Runtime, read_machine

    machine = read_machine(Path(values["cache_dir"] or default_cache_dir()))
    device, precision = values["runtime"]["device"], values["trainer"]["precision"]
    num_threads = values["runtime"]["num_threads"]
    known = machine.rate(
        kind=None if device == "auto" else device, dtype=None if precision == "auto" else precision, threads=num_threads
    )
    if known is not None:
        threads = f", {known.threads} threads" if known.threads else ""
        origin = f"the best matrix products in {known.dtype} on {known.device}{threads}"
        return Rate(known.flops_per_second, origin, partial(machine.reached, known))
    now = Runtime(device="cpu").matmul_rate(torch.float32)
    num_threads = num_threads or now.threads
    origin = f"float32 products measured now, for {num_threads} threads; a training run here will measure its own"
    return Rate(now.flops_per_second / now.threads * num_threads, origin)


if __name__ == "__main__":
    main()
