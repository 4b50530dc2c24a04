"""A trained model under other settings: a position scheme stretched at evaluation, its weights as they are."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from atomiclm.config.build import PARTIAL, TARGET
from atomiclm.config.compose import compose, resolved, unresolved
from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.paths import CONF
from atomiclm.config.validate import Check

_GROUP = "model"


def with_model_settings(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a run's configuration with settings of its model changed, validated like any other.

    values: the run's own, as its config.yaml has them
    overrides: in the words of the other commands. `model.position.factor=4` sets a value; `model/position=yarn` puts
        an option in the place of a component, with the option's values, but for those that the trained component has
        under the same name: theta, rotary_fraction and layout stay as they were trained. Options come first, values
        after them, in whatever order they are given.

    Raises:
        ConfigError: an override is of something else than the model, cannot be read, or gives a model that is refused.
    """
    parsed = _parsed(overrides)
    options = [one for one in parsed if "/" in one.key_or_group]
    config = OmegaConf.create({**values})
    for option in options:
        path = option.key_or_group.replace("/", ".")
        OmegaConf.update(config, path, _option(option, OmegaConf.select(config, path)), merge=False)
    for one in parsed:
        if one not in options:
            OmegaConf.update(config, one.key_or_group, one.value(), force_add=True)
    changed = resolved(config)
    check = Check()
    check.node(_GROUP, changed[_GROUP])
    check.end()
    return changed


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of two model nodes that differ, by dotted name, as they are afterwards; None: no longer there."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return {
        key: new.get(key)
        for key in sorted({*old, *new})
        if not key.endswith("_partial_") and old.get(key) != new.get(key)
    }


def _parsed(overrides: Sequence[str]) -> list[Override]:
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError([Fault("--set", f"cannot be read: {str(error).splitlines()[0]}")]) from error
    faults = []
    for one in parsed:
        key = one.key_or_group
        if key.partition("/")[0].partition(".")[0] != _GROUP:
            faults.append(Fault(key, "is no setting of the model; --set changes model.KEY=VALUE or model/PART=OPTION"))
        elif key == _GROUP:
            faults.append(Fault(key, "would be another model; --set changes parts of it: model/PART=OPTION"))
        elif one.is_delete() or one.is_sweep_override():
            faults.append(Fault(one.input_line or key, "sets no single value; give one value, and null for none"))
    if faults:
        raise ConfigError(faults)
    return parsed


def _option(option: Override, trained: Any) -> dict[str, Any]:
    """The node of an option, interpolations as written, with the values it shares with the trained component."""
    group, name = option.key_or_group, str(option.value())
    path = group.replace("/", ".")
    known = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    if name not in known:
        listed = f"choose one of {', '.join(known)}" if known else "model has no such part"
        raise ConfigError([Fault(group, f"{name} is none of its options; {listed}")])
    node: Any = unresolved(compose([f"{group}={name}"]))
    for part in path.split("."):
        node = node[part]
    own = trained if isinstance(trained, DictConfig) else {}
    return {**node, **{key: value for key, value in own.items() if key in node and key not in (TARGET, PARTIAL)}}


def _leaves(node: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(node, Mapping) or not node:
        return [(prefix.rstrip("."), node)]
    return [leaf for key, value in node.items() for leaf in _leaves(value, f"{prefix}{key}.")]
