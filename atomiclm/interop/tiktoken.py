"""tiktoken's formats: `tiktoken.Encoding`, and the `.tiktoken` file of ranks. tiktoken itself may be missing.

Both sides give the same ids for every string that has a UTF-8 form. Two habits differ: tiktoken raises at the spelling
of a special token that was not allowed (pass `disallowed_special=()`), and has U+FFFD for a lone surrogate.

A rank is the id of a token and its position in the order of merging. The file has a line for each token: its bytes in
base64, a blank, its rank.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomiclm.atomic_io import new_folder, read_file, write_atomic
from atomiclm.cli import UserError
from atomiclm.interop.expressions import name_of, tiktoken_reads_alike
from atomiclm.tokenizer import PATTERNS, BasicTokenizer
from atomiclm.tokenizer.constants import MAX_FILE_BYTES, MAX_VOCAB_SIZE, TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.encode import encode_heap
from atomiclm.tokenizer.patterns import split_pattern
from atomiclm.tokenizer.tokenizer_state import TokenizerState, repeated_token, spell_tokens
from atomiclm.tokenizer.train_basic import Pair

if TYPE_CHECKING:
    import tiktoken

NAME = "atomiclm"
MAX_TOKEN_BYTES = 1 << 16
"""Longer tokens are refused; the longest in use have 128 bytes."""

_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) ([0-9]{1,9})")


def to_tiktoken(tokenizer: BasicTokenizer, name: str = NAME) -> tiktoken.Encoding:
    """An encoding of that name with our ids; a ValueError where tiktoken cannot say the tokenizer."""
    try:
        import tiktoken
    except ImportError as error:
        raise ImportError("to_tiktoken needs tiktoken; run: pip install tiktoken") from error
    return tiktoken.Encoding(name, mergeable_ranks=ranks_of(tokenizer), **_but_for_ranks(tokenizer))


def from_tiktoken(encoding: tiktoken.Encoding) -> BasicTokenizer:
    """The tokenizer with the ids of an encoding; its merges are recovered from the ranks.

    Raises:
        ValueError: the split pattern could mean something else in our engine; or see `from_ranks`.
    """
    # The constructor's arguments; tiktoken has no public names for them, and pickles an encoding by these.
    expression = encoding._pat_str
    name = name_of(expression)
    if name is None and not tiktoken_reads_alike(expression):
        raise UserError(
            f"encoding._pat_str: {expression!r:.80} is none of {', '.join(PATTERNS)}, and it may mean something else "
            "in another engine, or leave out text; only patterns for which neither can happen are imported"
        )
    return from_ranks(encoding._mergeable_ranks, name or expression, encoding._special_tokens)


def write_tiktoken(tokenizer: BasicTokenizer, folder: Path) -> tuple[Path, Path]:
    """Write `atomiclm.tiktoken` (the ranks) and `encoding.json` (`name`, `pat_str`, `special_tokens`); return both.

    The folder does not exist yet, or is empty; it appears complete or not at all.
    """
    rest = {"name": NAME, **_but_for_ranks(tokenizer)}
    ranks = ranks_of(tokenizer)
    with new_folder(folder) as partial:
        write_ranks(ranks, partial / f"{NAME}.tiktoken")
        (partial / "encoding.json").write_text(json.dumps(rest, indent=2) + "\n", encoding="utf-8")
    return folder / f"{NAME}.tiktoken", folder / "encoding.json"


def _but_for_ranks(tokenizer: BasicTokenizer) -> dict[str, Any]:
    """The other arguments of an encoding."""
    pattern = tokenizer.pattern
    if pattern not in PATTERNS and not tiktoken_reads_alike(pattern):
        raise UserError(
            f"tokenizer.pattern: {pattern!r:.80} is none of {', '.join(PATTERNS)}, and it may mean something else in "
            "tiktoken's engine, or leave out text, which tiktoken drops; train with one of these"
        )
    for shorter, longer in pairwise(sorted(tokenizer.special_tokens)):  # what begins with a token comes right after it
        if longer.startswith(shorter):
            raise UserError(
                f"tokenizer.special_tokens: {longer!r} begins with {shorter!r}; tiktoken may take either where the "
                "longer one stands, so such spellings cannot be exported"
            )
    return {"pat_str": PATTERNS.get(pattern, pattern), "special_tokens": tokenizer.special_tokens}


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """Read a `.tiktoken` file; a ValueError names file and line where it is none."""
    path = Path(path)
    ranks: dict[bytes, int] = {}
    used: set[int] = set()
    for number, line in enumerate(read_file(path, MAX_FILE_BYTES).split(b"\n"), start=1):
        if not line:
            continue
        match = _LINE.fullmatch(line)
        token = b""
        with contextlib.suppress(ValueError):
            token = base64.b64decode(match[1]) if match else b""
        # Compared as it is written, since base64 can have bits after its end.
        if match is None or base64.b64encode(token) != match[1]:
            rule = "is not a token in base64, a blank and its rank"
        elif token in ranks or (rank := int(match[2])) in used or rank >= MAX_VOCAB_SIZE:
            rule = f"repeats a token or a rank, or its rank is not below {MAX_VOCAB_SIZE}"
        else:
            ranks[token] = rank
            used.add(rank)
            continue
        raise UserError(f"{path}: line {number}: {line!r:.80} {rule}; give a .tiktoken file as tiktoken writes it")
    if not ranks:
        raise UserError(f"{path}: line 1: there are no tokens; give a .tiktoken file as tiktoken writes it")
    return ranks


def write_ranks(ranks: Mapping[bytes, int], path: str | Path) -> None:
    """Write a `.tiktoken` file, by rank, the way `tiktoken.load.dump_tiktoken_bpe` does."""
    lines = [b"%b %d\n" % (base64.b64encode(token), rank) for token, rank in sorted(ranks.items(), key=lambda r: r[1])]
    write_atomic(Path(path), b"".join(lines))


def from_ranks(ranks: Mapping[bytes, int], pattern: str, special_tokens: Mapping[str, int]) -> BasicTokenizer:
    """The tokenizer that gives tiktoken's ids.

    Args:
        ranks: of all tokens, as from `read_ranks`, the 256 bytes included.
        pattern: a name or a regular expression: cl100k_base has "cl100k", o200k_base "o200k", the older ones "gpt2".
        special_tokens: spelling and id of each.

    Raises:
        ValueError: a byte is missing, a token is not made of two earlier ones, or ids collide; says which.
    """
    missing = [value for value in range(TOKENIZER_BASE_LENGTH) if bytes([value]) not in ranks]
    if missing:
        raise UserError(
            f"ranks: the byte {missing[0]} has no token ({len(missing)} are missing), so not every text could be "
            "encoded; give a byte-level vocabulary"
        )
    tokens = sorted((token for token in ranks if len(token) > 1), key=ranks.__getitem__)
    try:
        merges = recover_merges(tokens)
        content = TokenizerState(
            pattern=split_pattern(pattern).text,
            target_vocab_size=1 + max((*ranks.values(), *special_tokens.values())),
            special_tokens=dict(special_tokens),
            merges=merges,
            byte_ids=tuple(ranks[bytes([value])] for value in range(TOKENIZER_BASE_LENGTH)),
            merge_ids=tuple(ranks[token] for token in tokens),
            tie_break=None,
            whole_pretokens=True,
            trained_on=None,
        )
    except ValueError as error:
        raise UserError(f"ranks: {error}; give the ranks of a byte-level BPE vocabulary") from error
    return BasicTokenizer.from_state(content)


def ranks_of(tokenizer: BasicTokenizer) -> dict[bytes, int]:
    """The tokenizer's vocabulary as ranks; a ValueError where ranks cannot say it."""
    refuse_repeated_token(tokenizer, "tiktoken")
    if list(tokenizer.merge_ids) != sorted(tokenizer.merge_ids):
        raise UserError(
            "tokenizer: its merges do not have ascending ids; in tiktoken the id of a token is also its place in the "
            "order of merging, so this vocabulary has no form there; export it for Hugging Face"
        )
    spelled = spell_tokens(tokenizer.merges)
    try:
        exact = recover_merges(spelled[TOKENIZER_BASE_LENGTH:]) == tokenizer.merges
    except UserError:
        exact = False
    if not exact:
        raise UserError(
            "tokenizer: a token's own bytes are not encoded as that token by its merges, so joining by rank, as "
            "tiktoken does, would give other ids; export it for Hugging Face"
        )
    return dict(zip(spelled, (*tokenizer.byte_ids, *tokenizer.merge_ids), strict=True))


