"""A configuration that passed validation, and the identity it gives a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from atomiclm.config.compose import (
    APP,
    PRESETS,
    chooses,
    compose,
    in_sweep,
    job_overrides,
    parsed,
    resolved,
    root_keys,
    unresolved,
)
from atomiclm.config.constructor import takes_text
from atomiclm.config.expand_overrides import declared_overrides
from atomiclm.config.identity import digest, slug
from atomiclm.config.validate import validate
from atomiclm.tracking import find_cell
from atomiclm.tracking.run_folder import EARLIER_DIGITS

if TYPE_CHECKING:
    from atomiclm.config.match import Matched


@dataclass(frozen=True)
class ArmConfig:
    """What to run, whatever it is called.

    Attributes:
        values: the validated configuration, interpolations resolved.
        variant: what it has in common with its repetitions under other seeds.
        matched: what its `match` was solved to; None when nothing had to be.
    """

    values: dict[str, Any]
    variant: str
    matched: "Matched | None"


@dataclass(frozen=True)
class RunConfig(ArmConfig):
    """The same with a name: `run_id` is a readable slug and the digest of the identity, see `identity.py`."""

    run_id: str

    @property
    def folder(self) -> Path:
        """The run folder: the one whose name ends in this run's digest, however it was named, or the one to make.

        Raises:
            UserError: there are copies of the run, and nothing says which of them is the run.
        """
        parent = Path(self.values["output_dir"]) / self.values["name"]
        return find_cell(parent, self.run_id) or parent / self.run_id

    def to_yaml(self) -> str:
        """Return `values` as the text of config.yaml."""
        return str(yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True, width=120))


def read_config(config: DictConfig) -> RunConfig:
    """Validate the running job's configuration, solve its match (written into `config`), and name its run.

    Raises:
        ConfigError: with every fault found.
    """
    overrides = job_overrides()
    if in_sweep() and HydraConfig.get().job.name != APP:  # which a sweeper other than ours leaves as it is
        return RunConfig(**vars(read_arm(config, overrides)), run_id=HydraConfig.get().job.name)
    return _named(config, overrides)


def read_cell(overrides: Sequence[str], swept: Sequence[str] = ()) -> RunConfig:
    """The same for a cell of a sweep over the keys `swept`, from the overrides that its job will be given.

    Raises:
        ConfigError: with every fault found.
    """
    return _named(compose(overrides), overrides, swept)


def job_name(run: RunConfig) -> str:
    """The override that tells a cell's job what it is called: from its own overrides it cannot tell which are swept."""
    return f"hydra.job.name='{run.run_id}'"


def _named(config: DictConfig, overrides: Sequence[str], swept: Sequence[str] = ()) -> RunConfig:
    options, base = _without_typed(config, overrides)
    arm = read_arm(config, overrides)
    name = slug(options, unresolved(config), base, swept)
    return RunConfig(**vars(arm), run_id=f"{name}-{digest(arm.values)}")


def restore_texts(config: DictConfig, overrides: Sequence[str]) -> None:
    """Give back as typed what Hydra read as a number, true or false where a text is wanted.

    So name=1e5 is the folder 1e5, and trainer.branch_from=12e45678 a hash.
    """
    for one in parsed([override for override in overrides if "=" in override]):
        text = (one.input_line or "").partition("=")[2]
        is_number = not one.is_sweep_override() and isinstance(one.value(), int | float) and not chooses(one)
        parent, _, name = one.key_or_group.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else None
        target = node.get("_target_") if isinstance(node, DictConfig) else None
        is_name = one.key_or_group in ("name", "output_dir", "cache_dir")
        if is_number and (is_name or (isinstance(target, str) and takes_text(target, name))):
            OmegaConf.update(config, one.key_or_group, text)


def _without_typed(config: DictConfig, overrides: Sequence[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """What a run is named against: the options that were typed, and the configuration without the values that were.

    What a study says of the run's arm and profile was not typed.
    """
    declared = declared_overrides(overrides)
    options, base = {}, unresolved(config)
    for one in parsed([override for override in overrides if override not in declared]):
        if chooses(one):
            if one.key_or_group not in PRESETS and one.value() is not None:
                options[one.key_or_group] = str(one.value())
            continue
        *parents, last = one.key_or_group.split(".")
        node: Any = base
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            value = one.value()
            if isinstance(value, dict) and isinstance(node.get(last), dict) and "_target_" not in value:
                node[last] |= dict.fromkeys(value, _TYPED)
            else:
                node[last] = _TYPED
    return options, base


_TYPED = "\0"  # no value is that


def read_arm(config: DictConfig, overrides: Sequence[str]) -> ArmConfig:
    """Validate a configuration composed from `overrides`, its match and dev split written into `config`.

    Raises:
        ConfigError: with every fault found.
    """
    from atomiclm.config.match import apply_match  # imports torch, which a composition fault is not worth

    restore_texts(config, overrides)
    matched = apply_match(config, overrides)
    apply_held_out(config)
    return ArmConfig(validate(resolved(config), root_keys()), _variant(config), matched)


def _variant(config: DictConfig) -> str:
    """The digest of the configuration with the seed taken out, wherever interpolation carried it."""
    seedless = OmegaConf.merge(config, {"seed": 0})
    assert isinstance(seedless, DictConfig)
    # As many digits as of earlier runs: seeds that are added to them are of the same arm.
    return digest(resolved(seedless))[:EARLIER_DIGITS]


_DEV_SPLIT = "atomiclm.data.DevSplit"
_MIXTURE = "atomiclm.data.Mixture"


def apply_held_out(config: DictConfig) -> None:
    """Wrap the corpus of `config` in a DevSplit where the dev split is asked for; each source of a mixture."""
    if config.get("held_out") == "dev" and isinstance(config.get("data"), DictConfig):
        data = OmegaConf.to_container(config.data, resolve=False)
        OmegaConf.update(config, "data", _wrapped(data), merge=False)


def _wrapped(node: Any) -> Any:
    if not isinstance(node, dict) or node.get("_target_") == _DEV_SPLIT:
        return node
    if node.get("_target_") == _MIXTURE and isinstance(node.get("sources"), dict):
        return {**node, "sources": {name: _wrapped(source) for name, source in node["sources"].items()}}
    return {"_target_": _DEV_SPLIT, "source": node}
