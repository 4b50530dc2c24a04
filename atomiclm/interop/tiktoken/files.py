"""A tokenizer in the two files that a `tiktoken.Encoding` is made of: its ranks, and the rest."""

import json
from pathlib import Path

from atomiclm.durable import write_whole
from atomiclm.interop.tiktoken.encoding import check_special_tokens, pattern_of
from atomiclm.interop.tiktoken.ranks import ranks_of, write_ranks
from atomiclm.tokenizer import BasicTokenizer

NAME = "atomiclm"


def write_tiktoken(tokenizer: BasicTokenizer, folder: Path) -> tuple[Path, Path]:
    """Write `atomiclm.tiktoken` (see `ranks.py`) and `encoding.json` (`name`, `pat_str`, `special_tokens`).

    Args:
        tokenizer: trained, loaded or imported.
        folder: made if it is not there; it must be empty.

    Returns:
        The two files.

    Raises:
        ValueError: the folder is not empty, or tiktoken cannot say the tokenizer; see `to_tiktoken`.
        OSError: the folder cannot be written to.
    """
    check_special_tokens(tokenizer)
    rest = {"name": NAME, "pat_str": pattern_of(tokenizer), "special_tokens": tokenizer.special_tokens}
    ranks = ranks_of(tokenizer)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not an empty folder; name one that does not exist yet")
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{NAME}.tiktoken", folder / "encoding.json"
    write_ranks(ranks, paths[0])
    write_whole(paths[1], json.dumps(rest, indent=2).encode() + b"\n")
    return paths
