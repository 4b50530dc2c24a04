"""From tokens to merges: what tiktoken leaves out of its files, found again.

tiktoken keeps no merges. Its rule is: join the two neighbours whose bytes together are the token of the lowest rank.
Hence the last merge that makes a token is found by encoding its bytes with the tokens of lower rank only. Exactly two
parts must remain, and they are the pair.

Joining pairs then gives tiktoken's ids for every text, although tiktoken would join any two parts that spell the
token, not only this pair. For take two neighbours P, Q in some text that spell a token T: nothing has been joined
across their outer edges, so between the edges the same has happened as when T's bytes are encoded alone. That ends in T
by way of the pair found here, so P, Q is that pair.
"""

from collections.abc import Iterable

from atomiclm.tokenizer.bpe_ops import Pair
from atomiclm.tokenizer.constants import TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.encode_pretoken import encode_heap
from atomiclm.user_error import UserError

MAX_TOKEN_BYTES = 1 << 16
"""Longer tokens are refused; the longest in use have 128 bytes."""


def recover_merges(tokens: Iterable[bytes]) -> list[Pair]:
    """The pair of token numbers that makes each token.

    Args:
        tokens: all tokens of two bytes or more, in order of rank.

    Raises:
        ValueError: a token is not made by joining two earlier ones, so this is no vocabulary of byte-pair encoding.
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
    assert all(max(pair) < TOKENIZER_BASE_LENGTH + rank for pair, rank in ranks.items())
    return list(ranks)
