"""What Hydra and OmegaConf say of a configuration that does not compose, in our words.

Hydra advises `+key=value` for an unknown key, which then passes unread; here the nearest name is reported.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.errors import (
    CompactHydraException,
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import OmegaConfBaseException

from atomiclm.config.compose import PRESETS, chooses, compose, parsed, unresolved
from atomiclm.config.errors import ConfigError, Fault, nearest


@contextmanager
def composing(overrides: Sequence[str]) -> Iterator[None]:
    """Raise ConfigError for what keeps `overrides` from being composed inside."""
    try:
        yield
    except (CompactHydraException, OmegaConfBaseException) as error:
        raise ConfigError([explain(error, overrides)]) from error


def explain(error: CompactHydraException | OmegaConfBaseException, overrides: Sequence[str]) -> Fault:
    """Return the one fault that kept `overrides` from being composed."""
    if isinstance(error, OmegaConfBaseException):
        return Fault(getattr(error, "full_key", None) or "config", str(error).splitlines()[0])
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return Fault(group or "config", f"no option '{option}'{nearest(option, list(error.options or []))}")
    if isinstance(error, OverrideParseException):
        reason = error.message.splitlines()[0]
        if reason.startswith("Lexer"):
            reason = "it holds a character that is read in quotes only"
        if "=[" in error.override:
            hint = "inside [] quote what holds a = or a space, \"key=['a=1']\""
        else:
            hint = f"a text that is to be taken as it stands: '{error.override.partition('=')[0]}=\"...\"'"
        return Fault(error.override, f"not an override of the form key=value: {reason}; {hint}")
    text = str(error).strip()
    if swept := re.match(r"(?:Sweep parameters|Ambiguous value for argument) '([^']*)'", text):
        key, _, value = swept[1].partition("=")
        hint = f"add -m for a run of each, or give one; a list stands in [], a text in quotes: '{key}=\"...\"'"
        return Fault(key, f"{value} lists several values; {hint}")
    if part := re.match(r"Could not (?:override|delete) '([^']+)'\. No match", text):
        parent = part[1].rpartition("/")[0]
        return Fault(part[1], f"the {parent or 'configuration'} that is chosen has no such part")
    key = getattr(error.__cause__, "full_key", None)
    if isinstance(error, ConfigCompositionException) and isinstance(key, str) and key:
        return _unknown_setting(key, overrides) or Fault(key, str(error.__cause__).splitlines()[0])
    if (file := re.match(r"In '([^']+)'", text)) and "Cannot merge" in text:
        return Fault(file[1], "has a list where a mapping (name: value) belongs, or a mapping for a list")
    return Fault("config", text)


def settings_called(name: str, overrides: Sequence[str] = ()) -> list[str]:
    """Return the paths of the settings of that name below the top level, with the options chosen by `overrides`."""
    return [path for path in _paths(_with_options(overrides)) if path.endswith(f".{name}")]


def _unknown_setting(key: str, overrides: Sequence[str]) -> Fault | None:
    """The fault of a setting that the chosen options do not have, with the nearest name; None where they have it."""
    parent, _, name = key.rpartition(".")
    node: Any = _with_options(overrides)
    for part in parent.split(".") if parent else []:
        node = node.get(part, {}) if isinstance(node, dict) else {}
    siblings = [str(sibling) for sibling in node if not str(sibling).startswith("_")] if isinstance(node, dict) else []
    if name in siblings:
        return None
    if elsewhere := settings_called(name, overrides):
        return Fault(key, f"no such setting here; did you mean {' or '.join(elsewhere)}?")
    return Fault(key, f"no such setting{nearest(name, [*siblings, *(() if parent else PRESETS)])}")


def _with_options(overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration with the options that `overrides` choose and no value set; the default one if that fails."""
    try:
        chosen = [one for one in parsed(overrides) if chooses(one) and not one.is_sweep_override()]
        return unresolved(compose([one.input_line or "" for one in chosen]))
    except (HydraException, ConfigError):
        return unresolved(compose([]))


def _paths(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if not str(key).startswith("_"):
            yield f"{prefix}{key}"
            if isinstance(value, dict):
                yield from _paths(value, f"{prefix}{key}.")
