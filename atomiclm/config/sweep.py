"""A sweep: every cell is composed and validated before the first one trains; a failing cell stops no other."""

import sys
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import open_dict

from atomiclm.config.compose import resolved, root_keys
from atomiclm.config.faults import ConfigError, FailedCells, Fault
from atomiclm.config.identity import IDENTITY, digest
from atomiclm.config.validate import validate


class StudySweeper(BasicSweeper):
    """Hydra's basic sweeper (the product of all listed values) with a preflight before and a verdict after.

    It differs in three ways: no `multirun.yaml` is written; all cells are validated first and the sweep is refused
    whole if one is wrong; failures are reported together at the end, each with its overrides, instead of the first
    one's traceback.
    """

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Run every cell. Raises ConfigError before the first, or FailedCells after the last."""
        assert self.hydra_context is not None and self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        batches = self.split_arguments(overrides, self.max_batch_size)
        cells = [cell for batch in batches for cell in batch]
        self._preflight(cells)
        returns: list[Sequence[JobReturn]] = []
        first = 0
        for batch in batches:
            returns.append(self.launcher.launch(batch, initial_job_idx=first))
            first += len(batch)
        self._report(cells, [job for jobs in returns for job in jobs])
        return returns

    def _preflight(self, cells: Sequence[Sequence[str]]) -> None:
        assert self.hydra_context is not None and self.config is not None
        faults: dict[str, Fault] = {}
        known = root_keys()
        first_of: dict[str, int] = {}
        for number, cell in enumerate(cells, start=1):
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(cell))
            with open_dict(config):
                del config["hydra"]
            try:
                identity = digest(validate(resolved(config), known))
                if (first := first_of.setdefault(identity, number)) != number:
                    rule = f"cells {first} and {number} are the same run; sweep only over {', '.join(IDENTITY)}"
                    faults.setdefault(identity, Fault("sweep", f"{rule} (cell {number}: {' '.join(cell)})"))
            except ConfigError as error:
                for fault in error.faults:
                    where = f"cell {number} of {len(cells)} ({' '.join(cell)})"
                    faults.setdefault(str(fault), Fault(fault.path, f"{fault.message}  [{where}]"))
        if faults:
            raise ConfigError(list(faults.values()))

    def _report(self, cells: Sequence[Sequence[str]], jobs: Sequence[JobReturn]) -> None:
        failures: list[str] = []
        for cell, job in zip(cells, jobs, strict=True):
            if job.status is JobStatus.FAILED:
                error: Any = job._return_value
                failures.append(f"  {' '.join(cell)}\n    {type(error).__name__}: {error}")
        if failures:
            raise FailedCells("\n".join([f"{len(failures)} of {len(cells)} cells failed:", *failures]))
        print(f"\nCells done: {len(cells)} of {len(cells)}.", file=sys.stderr, flush=True)
