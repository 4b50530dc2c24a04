"""A configuration that passed validation, and the identity it gives a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from atomiclm.config.compose import compose_base, resolved, root_keys, swept_keys, unresolved
from atomiclm.config.identity import digest, run_id
from atomiclm.config.validate import validate


@dataclass(frozen=True)
class RunConfig:
    """What to run, and the names that follow from it.

    Attributes:
        values: the validated configuration, interpolations resolved.
        run_id: the name of the run folder; the same for the same identity, see `identity.py`.
        variant: what the run has in common with its repetitions under other seeds.
    """

    values: dict[str, Any]
    run_id: str
    variant: str

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.values["output_dir"]) / self.values["name"] / self.run_id

    def to_yaml(self) -> str:
        """Return `values` as the text of config.yaml."""
        return str(yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True, width=120))


def read_config(config: DictConfig) -> RunConfig:
    """Validate a composed configuration and name its run.

    Raises:
        ConfigError: with every fault found.
    """
    values = validate(resolved(config), root_keys())
    name = run_id(values, unresolved(config), unresolved(compose_base()), swept_keys())
    return RunConfig(values, name, _variant(config))


def _variant(config: DictConfig) -> str:
    """The digest of the configuration with the seed taken out, wherever interpolation carried it."""
    seedless = OmegaConf.merge(config, {"seed": 0})
    assert isinstance(seedless, DictConfig)
    return digest(validate(resolved(seedless), root_keys()))
