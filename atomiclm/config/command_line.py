"""What was typed: flags and overrides, separated; and in our words why Hydra and OmegaConf cannot compose them."""

import argparse
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import zip_longest
from typing import Any

from hydra import errors
from omegaconf.errors import OmegaConfBaseException

from atomiclm.config.build import walk
from atomiclm.config.compose import PRESETS, chooses, compose, options_of, parsed, root_keys, unresolved, value_of
from atomiclm.config.errors import ConfigError, Fault, Stopped, nearest
from atomiclm.config.plugins import CONF, known_options


@dataclass(frozen=True)
class CommandLine:
    """A command's arguments: `questions` are the flags that Hydra answers, with their values."""

    questions: list[str]
    overrides: list[str]
    multirun: bool
    config_dir: str | None
    quiet: bool
    as_json: bool


ABOUT = {
    "train": """\
Train one model, or with -m every cell of a sweep. The same command again goes on with what is not done.

examples:
  atomiclm train model=tiny trainer.max_steps=200
  atomiclm train -m model=tiny model.attention.num_kv_heads=1,2,4 seed=1,2,3
  atomiclm train -m experiments=gqa_ratio
  atomiclm train model=tiny optim.lr=1e-3 --cfg job    print the configuration, train nothing""",
    "plan": """\
Say what a configuration costs: parameters, FLOPs, cache bytes, memory and time, of a study for each arm.

examples:
  atomiclm plan model=small
  atomiclm plan experiments=gqa_ratio
  atomiclm plan -m model=tiny,mini optim=adamw,muon""",
    "prepare": """\
Train the tokenizer, write the token shards, and say what came of it. Training does so itself when it has to.

examples:
  atomiclm prepare data=python
  atomiclm prepare data=text data.path=my_texts/ tokenizer.vocab_size=8192""",
}
"""By command: what it does, with examples."""


