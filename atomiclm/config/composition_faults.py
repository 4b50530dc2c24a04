"""What Hydra and OmegaConf say of a configuration that does not compose, in our words.

Hydra advises `+key=value` for an unknown key, which then passes unread; here the nearest name is told.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.errors import (
    CompactHydraException,
    ConfigCompositionException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import OmegaConfBaseException

from atomiclm.config.errors import ConfigError, Fault, nearest
from atomiclm.config.unknown_setting import unknown_setting


@contextmanager
def composing(overrides: Sequence[str]) -> Iterator[None]:
    """Raise ConfigError for what keeps `overrides` from being composed inside."""
    try:
        yield
    except (CompactHydraException, OmegaConfBaseException) as error:
        raise ConfigError([composition_fault(error, overrides)]) from error


def composition_fault(error: CompactHydraException | OmegaConfBaseException, overrides: Sequence[str]) -> Fault:
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
    cause = error.__cause__
    key = getattr(cause, "full_key", None)
    if isinstance(error, ConfigCompositionException) and isinstance(key, str) and key:
        return unknown_setting(key, overrides) or Fault(key, str(cause).splitlines()[0])
    if (file := re.match(r"In '([^']+)'", text)) and "Cannot merge" in text:
        return Fault(file[1], "has a list where a mapping (name: value) belongs, or a mapping for a list")
    return Fault("config", text)
