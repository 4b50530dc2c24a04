"""`atomiclm inspect RUN --text FILE`: what a trained model makes of a text, as one HTML page."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atomiclm.atomic_io import write_atomic
from atomiclm.cli import UserError, command, command_parser, say_if_slow, whole_number
from atomiclm.machine import wait_briefly
from atomiclm.text_input import read_text
from atomiclm.tracking import find_run

if TYPE_CHECKING:
    from atomiclm.config.load import TrainedRun


EXAMPLES = """\
examples:
  atomiclm inspect RUN
  atomiclm inspect RUN --text notes.txt --output notes.html
  atomiclm inspect RUN --prompt "To be, or not to be, that is the question\""""


@command("inspect")
def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    folder, checkpoint = find_run(arguments.run, arguments.outputs)
    text = arguments.prompt if arguments.text is None else read_text(arguments.text, "--text")
    wait_briefly()
    with say_if_slow(f"loading {folder.path}"):
        import torch

        from atomiclm.config.load import load_run
        from atomiclm.data.order import document_ids
        from atomiclm.inspection import most_tokens, page_html, read
        from atomiclm.tokenizer import END_OF_TEXT

        trained = load_run(folder, checkpoint, arguments.device)
    model, tokenizer = trained.model, trained.tokenizer
    separator = tokenizer.special_tokens[END_OF_TEXT]  # stands before each document
    if text is None:
        what, tokens = "the beginning of its validation text", _validation_tokens(trained)
    else:
        what, tokens = arguments.text or "--prompt", [separator, *tokenizer.encode(text)]
    if len(tokens) < 2:
        raise UserError(f"{what}: no text in it; give at least a character")
    most = most_tokens(model, arguments.max_tokens)
    shown, notes = tokens[: most + 1], []
    if len(shown) < len(tokens) and text is not None:
        limits = {arguments.max_tokens: "--max-tokens allows", model.context_length: "the model's context holds"}
        why = limits.get(most, "a page of 1.5 MB has room for, with so many layers and heads")
        notes = [f"The text has {len(tokens) - 1:,} tokens; these are the first {most:,}, as many as {why}."]
        print(f"atomiclm inspect: {notes[0]}", file=sys.stderr)
    documents = None
    if trained.config["trainer"].get("separate_documents"):
        ids = document_ids(torch.tensor([shown[:-1]]).numpy(), separator)
        documents = torch.tensor(ids, device=next(model.parameters()).device)
    reading = read(model, tokenizer, shown, arguments.alternatives, documents)
    facts = {
        "text:": what,
        "checkpoint": trained.checkpoint.name,
        "layers": str(model.num_layers),
        "dim": str(model.dim),
        "context": str(model.context_length),
    }
    path = Path(arguments.output) if arguments.output else folder.path / "inspect.html"
    write_atomic(path, page_html(reading, tokenizer, folder.run_id, facts, notes).encode("utf-8"))
    print(path)
    return 0


def _validation_tokens(trained: "TrainedRun") -> list[int]:
    """The first tokens of the run's validation text: as many as its context holds, and one to begin with."""
    from atomiclm.config.load import prepare_corpus

    fix = "give a text with --text FILE or --prompt"
    try:
        with say_if_slow("preparing the run's text"):
            corpus = prepare_corpus({**trained.config, "cache_dir": None})  # this machine's, whatever the run had
    except (OSError, ValueError) as error:
        raise UserError(f"the run's own text cannot be had ({error}); {fix}") from error
    if corpus.tokenizer.digest() != trained.tokenizer.digest():
        raise UserError(f"the run's own text has changed since: its tokenizer is another one; {fix}")
    tokens: list[int] = corpus.validation.tokens[: trained.model.context_length + 1].tolist()
    return tokens


def parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "inspect",
        "What a trained model makes of a text, as one HTML page that needs no network: its tokens\n"
        "coloured by loss, what each layer would predict, and where each attention head looks.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("run", help="a run folder, a checkpoint folder in it, or a run id under --outputs")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--text", metavar="FILE", help="the text to read, as the beginning of a document; - is standard "
        "input (default: the beginning of the run's validation text)")  # fmt: skip
    what.add_argument("--prompt", metavar="TEXT", help="the text itself")
    add("--output", metavar="FILE", help="where the page goes (default RUN/inspect.html)")
    add("--max-tokens", type=whole_number(), default=256, help="tokens to show at most; fewer where "
        "the model's context, or a page of 1.5 MB, has no room for them (default 256)")  # fmt: skip
    add("--alternatives", type=whole_number(1, 20), default=5, help="likeliest tokens shown, 1 to 20 (default 5)")
    add("--device", default="cpu", choices=("auto", "cpu", "cuda", "mps"), help="(default cpu)")
    add("--outputs", default="outputs", help="where run ids are looked up (default outputs)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
