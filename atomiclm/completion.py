"""`atomiclm completion SHELL`: what lets a shell complete commands, flags, settings and runs.

The shell runs `atomiclm` with what has been typed in COMP_LINE; argcomplete answers it, and Hydra of settings.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import argcomplete
from argcomplete.completers import BaseCompleter, FilesCompleter

from atomiclm.cli import command, command_parser

EXAMPLES = """\
examples, for the file that the shell reads when it starts:
  eval "$(atomiclm completion bash)"        ~/.bashrc
  eval "$(atomiclm completion zsh)"         ~/.zshrc, after compinit
  atomiclm completion fish | source         ~/.config/fish/config.fish"""


@command("completion")
def main(argv: Sequence[str] | None = None) -> int:
    print(argcomplete.shellcode(["atomiclm"], True, parser().parse_args(argv).shell))
    return 0


def parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "completion", "Print what lets a shell complete commands, flags, settings and runs of atomiclm.", EXAMPLES
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    return parser


def complete(commands: argparse.ArgumentParser) -> None:
    """Answer the shell and end the process."""
    words = _typed()
    if words:
        os.environ["_ARGCOMPLETE"] = "2"  # the line of the command's own parser begins with its name
        commands = _parser_of(words[0])
    argcomplete.autocomplete(commands, default_completer=_Values(), always_complete_options="long")


def _parser_of(name: str) -> argparse.ArgumentParser:
    if name in ("train", "plan", "prepare"):
        from atomiclm.config import command_line

        return command_line.parser(name)
    module: Any = importlib.import_module(f"atomiclm.{name}")
    parser: argparse.ArgumentParser = module.parser()
    return parser


def _typed() -> list[str]:
    """The words between `atomiclm` and the one that is being typed."""
    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    return [word for word in line.split(" ")[1:-1] if word]


class _Values(BaseCompleter):
    """The values of arguments that have no choices: settings, runs, files."""

    def __call__(
        self, *, prefix: str, action: argparse.Action, parser: argparse.ArgumentParser, parsed_args: argparse.Namespace
    ) -> Iterable[str]:
        if action.dest == "overrides":
            from atomiclm.config.app import complete_setting

            typed = [word for word in _typed() if "=" in word or word.startswith("~")]
            key, _, value = prefix.rpartition("=")
            files = [f"{key}={file}" for file in FilesCompleter()(value)] if value else []
            return [one for one in complete_setting(prefix, typed) if one.startswith(prefix)] or files
        files = FilesCompleter()(prefix)
        if action.dest not in ("run", "runs", "path", "paths"):
            return files
        from atomiclm.tracking.run_folder import runs_in

        outputs = Path(getattr(parsed_args, "outputs", "outputs"))
        folders = [path for path in outputs.glob("*") if path.is_dir()]
        return [*files, *(run.run_id for folder in folders for run in runs_in(folder))]


if __name__ == "__main__":
    sys.exit(main())
