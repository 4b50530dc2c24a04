"""`atomiclm generate RUN --prompt "..."`: text from a trained model, as it is drawn."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from itertools import batched
from typing import TYPE_CHECKING

from atomiclm.cli import command, command_parser, from_user, say_if_slow, whole_number
from atomiclm.machine import wait_briefly
from atomiclm.text_input import parse_prompts, read_text
from atomiclm.tracking import find_run
from atomiclm.tracking.console import is_redrawn, printable

if TYPE_CHECKING:
    from atomiclm.generation import Settings, Text, Writer

SETTINGS: dict[str, tuple[type[int] | type[float], str]] = {
    "temperature": (float, "0 takes the likeliest token (default 0.8)"),
    "top_k": (int, "draw from the k likeliest tokens only"),
    "top_p": (float, "draw from the fewest tokens whose probabilities reach p"),
    "min_p": (float, "leave out tokens less likely than p times the likeliest"),
    "max_tokens": (int, "tokens to draw at most (default 200)"),
    "samples": (int, "texts to draw from each prompt (default 1)"),
    "seed": (int, "the same seed draws the same text; more samples take the seeds that follow (default 1)"),
    "alternatives": (int, "show the k likeliest tokens at each place, with probabilities (default 0)"),
}
"""The settings that are flags here and commands in the prompt loop: type, and what each does."""

EXAMPLES = """\
examples:
  atomiclm generate RUN --prompt "def "
  atomiclm generate RUN --interactive
  atomiclm generate RUN --prompts prompts.txt --temperature 0 --json"""


@command("generate")
def main(argv: Sequence[str] | None = None) -> int:
    command_line = parser()
    arguments = command_line.parse_args(argv)
    if arguments.interactive and (arguments.json or arguments.quiet):
        command_line.error("argument --interactive/-i: not allowed with --json or --quiet")
    if arguments.quiet and hasattr(arguments, "alternatives"):
        command_line.error("argument --quiet/-q: not allowed with --alternatives")
    folder, checkpoint = find_run(arguments.run, arguments.outputs)
    prompts = [] if arguments.interactive else _prompts(arguments)
    wait_briefly()
    with say_if_slow(f"loading {folder.path}", quiet=arguments.quiet):
        from atomiclm.config.load import load_run
        from atomiclm.generation import Settings, Writer, converse

        with from_user():
            settings = Settings(**{name: value for name, value in vars(arguments).items() if name in SETTINGS})
        trained = load_run(folder, checkpoint, arguments.device)
    writer = Writer(trained.model, trained.tokenizer, arguments.compile)
    if arguments.interactive:
        converse(lambda prompt, now: _stream(writer, prompt, now, facts=True), settings, SETTINGS)
    elif len(prompts) == 1 and not arguments.json and not arguments.quiet:
        _stream(writer, prompts[0], settings)
    else:
        _write_batches(writer, prompts, settings, arguments)
    return 0


def parser() -> argparse.ArgumentParser:
    parser = command_parser("generate", "Text from a trained model.", EXAMPLES)
    parser.add_argument("run", help="a run folder, a checkpoint folder in it, or a run id under --outputs")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--prompt",
        help="text to continue; - reads all of standard input (a newline at its very end is left out); default: the "
        "start of a document",
    )
    what.add_argument(
        "--prompts",
        metavar="FILE",
        help='many prompts, drawn in batches: one a line, or JSON lines with {"prompt": ...}; - is standard input; '
        "each gets the text that it gets alone",
    )
    what.add_argument("-i", "--interactive", action="store_true", help="a prompt loop; /help in it shows the rest")
    settings = parser.add_argument_group("settings")
    for name, (kind, meaning) in SETTINGS.items():
        flag = f"--{name.replace('_', '-')}"
        settings.add_argument(flag, type=kind, metavar="X", help=meaning, default=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object a line for each text, with tokens and "
        "log-probability (nats, by the model, without temperature and filters)")  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="print what was drawn, and nothing else")
    parser.add_argument("--batch-size", type=whole_number(), default=16, help="texts drawn together (default 16)")
    parser.add_argument("--compile", action="store_true", help="compile the pass of each token (torch.compile); pays "
        "off after some thousand tokens")  # fmt: skip
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda", "mps"), help="(default cpu)")
    parser.add_argument("--outputs", default="outputs", help="where run ids are looked up (default outputs)")
    return parser


def _prompts(arguments: argparse.Namespace) -> list[str]:
    if arguments.prompts is not None:
        return parse_prompts(read_text(arguments.prompts, "--prompts"), f"--prompts {arguments.prompts}")
    if arguments.prompt == "-":
        return [read_text("-", "--prompt").removesuffix("\n")]
    return [arguments.prompt or ""]


def _stream(writer: "Writer", prompt: str, settings: "Settings", facts: bool = False) -> None:
    """Print the texts of one prompt, one after another, as they are drawn."""
    _warn_if_cut(writer, prompt)
    for number in range(settings.samples):
        seed = settings.seed + number
        if settings.samples > 1:
            print(_dim(f"--- sample {number + 1}, seed {seed}"))
        print(_dim(_safe(prompt)), end="", flush=True)
        (text,) = writer.write([prompt], [seed], settings, lambda piece: print(_safe(piece), end="", flush=True))
        print(flush=True)
        _print_choices(text)
        if facts:
            likely = f"log-probability {text.log_probability:.1f}"
            print(_dim(f"--- seed {seed}, {len(text.tokens)} tokens, {likely}, stopped by {text.stop}"))


def _write_batches(
    writer: "Writer", prompts: Sequence[str], settings: "Settings", arguments: argparse.Namespace
) -> None:
    """Print the texts of many prompts, in order, as each batch is done."""
    numbered = list(enumerate(prompts, 1))
    rows = [(number, prompt, settings.seed + more) for number, prompt in numbered for more in range(settings.samples)]
    for batch in batched(rows, arguments.batch_size):
        numbers, prompts_of, seeds = zip(*batch, strict=True)
        for number, text in zip(numbers, writer.write(prompts_of, seeds, settings), strict=True):
            if not arguments.quiet:
                _warn_if_cut(writer, text.prompt)
            if arguments.json:
                print(json.dumps(dataclasses.asdict(text)), flush=True)
            elif arguments.quiet:
                print(_safe(text.text), flush=True)
            else:
                print(_dim(f"--- prompt {number} of {len(prompts)}, seed {text.seed}"))
                print(_dim(_safe(text.prompt)) + _safe(text.text), flush=True)
                _print_choices(text)


def _print_choices(text: "Text") -> None:
    if text.choices:
        from rich.console import Console

        from atomiclm.generation import table_of

        Console().print(table_of(text.choices))


def _warn_if_cut(writer: "Writer", prompt: str) -> None:
    length, context_length = len(writer.encode(prompt)), writer.model.context_length
    if length > context_length:
        seen = f"the model, with a context of {context_length}, sees the last {max(1, context_length // 2)} of them"
        print(f"the prompt has {length} tokens; {seen}", file=sys.stderr)


def _safe(text: str) -> str:
    """What a terminal is shown of it: models do write escape sequences."""
    return printable(text) if is_redrawn(sys.stdout) else text


def _dim(text: str) -> str:
    return f"\x1b[2m{text}\x1b[0m" if is_redrawn(sys.stdout) and not os.environ.get("NO_COLOR") else text


if __name__ == "__main__":
    sys.exit(main())
