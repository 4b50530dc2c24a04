"""tiktoken's ranks: a map from the bytes of a token to its id, which is at the same time its place in the order.

The file (`cl100k_base.tiktoken`) has a line for each token: its bytes in base64, a blank, its rank.
"""

import base64
import re
from collections.abc import Mapping
from pathlib import Path

from atomiclm.durable import write_whole
from atomiclm.interop.tiktoken.recover import recover_merges
from atomiclm.tokenizer import BasicTokenizer
from atomiclm.tokenizer.constants import MAX_VOCAB_SIZE, TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.content import TokenizerFile, repeated_token, spell_tokens
from atomiclm.tokenizer.file_format import read_bounded
from atomiclm.tokenizer.patterns import split_pattern
from atomiclm.user_error import UserError

_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) ([0-9]{1,9})")


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """Read a `.tiktoken` file.

    Raises:
        ValueError: a line is not a token and its rank, or gives a token or a rank twice; names the file and the line.
        OSError: the file cannot be read.
    """
    path = Path(path)
    ranks: dict[bytes, int] = {}
    used: set[int] = set()
    for number, line in enumerate(read_bounded(path).split(b"\n"), start=1):
        if not line:
            continue
        match = _LINE.fullmatch(line)
        token = _decoded(match[1]) if match else None
        if match is None or token is None:
            raise UserError(
                f"{path}: line {number}: {line!r:.80} is not a token in base64, a blank and its rank; "
                "give a .tiktoken file as tiktoken writes it"
            )
        rank = int(match[2])
        if token in ranks or rank in used or rank >= MAX_VOCAB_SIZE:
            raise UserError(
                f"{path}: line {number}: token {token!r:.80} with rank {rank}: tokens and ranks must each come once, "
                f"and ranks be below {MAX_VOCAB_SIZE}; give a .tiktoken file as tiktoken writes it"
            )
        ranks[token] = rank
        used.add(rank)
    if not ranks:
        raise UserError(f"{path}: line 1: there are no tokens; give a .tiktoken file as tiktoken writes it")
    return ranks


def _decoded(text: bytes) -> bytes | None:
    """The bytes, if this is how base64 writes them."""
    try:
        token = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return token if base64.b64encode(token) == text else None


def write_ranks(ranks: Mapping[bytes, int], path: str | Path) -> None:
    """Write a `.tiktoken` file, by rank, the way `tiktoken.load.dump_tiktoken_bpe` does.

    Raises:
        OSError: the folder does not exist or cannot be written to.
    """
    lines = [b"%b %d\n" % (base64.b64encode(token), rank) for token, rank in sorted(ranks.items(), key=lambda r: r[1])]
    write_whole(Path(path), b"".join(lines))


def from_ranks(ranks: Mapping[bytes, int], pattern: str, special_tokens: Mapping[str, int]) -> BasicTokenizer:
    """The tokenizer that gives tiktoken's ids.

    Args:
        ranks: of all tokens, as from `read_ranks`. All 256 bytes must be among them.
        pattern: the name of a pattern, or a regular expression; the file of ranks does not say it. cl100k_base has
            "cl100k", o200k_base "o200k", the older ones "gpt2".
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
        content = TokenizerFile(
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
    return BasicTokenizer.from_content(content)


def ranks_of(tokenizer: BasicTokenizer) -> dict[bytes, int]:
    """The tokenizer's vocabulary as ranks.

    Raises:
        ValueError: ranks cannot say it: two tokens have the same bytes; an earlier merge has a higher id than a later
            one, while a rank is both; or joining by ranks would come to other tokens.
    """
    if twice := repeated_token(tokenizer.merges):
        first, second = (tokenizer.merge_ids[number - TOKENIZER_BASE_LENGTH] for number in twice)
        raise UserError(
            f"tokenizer: ids {first} and {second} both stand for {tokenizer.decode_bytes([first])!r}, learned by "
            "different merges; tiktoken has one id for the bytes of a token, so train with another vocab_size"
        )
    if list(tokenizer.merge_ids) != sorted(tokenizer.merge_ids):
        raise UserError(
            "tokenizer: its merges do not have ascending ids; in tiktoken the id of a token is also its place in the "
            "order of merging, so this vocabulary cannot be said there; export it for Hugging Face"
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
