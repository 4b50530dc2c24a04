"""A configuration that passed validation, and what names its run: a readable slug, and a hash of what defines it.

The same command again therefore finds the same folder, and a cell of a sweep run alone is that cell.
"""

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from atomiclm.cli import UserError
from atomiclm.config import IDENTITY
from atomiclm.config.build import TARGET, component, read_constructor, takes_text, walk
from atomiclm.config.command_line import composing, quoted
from atomiclm.config.compose import (
    PRESETS,
    chooses,
    compose,
    initialize_shipped,
    parsed,
    resolved,
    root_keys,
    unresolved,
)
from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.expand_overrides import declared_overrides, expand_overrides
from atomiclm.config.plugins import in_own_sweep, job_overrides
from atomiclm.config.validate import validate
from atomiclm.machine import code_of
from atomiclm.tracking import find_cell
from atomiclm.tracking.run_folder import digest_of

if TYPE_CHECKING:
    from atomiclm.config.init_from import Source
    from atomiclm.config.match import Matched


@dataclass(frozen=True)
class RunConfig:
    """What to run: validated `values`, interpolations resolved; `variant` is what all seeds of it have in common."""

    values: dict[str, Any]
    run_id: str
    variant: str
    matched: "Matched | None"
    source: "Source | None" = None  # of its first weights
    overrides: Sequence[str] | None = None  # what a program composed it from; None: what the process was started with

    @property
    def folder(self) -> Path:
        """The run folder: the one whose name ends in this run's digest, or the one to make; UserError: several do."""
        parent = Path(self.values["output_dir"]) / self.values["name"]
        return find_cell(parent, self.run_id) or parent / self.run_id

    def to_yaml(self) -> str:
        """Return `values` as the text of config.yaml."""
        return str(yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True, width=120))


def read_config(config: DictConfig) -> RunConfig:
    """Validate the running job's configuration, solve its match (written into `config`), and name its run."""
    overrides = job_overrides()
    with composing(overrides):
        return _read(config, overrides, run_id=HydraConfig.get().job.name if in_own_sweep() else None)


def read_cell(overrides: Sequence[str], swept: Sequence[str] = ()) -> RunConfig:
    """The same for a cell of a sweep over the keys `swept`, from the overrides that its job will be given."""
    return _read(compose(overrides), overrides, swept)


def compose_run(overrides: Sequence[str]) -> RunConfig:
    """The same for one run in a program or a notebook, whatever Hydra application that belongs to."""
    if flags := [override for override in overrides if override.startswith("-")]:
        raise UserError(f"{flags[0]}: flags are for commands; give overrides, key=value or group=option")
    with initialize_shipped(), composing(overrides):
        config = read_cell(expand_overrides([quoted(override) for override in overrides]))
    return replace(config, overrides=overrides)


def complete(config: DictConfig, overrides: Sequence[str]) -> "Source | None":
    """Change in `config`, composed from `overrides`, what Hydra cannot know: texts as typed, what a source says."""
    restore_texts(config, overrides)
    if OmegaConf.select(config, "trainer.init_from") is None:
        return None
    from atomiclm.config.init_from import apply_init

    return apply_init(config, overrides)


def _read(
    config: DictConfig, overrides: Sequence[str], swept: Sequence[str] = (), run_id: str | None = None
) -> RunConfig:
    source = complete(config, overrides)
    options, base = ({}, {}) if run_id else _without_typed(config, overrides)
    matched = None
    if OmegaConf.select(config, "match.quantity") is not None:
        from atomiclm.config.match import apply_match

        matched = apply_match(config, overrides)
    apply_held_out(config)
    values = validate(resolved(config), root_keys())
    if source is not None:
        source.check_fits(values["model"])
        if run_id and digest(values) != digest_of(run_id):
            rule = f"{source.path} has other weights or another tokenizer than when the sweep was planned"
            raise ConfigError([Fault("trainer.init_from", f"{rule}; start the sweep again")])
    # Of the variant the seed is taken out wherever interpolation carried it.
    seed = unresolved(config)["seed"]
    config.seed = 0
    variant = digest(resolved(config))[:8]
    config.seed = seed
    run_id = run_id or f"{slug(options, unresolved(config), base, swept)}-{digest(values)}"
    return RunConfig(values, run_id, variant, matched, source)


