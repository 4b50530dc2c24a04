"""A sweep: every cell is validated before the first one begins. Of `train`, what is done is skipped, and a failure
stops no other.

The cells of a study are its arms times its seeds; `-m key=1,2` on the command line multiplies them further, or makes a
sweep without a study. What is wanted is written to `study.json` beside the runs, so that `compare` can miss a cell that
never began. Other commands only do with every cell what they do with one run, and note nothing of it.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn

from atomiclm.config.declared import read_study, single_values
from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.launching import Launching, launch, show
from atomiclm.config.overrides import override_key
from atomiclm.config.planning import Wanted, planned, validated
from atomiclm.config.sweep_folder import SweepFolder
from atomiclm.config.tuning import TUNING_SUFFIX, trial_overrides, tune
from atomiclm.sweep.ledger import TunedValue
from atomiclm.sweep.study import Study


class CellSweeper(BasicSweeper):
    """Hydra's basic sweeper (the product of all listed values), with a study's arms and seeds among the axes."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        super().__init__(max_batch_size=None, params=params)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Run the command's task on every cell. Raises ConfigError before the first, or what a cell raised."""
        assert self.launcher is not None
        _, cells = self._planned(arguments)
        for job in (jobs := launch(self.launcher, cells)):
            _ = job.return_value  # raises what the job did
        return [jobs]

    def _planned(self, typed: Sequence[str]) -> tuple[Study, list[Wanted]]:
        """The study and its cells; what is yet to be tuned stands at the middle of its grid."""
        assert self.config is not None
        # Composition follows the running command's search path (--config-dir), which is known from here.
        HydraConfig.instance().set_config(self.config)
        if self.params:
            rule = "an experiment declares study.arms and study.seeds; other axes are given on the command line"
            raise ConfigError([Fault("hydra.sweeper.params", rule)])
        study = read_study(single_values(typed))
        cells = planned(typed, study, study.seeds, _middle(study) if _tunes(study, typed) else None)
        if not cells:
            raise ConfigError([Fault("study", "there is nothing to run")])
        return study, cells


class StudySweeper(CellSweeper):
    """The sweeper of `train`: it keeps a ledger, trains what has not ended, tunes, and adds seeds."""

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Run every cell that has not ended. Raises ConfigError before the first, or FailedCells after the last."""
        assert self.launcher is not None
        typed = list(arguments)
        study, first = self._planned(typed)
        folder = first[0].run.folder.parent
        sweeping = SweepFolder(typed, study, folder, Launching(self.launcher, folder, study.metric, study.fail_fast))
        tuned: dict[str, TunedValue] = {}
        if _tunes(study, typed):
            sweeping.declare()
            tuned = self._tune(typed, study, folder)
        values = {arm: choice.value for arm, choice in tuned.items()}
        seeds = list(study.seeds)
        looks: list[int] = []
        while True:
            cells = planned(typed, study, seeds, values or None) if tuned or looks else first
            sweeping.run(cells, tuned, looks)
            if study.sequential is None or "seed" in map(override_key, typed):
                break
            looks.append(len(seeds))
            more = self._more_seeds(study, folder, seeds, looks)
            if not more:
                break
            seeds += more
        return []

    def _tune(self, typed: Sequence[str], study: Study, folder: Path) -> dict[str, TunedValue]:
        """Train the trials, in a folder of their own, and choose."""
        assert self.launcher is not None and study.tuning is not None
        own = [one for one in typed if override_key(one) not in ("seed", "arm", "name", study.tuning.key)]
        trials = folder.with_name(folder.name + TUNING_SUFFIX)
        swept = [study.tuning.key]
        plain = Study(metric=study.metric, direction=study.direction)
        launching = Launching(self.launcher, trials, study.metric, study.fail_fast)
        sweeping = SweepFolder(typed, plain, trials, launching, tolerant=True)

        def trials_of(grids: Mapping[str, Sequence[float]]) -> list[tuple[str, float, Wanted]]:
            listed = trial_overrides(study, own, folder.name, grids)
            cells = validated([overrides for _, _, overrides in listed], swept=swept)
            key = study.tuning.key.rpartition(".")[2] if study.tuning else ""
            named = [
                replace(one, cell=replace(one.cell, arm=f"{arm} {key}={value!r}"))
                for (arm, value, _), one in zip(listed, cells, strict=True)
            ]
            return [(arm, value, one) for (arm, value, _), one in zip(listed, named, strict=True)]

        chosen = tune(study, trials_of, lambda cells: sweeping.run(cells, {}, []))
        lines = [f"{study.tuning.key} chosen on the dev split, {len(study.tuning.seeds)} seeds a value:"]
        for arm, choice in chosen.items():
            tried = "  ".join(f"{value} {mean:.4f}" for value, mean in choice.trials.items())
            end = "" if choice.interior else "  (at the end of the grid)"
            lines.append(f"  {arm}: {choice.value!r}{end}   {tried}")
        show(lines)
        return chosen

    def _more_seeds(self, study: Study, folder: Path, seeds: Sequence[int], looks: Sequence[int]) -> list[int]:
        """The seeds to add after a look at what is there; none once all is resolved or the limit is reached."""
        from atomiclm.comparison.comparing import compare_folder  # statistics, which only a sequential study asks for
        from atomiclm.comparison.sequential import next_look

        decision = next_look(compare_folder(folder), study, len(seeds))
        show([f"{folder.name}, look {len(looks)} at {len(seeds)} seeds: {decision.reason}"])
        taken = {*seeds, *(study.tuning.seeds if study.tuning else ())}
        fresh = (seed for seed in itertools.count(1) if seed not in taken)
        return [next(fresh) for _ in range(decision.seeds - len(seeds))] if decision.goes_on else []


def _tunes(study: Study, typed: Sequence[str]) -> bool:
    """Whether a value of each arm is to be chosen by trials; not where one was typed."""
    return study.tuning is not None and study.tuning.key not in map(override_key, typed)


def _middle(study: Study) -> dict[str, float]:
    """A stand-in for what is yet to be tuned, so that the arms can be checked before the trials."""
    assert study.tuning is not None
    return {arm: study.tuning.grid(arm)[len(study.tuning.values) // 2] for arm in study.arms}
