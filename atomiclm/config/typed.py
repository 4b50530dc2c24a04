"""What was typed, judged before Hydra reads it: flags, lengths, numbers that stand for text, and what Hydra acts on."""

import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from atomiclm.config.compose import PRESETS, chooses, compose, compose_hydra, parsed, root_keys, unresolved
from atomiclm.config.errors import ConfigError, Fault
from atomiclm.config.hydra_node import hydra_faults
from atomiclm.config.overrides import override_key
from atomiclm.config.search_path import groups
from atomiclm.config.unknown_setting import settings_called
from atomiclm.config.validate import takes_text

MAX_CHARACTERS = 10_000
"""Of one override; a list of that length takes the parser five seconds, by the square of it."""
MAX_BRACKETS = 40
"""Of one kind in one override: Hydra's parser calls itself several times for each, and Python allows 1000 calls."""


def check_dashes(arguments: Sequence[str]) -> None:
    """Refuse settings that are written as flags: `--model=tiny`, `-model=tiny`, `--optim.lr 3e-4`.

    Raises:
        ConfigError: with what to type.
    """
    roots = {*root_keys(), *PRESETS, "hydra"}
    faults = []
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        key, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and re.split("[./]", key)[0] in roots:
            if not equals and not following.startswith("-") and "=" not in following:
                value = following
            faults.append(Fault(argument, f"a setting is written without dashes; write {key}={value or '...'}"))
    if faults:
        raise ConfigError(faults)


def check_unknown_flags(flags: Sequence[str]) -> None:
    """Of flags that Hydra does not know, tell those that have the name of a setting.

    Raises:
        ConfigError: with the whole name of each such setting.
    """
    faults = []
    for flag in flags:
        name, _, value = flag.lstrip("-").partition("=")
        if flag.startswith("-") and (settings := settings_called(name, [])):
            choices = " or ".join(f"{setting}={value or '...'}" for setting in settings)
            faults.append(Fault(flag, f"is no flag; did you mean the setting {choices}, without dashes?"))
    if faults:
        raise ConfigError(faults)


def check_typed(asked: Namespace) -> None:
    """Judge flags and overrides by their form.

    Raises:
        ConfigError: a flag that puts another configuration in the place of the checked one; an override that Hydra
            would take minutes to read.
    """
    faults = [*_flags(asked), *_lengths(asked.overrides)]
    if faults:
        raise ConfigError(faults)


def check_hydra(overrides: Sequence[str]) -> None:
    """Compose what `overrides` ask for before Hydra does, and judge its `hydra` node.

    Those that list several values are left out: a sweep composes, and so judges, each of its cells before the first.

    Raises:
        ConfigError: the node would run code, or change what is not a configuration's to change.
    """
    single = [one.input_line or "" for one in parsed(overrides) if not one.is_sweep_override()]
    if faults := hydra_faults(*compose_hydra(single)):
        raise ConfigError(faults)


def texts_quoted(overrides: Sequence[str]) -> list[str]:
    """Quote each number, true and false that is typed where text is wanted, which Hydra would not give back as typed.

    So name=1e5 is the folder 1e5, and trainer.branch_from=12e45678 a hash.
    """
    repository = groups()
    given = [(one, one.input_line or "") for one in parsed(overrides)]
    scalars = {text for one, text in given if not one.is_sweep_override() and isinstance(one.value(), int | float)}
    if not scalars:
        return list(overrides)
    single = [text for one, text in given if chooses(one, repository) and not one.is_sweep_override()]
    config = unresolved(compose(single))
    return [
        '{}="{}"'.format(*text.split("=", 1)) if text in scalars and takes_text(config, override_key(text)) else text
        for _, text in given
    ]


def _flags(asked: Namespace) -> Iterator[Fault]:
    rule = "atomiclm's commands have their own primary configuration; put options into a --config-dir, or an experiment"
    for flag in ("config_path", "config_name"):
        if getattr(asked, flag) is not None:
            yield Fault(f"--{flag.replace('_', '-')}", rule)
    if asked.experimental_rerun is not None:
        yield Fault("--experimental-rerun", "reads a pickle, which runs what is in it; give the command again instead")


def _lengths(overrides: Sequence[str]) -> Iterator[Fault]:
    for override in overrides:
        key = override.partition("=")[0][:60]
        if len(override) > MAX_CHARACTERS:
            yield Fault(key, f"has {len(override):,} characters, and {MAX_CHARACTERS:,} are read; put it into a file")
        elif max(override.count(bracket) for bracket in "[{(") > MAX_BRACKETS:
            yield Fault(key, f"has more than {MAX_BRACKETS} brackets of a kind; put it into a file")
        elif override.partition("=")[0].count(".") > MAX_BRACKETS:
            yield Fault(key, f"is nested more than {MAX_BRACKETS} levels deep; no setting is")