def parser(command: str) -> argparse.ArgumentParser:
    """The command line of a command that composes a configuration; it answers no flag by itself."""
    parser = argparse.ArgumentParser(
        prog=f"atomiclm {command}",
        usage=f"atomiclm {command} [group=option ...] [key=value ...] [flags]",
        description=ABOUT[command],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    add, modes = parser.add_argument, parser.add_mutually_exclusive_group()
    add("-h", "--help", action="store_true", help="print this")
    add("--version", action="store_true", help="print the version")
    modes.add_argument("-m", "--multirun", action="store_true", help="the product of all values that are listed")
    modes.add_argument("-r", "--run", action="store_true", help="one run (the default)")
    modes.add_argument("-c", "--cfg", choices=("job", "hydra", "all"), help="print the configuration")
    add("-p", "--package", help="with --cfg: a part of it, such as model.attention")
    add("--resolve", action="store_true", help="with --cfg: follow the references ${...}")
    modes.add_argument("-i", "--info", nargs="?", const="all", help="print how Hydra composes it")
    add("-cd", "--config-dir", metavar="DIR", help="a folder with options of your own")
    add("-q", "--quiet", action="store_true", help="print the result and errors, neither progress nor notes")
    add("--json", action="store_true", help="print the result as a JSON object, the rest on standard error")
    add("--hydra-help", action="store_true", help="print Hydra's own flags")
    add("overrides", nargs="*", help="group=option chooses a file of conf/, key=value sets what it holds")
    return parser


def help_text(command: str) -> str:
    """What --help prints: the flags, and the groups with their options."""
    listed = (
        textwrap.fill(f"{group}: {', '.join(options)}", 100, initial_indent="  ", subsequent_indent="      ")
        for group, options in known_options().items()
    )
    after = f"Every setting and its value: atomiclm {command} --cfg job"
    return "\n".join([parser(command).format_help(), "groups and their options:", *listed, "", after])


def read_command_line(arguments: Sequence[str], command: str = "train") -> CommandLine:
    """Tell flags and overrides apart; ConfigError: a setting written as a flag."""
    command_line = parser(command)
    _check_dashes(arguments, {name for flag in command_line._actions for name in flag.option_strings})
    given = command_line.parse_intermixed_args(list(arguments))
    if given.resolve and not given.cfg:
        command_line.error("--resolve goes with --cfg")
    asked = []
    for flag in ("--version", "--help", "--hydra-help", "--cfg", "--resolve", "--package", "--info"):
        value = getattr(given, flag[2:].replace("-", "_"))
        if value not in (None, False):
            asked += [flag, *([] if value is True else [value])]
    overrides = [quoted(one) for one in given.overrides]
    return CommandLine(asked, overrides, given.multirun, given.config_dir, given.quiet, given.json)


def _check_dashes(arguments: Sequence[str], flags: set[str]) -> None:
    """Refuse settings that are written as flags: `--model=tiny`, `-model=tiny`, `--optim.lr 3e-4`, `--lr=3e-4`."""
    faults = []
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        flag, equals, value = argument.partition("=")
        name = flag.lstrip("-")
        if name == flag or not name or flag in flags:
            continue
        if not equals and not following.startswith("-") and "=" not in following:
            value = following
        is_whole = re.split("[./]", name)[0] in {*root_keys(), *PRESETS, "hydra"}
        settings = [name] if is_whole else settings_called(name)
        if settings:
            written = " or ".join(f"{setting}={value or '...'}" for setting in settings)
            faults.append(Fault(argument, f"a setting is written without dashes; write {written}"))
    if faults:
        raise ConfigError(faults)


def quoted(argument: str) -> str:
    """Quote a value that is plainly a text and that Hydra would not read as it stands: with an accent, a `=`, a `#`."""
    key, _, value = argument.partition("=")
    is_structure = value.startswith("'") or re.search(r"""[][(){},"\\$]""", value)  # a list, a choice, a quoted text
    return argument if is_structure or re.fullmatch(r"[A-Za-z0-9_/+.%*@?|: \t-]*", value) else f'{key}="{value}"'


@contextmanager
def composing(overrides: Sequence[str]) -> Iterator[None]:
    """Raise ConfigError for what keeps `overrides` from being composed inside, and Stopped where a signal did.

    A signal can leave OmegaConf with a node that is half set, over which it then trips while it cleans up: what is
    raised is that error, of whatever type, and the signal is only what it came of.
    """
    try:
        yield
    except Exception as error:
        causes: list[BaseException | None] = [error]
        for cause in causes:  # which grows
            if isinstance(cause, Stopped):
                raise cause from None
            if cause is not None:
                causes += [each for each in (cause.__cause__, cause.__context__) if each not in causes]
        if isinstance(error, errors.CompactHydraException | OmegaConfBaseException):
            raise ConfigError([explain(error, overrides)]) from error
        raise


def explain(error: errors.CompactHydraException | OmegaConfBaseException, overrides: Sequence[str]) -> Fault:
    """Return the one fault that kept `overrides` from being composed."""
    if isinstance(error, OmegaConfBaseException):
        return Fault(getattr(error, "full_key", None) or "config", str(error).splitlines()[0])
    if isinstance(error, errors.MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        if group.startswith("experiments/"):  # where an experiment's own defaults are looked for
            return _chosen_by_a_file(group.removeprefix("experiments/"), option)
        return Fault(group or "config", f"no option '{option}'{nearest(option, list(error.options or []))}")
    if isinstance(error, errors.OverrideParseException):
        reason = error.message.splitlines()[0]
        if reason.startswith("Lexer"):
            reason = "it holds a character that is read in quotes only"
        if "=[" in error.override:
            hint = "inside [] quote what holds a = or a space, \"key=['a=1']\""
        elif "=" not in error.override.strip("="):
            hint = "write it in one word, without spaces around the ="
        else:
            hint = f"to give a text as it is, quote it: '{error.override.partition('=')[0]}=\"...\"'"
        return Fault(error.override, f"not an override of the form key=value: {reason}; {hint}")
    text = str(error).strip()
    if swept := re.match(r"(?:Sweep parameters|Ambiguous value for argument) '([^']*)'", text):
        key, _, value = swept[1].partition("=")
        hint = f"add -m to run each, or give one; a list is written in [], a text in quotes: '{key}=\"...\"'"
        return Fault(key, f"{value} lists several values; {hint}")
    if twice := re.search(r"Multiple values for \S+ To override a value use 'override ([^':]+): ([^']+)'", text):
        return _chosen_by_a_file(twice[1], twice[2])
    if part := re.search(r"Could not (?:override|delete) '([^'@]+)[^']*'\. No match", text):
        if part[1].startswith("experiments/"):
            return _chosen_by_a_file(part[1].removeprefix("experiments/"), "NAME")
        parent = part[1].rpartition("/")[0]
        return Fault(part[1], f"the {parent or 'configuration'} that is chosen has no such part")
    key = getattr(error.__cause__, "full_key", None)
    if isinstance(error, errors.ConfigCompositionException) and isinstance(key, str) and key:
        return _unknown_setting(key, overrides) or Fault(key, str(error.__cause__).splitlines()[0])
    if (file := re.match(r"In '([^']+)'", text)) and "Cannot merge" in text:
        return Fault(file[1], "has a list where a mapping (name: value) belongs, or a mapping for a list")
    return Fault("config", text)


def _chosen_by_a_file(group: str, option: str) -> Fault:
    """The fault of a file whose defaults choose an option of a group in words that do not."""
    options = options_of(group)
    if not options:
        return Fault(group, f"no such group{nearest(group, root_keys())}")
    unknown = "" if option in (*options, "NAME") else f"; no option '{option}'{nearest(option, options)}"
    name = "NAME" if unknown else option
    return Fault(group, f"the defaults of a file choose an option by 'override /{group}: {name}'{unknown}")


def settings_called(name: str, overrides: Sequence[str] = ()) -> list[str]:
    """The paths of the settings of that name below the top level, with the options chosen by `overrides`."""
    return [path for path, _ in walk(with_options(overrides)) if path.endswith(f".{name}")]


def _unknown_setting(key: str, overrides: Sequence[str]) -> Fault | None:
    """The fault of a setting that the chosen options do not have, with the nearest name; None where they have it."""
    parent, _, name = key.rpartition(".")
    settings = with_options(overrides)
    node: Any = dict(walk(settings)).get(parent) if parent else settings | dict.fromkeys(PRESETS)
    siblings = [str(one) for one in node if not str(one).startswith("_")] if isinstance(node, dict) else []
    if name in siblings:
        return None
    if key.startswith(("model.", "tokenizer.")) and value_of("trainer.init_from", overrides):
        fix = f"if the source of trainer.init_from has it, type +{key}={value_of(key, overrides)}"
        return Fault(key, f"no such setting{nearest(name, siblings)}; {fix}")
    group = parent.replace(".", "/")
    files = sorted((CONF / group).glob("*.yaml")) if group else []
    if options := [file.stem for file in files if re.search(rf"^{re.escape(name)}:", file.read_text(), re.MULTILINE)]:
        return Fault(key, f"no such setting here; it is one of {' and '.join(f'{group}={one}' for one in options)}")
    if elsewhere := settings_called(name, overrides):
        near = [f"{parent}.{one}".lstrip(".") for one in get_close_matches(name, siblings, n=1, cutoff=0.8)]
        return Fault(key, f"no such setting here; did you mean {' or '.join([*near, *elsewhere])}?")
    return Fault(key, f"no such setting{nearest(name, siblings)}")


def with_options(overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration with the options that `overrides` choose and no value set; the default one if that fails."""
    try:
        chosen = [one for one in parsed(overrides) if chooses(one) and not one.is_sweep_override()]
        return unresolved(compose([one.input_line or "" for one in chosen]))
    except (errors.HydraException, ConfigError):
        return unresolved(compose([]))