def restore_texts(config: DictConfig, overrides: Sequence[str]) -> None:
    """Give back as typed what Hydra read as a number, true or false where a text is wanted: name=1e5."""
    for one in parsed([override for override in overrides if "=" in override]):
        if one.is_sweep_override() or one.is_delete() or not isinstance(one.value(), int | float) or chooses(one):
            continue
        parent, _, name = one.key_or_group.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else None
        target = node.get(TARGET) if isinstance(node, DictConfig) else None
        is_name = one.key_or_group in ("name", "output_dir", "cache_dir")
        if is_name or (isinstance(target, str) and takes_text(target, name)):
            OmegaConf.update(config, one.key_or_group, (one.input_line or "").partition("=")[2])


def apply_held_out(config: DictConfig) -> None:
    """Wrap the corpus of `config` in a DevSplit where the dev split is asked for; each source of a mixture."""
    if config.get("held_out") == "dev" and isinstance(config.get("data"), DictConfig):
        OmegaConf.update(config, "data", _on_dev_split(unresolved(config.data)), merge=False)


def _on_dev_split(node: Any) -> Any:
    target = node.get(TARGET) if isinstance(node, dict) else None
    if target == "atomiclm.data.Mixture" and isinstance(node.get("sources"), dict):
        return {**node, "sources": {name: _on_dev_split(source) for name, source in node["sources"].items()}}
    is_source = isinstance(node, dict) and target != "atomiclm.data.DevSplit"
    return {TARGET: "atomiclm.data.DevSplit", "source": node} if is_source else node


def digest(config: dict[str, Any]) -> str:
    """Return the first characters of the sha256 of what defines the run."""
    return hashlib.sha256(defining(config).encode()).hexdigest()[:12]


