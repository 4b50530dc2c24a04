"""A tokenizer in the two files that a `tiktoken.Encoding` is made of: its ranks, and the rest."""

import json
from pathlib import Path

from atomiclm.durable import new_folder
from atomiclm.interop.tiktoken.encoding import check_special_tokens, pattern_of
from atomiclm.interop.tiktoken.ranks import ranks_of, write_ranks
from atomiclm.tokenizer import BasicTokenizer

NAME = "atomiclm"


def write_tiktoken(tokenizer: BasicTokenizer, folder: Path) -> tuple[Path, Path]:
    """Write `atomiclm.tiktoken` (see `ranks.py`) and `encoding.json` (`name`, `pat_str`, `special_tokens`).

    Args:
        tokenizer: trained, loaded or imported.
        folder: does not exist yet, or is empty; it appears complete or not at all.

    Returns:
        The two files.

    Raises:
        ValueError: the folder is not empty, or tiktoken cannot say the tokenizer; see `to_tiktoken`.
        OSError: the folder cannot be written to.
    """
    check_special_tokens(tokenizer)
    rest = {"name": NAME, "pat_str": pattern_of(tokenizer), "special_tokens": tokenizer.special_tokens}
    ranks = ranks_of(tokenizer)
    names = f"{NAME}.tiktoken", "encoding.json"
    with new_folder(folder) as partial:
        write_ranks(ranks, partial / names[0])
        (partial / names[1]).write_bytes(json.dumps(rest, indent=2).encode() + b"\n")
    return folder / names[0], folder / names[1]
