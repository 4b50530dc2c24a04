"""`atomiclm export RUN DIR`: a trained model, or its tokenizer alone, in another library's files."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from atomiclm.cli import UserError, command, command_parser, say_if_slow
from atomiclm.tracking import RunFolder, find_run

EXAMPLES = """\
examples:
  atomiclm export RUN model/
  atomiclm export RUN model/ --dtype bfloat16
  atomiclm export RUN tokenizer/ --format tiktoken

Exit codes: 0; 1 a file cannot be written; 2 the model or the tokenizer cannot be said in that format."""


@command("export")
def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    folder, checkpoint = find_run(arguments.run, arguments.outputs)
    if arguments.format == "tiktoken":
        _export_tiktoken(arguments, folder)
    else:
        _export(arguments, folder, checkpoint)
    return 0


def parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "export",
        "Write a trained model and its tokenizer so that AutoModelForCausalLM and AutoTokenizer load\n"
        "them, or (--format tiktoken) the tokenizer alone for tiktoken. A model that no architecture\n"
        "there computes exactly is refused, with the options that it does not have; so is a tokenizer that\n"
        "would give other ids.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("run", help="a run folder, a checkpoint folder in it, or a run id under --outputs")
    add("folder", metavar="DIR", help="folder to write; it does not exist yet, or is empty")
    add("--format", default="huggingface", choices=("huggingface", "tiktoken"), help="(default huggingface)")
    add("--dtype", choices=("float32", "bfloat16"), help="of the written weights (default float32)")
    add("-q", "--quiet", action="store_true", help="print results and errors, not what is being done")
    add("--outputs", default="outputs", help="where run ids are looked up (default outputs)")
    return parser


def _export(arguments: argparse.Namespace, folder: RunFolder, checkpoint: Path | None) -> None:
    with say_if_slow(f"reading {folder.path}", quiet=arguments.quiet):
        import torch

        from atomiclm.config.load import load_run

        dtype = arguments.dtype or "float32"
        trained = load_run(folder, checkpoint)
    with say_if_slow(f"writing {arguments.folder}", quiet=arguments.quiet):
        from atomiclm.interop import save_huggingface

        exported = save_huggingface(trained.model, arguments.folder, trained.tokenizer, getattr(torch, dtype))
    print(f"{folder.path}  {trained.checkpoint.name}  as {exported.class_name}, {dtype}")
    for name, size in exported.files.items():
        print(f"  {exported.folder / name}  {size:,} bytes")
    for name in exported.left_out:
        print(f"  left out: {name}")
    print(
        "load it with\n"
        f"  AutoModelForCausalLM.from_pretrained({str(exported.folder)!r})\n"
        f"  AutoTokenizer.from_pretrained({str(exported.folder)!r})"
    )


def _export_tiktoken(arguments: argparse.Namespace, folder: RunFolder) -> None:
    from atomiclm.interop.tiktoken import write_tiktoken
    from atomiclm.tokenizer import BasicTokenizer

    if arguments.dtype:
        raise UserError("--dtype is of weights, and --format tiktoken writes none; leave it out")
    with folder.reading(folder.tokenizer):
        tokenizer = BasicTokenizer.load(folder.tokenizer)
    files = write_tiktoken(tokenizer, Path(arguments.folder))
    print(f"{folder.tokenizer}  {tokenizer.vocab_size:,} ids  for tiktoken")
    for file in files:
        print(f"  {file}  {file.stat().st_size:,} bytes")
    ranks, rest = map(str, files)
    print(
        "load it with\n"
        "  import base64, json, pathlib, tiktoken\n"
        f"  lines = pathlib.Path({ranks!r}).read_text().splitlines()\n"
        "  ranks = {base64.b64decode(token): int(rank) for token, rank in map(str.split, lines)}\n"
        f"  tiktoken.Encoding(mergeable_ranks=ranks, **json.loads(pathlib.Path({rest!r}).read_text()))"
    )


if __name__ == "__main__":
    sys.exit(main())