def defining(config: dict[str, Any]) -> str:
    """Return what defines the run in one text: the identity groups, keys sorted, 2.0 and 2 the same number."""
    identity = {key: _canonical(config.get(key)) for key in IDENTITY}
    target = tokenizer.get(TARGET) if isinstance(tokenizer := identity["tokenizer"], dict) else None
    for group, name, sha256 in (("trainer", "init_from", "init_sha256"), ("tokenizer", "path", "sha256")):
        is_named = group == "trainer" or target == "atomiclm.interop.PretrainedTokenizer"
        if is_named and isinstance(node := identity[group], dict):
            # What is known by its hash is the same wherever it lies. null says no more than a key that is not there.
            left_out = [name] if node.get(sha256) else [key for key in (name, sha256) if node.get(key) is None]
            identity[group] = {key: value for key, value in node.items() if key not in left_out}
    return json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_canonical(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def code_hashes(values: Any) -> dict[str, str | None]:
    """The sha256 of atomiclm's code, and of each module's that a built configuration names and we have not written."""
    modules = {str(value).rpartition(".")[0] for path, value in walk(values) if path.endswith(TARGET)}
    theirs = [module for module in sorted(modules) if module.split(".")[0] not in ("atomiclm", "torch")]
    files = {module: getattr(sys.modules.get(module), "__file__", None) for module in theirs}
    theirs_now = {
        f"code_sha256 of {module}": hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for module, file in files.items()
        if file
    }
    return {"code_sha256": code_of(), **theirs_now}


_SLUG_CHARACTERS = 80
_BUDGETS = ("trainer.max_steps", "trainer.max_tokens", "trainer.max_seconds")  # last: compared runs have one budget
_TYPED = "\0"  # no value is that


def _without_typed(config: DictConfig, overrides: Sequence[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """What a run is named against: the options that were typed, and the configuration without the values that were."""
    declared = declared_overrides(overrides)
    options, base = {}, unresolved(config)
    for one in parsed([override for override in overrides if override not in declared]):
        value = one.value()
        if chooses(one):
            if one.key_or_group not in PRESETS and value is not None:
                options[one.key_or_group] = str(value)
            continue
        *parents, last = one.key_or_group.split(".")
        node: Any = base
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            if isinstance(value, dict) and isinstance(node.get(last), dict) and TARGET not in value:
                node[last] |= dict.fromkeys(value, _TYPED)
            else:
                node[last] = _TYPED
    return options, base


def slug(options: dict[str, str], unresolved: dict[str, Any], base: dict[str, Any], swept: Sequence[str] = ()) -> str:
    """Return a readable name of at most 80 characters: the arm, what differs, the seed.

    What is swept over comes first, then chosen options, other values, budgets; what has no room is left out, since the
    hash tells it apart.

    Args:
        options: the option of each group whose choice differs from the experiment's own.
        unresolved: the configuration with interpolations as written: a value that follows another is not named twice.
        base: that of the same experiment, arm and options with nothing else overridden.
        swept: the keys that the sweep, of which the run is a cell, lists several values of.
    """
    values: dict[str, Any] = {}
    for group in IDENTITY:
        if group != "seed":
            values |= _differences(group, unresolved.get(group), base.get(group))
    if "trainer.init_from" in values and (sha256 := unresolved["trainer"].get("init_sha256")):
        values["trainer.init_from"] = sha256[:8]  # an id within an id would answer to both runs
    lasts = [key.rpartition(".")[2] for key in values]
    named = {
        # The last part of a key names it, with the one before where two keys end alike.
        key: f"{last if lasts.count(last) == 1 else '.'.join(key.split('.')[-2:])}={value}"
        for (key, value), last in zip(values.items(), lasts, strict=True)
    }
    groups = [group for group in options if group.split("/")[0] in IDENTITY]
    chosen = {group: f"{group.rpartition('/')[2]}={options[group]}" for group in groups}

    def rank(key: str) -> int:
        # An axis may be a mapping, which is named by its values, or inside a node, which is named by its class.
        related = (f"{key}.".startswith(f"{axis}.") or axis.startswith(f"{key}.") for axis in swept if key in named)
        if key in swept or any(related):
            return 0
        return 1 if key in chosen else 3 if key in _BUDGETS else 2

    texts = {**chosen, **named}
    arm = [unresolved["arm"]] if unresolved.get("arm") else []
    *wanted, seed = (
        re.sub(r"[^\w.+=]+", "_", text)
        for text in (*(texts[key] for key in sorted(texts, key=rank)), f"seed={unresolved.get('seed')}")
    )
    parts: list[str] = []
    for part in (*arm, *wanted):
        if len("-".join([*parts, part, seed])) <= _SLUG_CHARACTERS:
            parts.append(part)
    return "-".join([*parts, seed])


def _differences(path: str, value: Any, base: Any) -> dict[str, Any]:
    """Return the leaves that differ, by their full path; a node of another class as a whole."""
    if isinstance(value, dict) and isinstance(base, dict):
        target = value.get(TARGET)
        if target != base.get(TARGET) and isinstance(target, str):
            return {path: target.rpartition(".")[2]}
        found: dict[str, Any] = {}
        for key in {**value, **base}:
            own = value[key] if key in value else _taken_away(value, key, base[key])
            found |= _differences(f"{path}.{key}", own, base.get(key))
        return found
    if value == base:
        return {}
    if isinstance(value, dict):
        value = str(value.get(TARGET, "")).rpartition(".")[2]
    return {path: str([_short(entry) for entry in value] if isinstance(value, list) else _short(value))}


def _taken_away(node: dict[str, Any], key: str, base: Any) -> Any:
    """What takes the place of a setting that `~key` took away: its class's own value; `base` where it takes none."""
    if TARGET not in node:
        return None
    argument = read_constructor(component(node[TARGET])).arguments.get(key)
    return base if argument is None else argument.default


def _short(value: Any) -> Any:
    """A file is known by its name; the hash tells two of the same name apart."""
    return value.rstrip("/").rpartition("/")[2] if isinstance(value, str) else value
