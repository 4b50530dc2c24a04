"""`atomiclm COMMAND ...`: every command under one name. `python -m atomiclm` is the same."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from atomiclm.cli import VERSION

COMMANDS = {
    "train": "train a model, or with -m every cell of a sweep; repeated, it goes on",
    "plan": "parameters, FLOPs, memory and time of a configuration; trains nothing",
    "prepare": "train the tokenizer and write the token shards ahead of time",
    "generate": "text from a trained model, also in a prompt loop",
    "inspect": "a page of what a trained model makes of a text: loss, layers, attention",
    "evaluate": "trained models, under one protocol or several",
    "compare": "the arms of a study against its baseline, with intervals and verdicts",
    "export": "a trained model for transformers, or its tokenizer for tiktoken",
    "sync": "send runs to Weights & Biases that were trained without it",
    "workspace": "save a view of a study in Weights & Biases",
    "completion": "print what lets bash, zsh or fish complete commands, settings and runs",
}
"""The commands, each the module of that name, and what they do."""

EXAMPLES = """\
examples:
  atomiclm train model=tiny trainer.max_steps=200
  atomiclm plan experiments=gqa_ratio
  atomiclm compare outputs/gqa_ratio

`atomiclm COMMAND --help` has the flags and more examples. Exit status: 0 done; 1 it failed; 2 a mistake in what was
typed; 75 stopped by a signal, and the same command goes on; 130 after Ctrl-C."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that is named first; returns its exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what the line could go on with
        from atomiclm.completion import complete

        complete(parser())
    if not arguments or arguments[0].startswith("-"):
        parser().parse_args(arguments or ["--help"])
    name = arguments[0]
    if name not in COMMANDS:
        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"the commands are {', '.join(COMMANDS)}"
        parser().error(f"no command '{name}'; {hint}")
    module = importlib.import_module(f"atomiclm.{name}")
    sys.argv = [str(module.__file__), *arguments[1:]]  # as after python -m
    return int(module.main() or 0)


def parser() -> argparse.ArgumentParser:
    """The command line, as far as the command's name."""
    listed = "\n".join(f"  {name:12}{what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="atomiclm",
        usage="atomiclm COMMAND ...",
        description=f"Train and compare small decoder-only language models.\n\ncommands:\n{listed}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("command", choices=COMMANDS, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