def refuse_repeated_token(tokenizer: BasicTokenizer, format_name: str) -> None:
    """Two ids of the same bytes, which byte-pair encoding can learn though it hardly ever does, cannot be said."""
    if twice := repeated_token(tokenizer.merges):
        first, second = (tokenizer.merge_ids[number - TOKENIZER_BASE_LENGTH] for number in twice)
        raise UserError(
            f"tokenizer: ids {first} and {second} both stand for {tokenizer.decode_bytes([first])!r}, learned by "
            f"different merges; {format_name} has one id for the bytes of a token, so train with another vocab_size"
        )


def recover_merges(tokens: Iterable[bytes]) -> list[Pair]:
    """The pair of token numbers that makes each token.

    tiktoken joins the two neighbours whose bytes together are the token of the lowest rank. Hence the last merge that
    makes a token is found by encoding its bytes with the tokens of lower rank only: two parts must remain, the pair.

    Joining pairs then gives tiktoken's ids for every text, although tiktoken would join any two parts that spell the
    token. For take two neighbours P, Q that spell a token T: nothing has been joined across their outer edges, so
    between the edges the same has happened as when T's bytes are encoded alone, and P, Q is the pair found here.

    `tokens` are all of two bytes or more, in order of rank; a ValueError names one that is not made of two others.
    """
    ranks: dict[Pair, int] = {}
    for rank, token in enumerate(tokens):
        if len(token) > MAX_TOKEN_BYTES:
            raise UserError(f"the token {token!r:.80} is longer than {MAX_TOKEN_BYTES} bytes")
        parts = encode_heap(token, ranks)
        if len(parts) != 2:
            raise UserError(
                f"the token {token!r:.80} is no merge of two: tokens of lower rank make {len(parts)} parts of it"
            )
        ranks[parts[0], parts[1]] = rank
    return list(ranks)
