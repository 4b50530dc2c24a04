"""What was typed: flags and overrides, told apart and judged by their form before Hydra reads them."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from atomiclm.config.compose import PRESETS, root_keys
from atomiclm.config.errors import ConfigError, Fault


@dataclass(frozen=True)
class CommandLine:
    """A command's arguments.

    Attributes:
        flags: those that Hydra answers: --help, --cfg and their like, with their values.
        overrides: `key=value` and the like; texts that Hydra reads in quotes only are quoted.
        multirun: whether -m was among them.
        config_dir: of --config-dir.
    """

    flags: list[str]
    overrides: list[str]
    multirun: bool
    config_dir: str | None

    @property
    def asks(self) -> bool:
        """Whether it asks Hydra for something to print, and runs nothing."""
        return bool(self.flags)


def read_command_line(arguments: Sequence[str]) -> CommandLine:
    """Tell flags and overrides apart.

    Raises:
        ConfigError: a setting written as a flag; a flag that would put another configuration in the place of ours.
        SystemExit: no such flag, with status 2.
    """
    _check_dashes(arguments)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flag = parser.add_argument
    questions = [
        flag("-h", "--help", action="store_true"),
        flag("--hydra-help", action="store_true"),
        flag("-c", "--cfg", choices=("job", "hydra", "all")),
        flag("--resolve", action="store_true"),
        flag("-p", "--package"),
        flag("-i", "--info", nargs="?", const="all"),
        flag("-sc", "--shell-completion", action="store_true"),
    ]
    flag("-m", "--multirun", action="store_true")
    flag("-r", "--run", action="store_true")
    flag("-cd", "--config-dir")
    refused = [flag("-cn", "--config-name"), flag("-cp", "--config-path"), flag("--experimental-rerun")]
    flag("overrides", nargs="*")
    given, unknown = parser.parse_known_intermixed_args(list(arguments))
    if unknown:
        _check_unknown_flags(unknown)
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if given.resolve and not (given.cfg or given.help):
        parser.error("--resolve goes with --cfg or --help")
    modes = [f"--{name}" for name in ("run", "multirun", "cfg", "info") if getattr(given, name)]
    if len(modes) > 1:
        parser.error(f"give only one of {' '.join(modes)}")
    rule = "atomiclm's commands have their own primary configuration; put options into a --config-dir, or an experiment"
    if faults := [Fault(each.option_strings[-1], rule) for each in refused if getattr(given, each.dest) is not None]:
        raise ConfigError(faults)
    flags = []
    for question in questions:
        value = getattr(given, question.dest)
        if value not in (None, False):
            flags += [question.option_strings[-1], *([] if value is True else [value])]
    return CommandLine(flags, [quoted(one) for one in given.overrides], given.multirun, given.config_dir)


def _check_dashes(arguments: Sequence[str]) -> None:
    """Refuse settings that are written as flags: `--model=tiny`, `-model=tiny`, `--optim.lr 3e-4`."""
    if not any(re.match("-+[A-Za-z]{3}", argument) for argument in arguments):
        return
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


def _check_unknown_flags(flags: Sequence[str]) -> None:
    """Of flags that there are not, refuse those that have the name of a setting, with the setting's whole name."""
    from atomiclm.config.explain import settings_called

    faults = []
    for flag in flags:
        name, _, value = flag.lstrip("-").partition("=")
        if flag.startswith("-") and (settings := settings_called(name)):
            choices = " or ".join(f"{setting}={value or '...'}" for setting in settings)
            faults.append(Fault(flag, f"is no flag; did you mean the setting {choices}, without dashes?"))
    if faults:
        raise ConfigError(faults)


_STRUCTURE = re.compile(r"""[][(){},"\\$]""")
"""What makes of a value more than a text: a list, a choice, an interpolation; or a text that is quoted already."""

_QUOTED_ONLY = re.compile(r"[^A-Za-z0-9_/+.%*@?|: \t-]")
"""What Hydra reads in quotes only: a letter with an accent, a `=` as in a run's folder, `#`."""


def quoted(argument: str) -> str:
    """Quote a value that is plainly a text and that Hydra would not read as it stands."""
    key, _, value = argument.partition("=")
    if value.startswith("'") or _STRUCTURE.search(value) or not _QUOTED_ONLY.search(value):
        return argument
    return f'{key}="{value}"'
