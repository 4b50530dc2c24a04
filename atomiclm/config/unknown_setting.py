"""A setting that is not there: what is said of it, with the name that was probably meant."""

from collections.abc import Iterator, Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig

from atomiclm.config.compose import chooses, compose, parsed, unresolved
from atomiclm.config.errors import ConfigError, Fault, nearest
from atomiclm.config.search_path import groups


def unknown_setting(key: str, overrides: Sequence[str]) -> Fault | None:
    """Return the fault of a setting that the options chosen by `overrides` do not have, with the nearest name.

    None where they do have it.
    """
    base = _options_chosen(overrides)
    parent, _, name = key.rpartition(".")
    node: Any = unresolved(base)
    for part in parent.split(".") if parent else []:
        node = node.get(part, {}) if isinstance(node, dict) else {}
    siblings = [str(sibling) for sibling in node if not str(sibling).startswith("_")] if isinstance(node, dict) else []
    if name in siblings:
        return None
    if elsewhere := _called(name, base):
        return Fault(key, f"no such setting here; did you mean {' or '.join(elsewhere)}?")
    groups = ("experiments", "debug") if not parent else ()
    return Fault(key, f"no such setting{nearest(name, [*siblings, *groups])}")


def settings_called(name: str, overrides: Sequence[str]) -> list[str]:
    """Return the paths of the settings of that name below the top level, with the options chosen by `overrides`."""
    return _called(name, _options_chosen(overrides))


def _called(name: str, base: DictConfig) -> list[str]:
    return [path for path in _paths(unresolved(base)) if path.endswith(f".{name}")]


def _options_chosen(overrides: Sequence[str]) -> DictConfig:
    """The configuration with the options that `overrides` choose and no value set; the default one if that fails."""
    try:
        repository = groups()
        chosen = [one for one in parsed(overrides) if chooses(one, repository) and not one.is_sweep_override()]
        return compose([one.input_line or "" for one in chosen])
    except (HydraException, ConfigError):
        return compose([])


def _paths(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if not str(key).startswith("_"):
            yield f"{prefix}{key}"
            if isinstance(value, dict):
                yield from _paths(value, f"{prefix}{key}.")
