"""What a trained tokenizer is, as a value that has checked itself: what a file holds and an importer makes.

A token has a number and an id. Its NUMBER is ours: 0 to 255 are the values of a byte, 256 + i is the i-th merge. Its ID
is what the user sees. In a tokenizer trained here the two are equal. One that comes from elsewhere keeps the ids it
came with (GPT-2 calls the byte "!" 0), and `byte_ids` and `merge_ids` lead from the number to the id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn, Self

from atomiclm.cli import UserError
from atomiclm.tokenizer.constants import (
    MAX_COUNT,
    MAX_SPECIAL_CHARACTERS,
    MAX_SPECIAL_TOKENS,
    MAX_VOCAB_SIZE,
    MAX_VOCABULARY_BYTES,
    TOKENIZER_BASE_LENGTH,
)
from atomiclm.tokenizer.patterns import PATTERNS, split_pattern
from atomiclm.tokenizer.pretokenize import to_bytes
from atomiclm.tokenizer.special_tokens import Finder, check_special_tokens, special_finder
from atomiclm.tokenizer.train_basic import Pair, TieBreak

TIE_BREAKS = ("bytes", "huggingface", None)
"""By which rule pairs of equal count were ordered (see `train_basic.py`); None where nobody knows."""

TRAINED_ON = {"bytes", "pretokens", "distinct_pretokens"}
"""What is remembered of the corpus."""


@dataclass(frozen=True)
class TokenizerState:
    """All that a tokenizer file says. One that breaks a rule cannot be made.

    Attributes:
        pattern: the regular expression that splits text.
        target_vocab_size: the vocabulary size that training was asked for, at least `vocab_size`.
        special_tokens: spelling and id of each.
        merges: pairs of token numbers in order of rank; each joins tokens made before it, and no two are equal.
        byte_ids: the id of each of the 256 bytes.
        merge_ids: the id of each merge. All ids are distinct and below `MAX_VOCAB_SIZE`; there may be gaps.
        tie_break: one of `TIE_BREAKS`.
        whole_pretokens: a pretoken that is a token becomes it without merging, as in tiktoken and with Hugging Face's
            `ignore_merges`. No two tokens can then have the same bytes.
        trained_on: bytes, pretokens and distinct pretokens of the corpus; None where nobody knows.

    Raises:
        ValueError: a rule is broken; the message names the field as the file calls it.
    """

    pattern: str
    target_vocab_size: int
    special_tokens: dict[str, int]
    merges: list[Pair]
    byte_ids: tuple[int, ...]
    merge_ids: tuple[int, ...]
    tie_break: TieBreak | None
    whole_pretokens: bool
    trained_on: Mapping[str, int] | None

    @classmethod
    def learned(
        cls,
        pattern: str,
        target_vocab_size: int,
        special_tokens: Sequence[str],
        merges: list[Pair],
        tie_break: TieBreak | None,
        trained_on: Mapping[str, int] | None,
    ) -> Self:
        """What a tokenizer trained here is: ids without a gap, bytes first, special tokens last."""
        first_special = TOKENIZER_BASE_LENGTH + len(merges)
        return cls(
            pattern=pattern,
            target_vocab_size=target_vocab_size,
            special_tokens={token: first_special + index for index, token in enumerate(special_tokens)},
            merges=merges,
            byte_ids=tuple(range(TOKENIZER_BASE_LENGTH)),
            merge_ids=tuple(range(TOKENIZER_BASE_LENGTH, first_special)),
            tie_break=tie_break,
            whole_pretokens=False,
            trained_on=trained_on,
        )

    @property
    def vocab_size(self) -> int:
        """The highest id + 1."""
        return 1 + max((*self.byte_ids, *self.merge_ids, *self.special_tokens.values()))

    @cached_property
    def special_finder(self) -> Finder:
        """What finds any of the special tokens in a text; made when first wanted, for there may be thousands."""
        return special_finder(map(to_bytes, self.special_tokens))

    def __post_init__(self) -> None:
        if self.pattern in PATTERNS:
            refuse("pattern", "'text' must be the regular expression itself, not its name")
        try:
            split_pattern(self.pattern)
        except ValueError as error:
            refuse("pattern", f"{error!s:.500}")
        _check_special_tokens(self.special_tokens)
        _check_ids(self)
        _check_merges(self.merges)
        if type(self.whole_pretokens) is not bool:
            refuse("whole_pretokens", f"must be true or false, is {self.whole_pretokens!r:.80}")
        if self.whole_pretokens and (twice := repeated_token(self.merges)):
            first, second = (merge_name(number) for number in twice)
            refuse("whole_pretokens", f"must be false, since {first} and {second} make the same bytes")
        if self.tie_break not in TIE_BREAKS:
            refuse("tie_break", f"must be 'bytes', 'huggingface' or null, is {self.tie_break!r:.80}")
        if not is_int(self.target_vocab_size) or not self.vocab_size <= self.target_vocab_size <= MAX_COUNT:
            refuse("target_vocab_size", f"must be an integer >= {self.vocab_size}, is {self.target_vocab_size!r:.80}")
        if self.trained_on is not None:
            counts = self.trained_on.values()
            if self.trained_on.keys() != TRAINED_ON or not all(is_int(n) and 0 <= n <= MAX_COUNT for n in counts):
                refuse("trained_on", f"must be null or have a count for each of {sorted(TRAINED_ON)}")


def is_int(value: Any) -> bool:
    """Whether it is an integer: in Python True is one too, in a file it is not."""
    return type(value) is int


def refuse(field: str, rule: str) -> NoReturn:
    """Say which field breaks which rule."""
    raise UserError(f"field {field!r:.80}: {rule}")


def merge_name(number: int) -> str:
    """What the file calls the merge that makes this token number."""
    return f"merges[{number - TOKENIZER_BASE_LENGTH}]"


def spell_tokens(merges: list[Pair]) -> list[bytes]:
    """The bytes of each token, by token number."""
    spelled = [bytes([value]) for value in range(TOKENIZER_BASE_LENGTH)]
    for left, right in merges:
        spelled.append(spelled[left] + spelled[right])
    return spelled


def repeated_token(merges: list[Pair]) -> tuple[int, int] | None:
    """Two token numbers of the same bytes, if any: merges (ab, c) and (a, bc) can both be learned, though seldom."""
    number_of: dict[bytes, int] = {}
    for number, token in enumerate(spell_tokens(merges)):
        if number_of.setdefault(token, number) != number:
            return number_of[token], number
    return None


def _check_special_tokens(special_tokens: dict[str, int]) -> None:
    characters = sum(map(len, special_tokens))
    if len(special_tokens) > MAX_SPECIAL_TOKENS or characters > MAX_SPECIAL_CHARACTERS:
        refuse(
            "special_tokens",
            f"must be at most {MAX_SPECIAL_TOKENS} with {MAX_SPECIAL_CHARACTERS} characters together, "
            f"are {len(special_tokens)} with {characters}",
        )
    try:
        check_special_tokens(list(special_tokens))
    except ValueError as error:
        refuse("special_tokens", str(error))


def _check_ids(state: TokenizerState) -> None:
    if len(state.byte_ids) != TOKENIZER_BASE_LENGTH:
        refuse("byte_ids", f"must be {TOKENIZER_BASE_LENGTH} ids, are {len(state.byte_ids)}")
    if len(state.merge_ids) != len(state.merges):
        refuse("merges", f"must have an id each: {len(state.merges)} merges, {len(state.merge_ids)} ids")
    seen: set[int] = set()
    named = [(f"byte_ids[{index}]", token) for index, token in enumerate(state.byte_ids)]
    named += [(f"merges[{index}]", token) for index, token in enumerate(state.merge_ids)]
    named += [("special_tokens", token) for token in state.special_tokens.values()]
    for field, token in named:
        if not is_int(token) or not 0 <= token < MAX_VOCAB_SIZE or token in seen:
            taken = ", the id of another token" if is_int(token) and token in seen else ""
            refuse(
                field, f"must have an id of its own, an integer from 0 to {MAX_VOCAB_SIZE - 1}, is {token!r:.80}{taken}"
            )
        seen.add(token)


def _check_merges(merges: list[Pair]) -> None:
    seen: set[Pair] = set()
    lengths = [1] * TOKENIZER_BASE_LENGTH
    total = TOKENIZER_BASE_LENGTH
    for number, pair in enumerate(merges, start=TOKENIZER_BASE_LENGTH):
        left, right = pair
        if not (0 <= left < number and 0 <= right < number):
            refuse(merge_name(number), "must join two tokens made before it")
        if pair in seen:
            refuse(merge_name(number), "joins the same two tokens as an earlier merge")
        seen.add(pair)
        lengths.append(lengths[left] + lengths[right])
        total += lengths[-1]
        # At once, and not at the end: forty merges can double a token forty times.
        if total > MAX_VOCABULARY_BYTES:
            refuse(merge_name(number), f"brings the tokens to more than {MAX_VOCABULARY_BYTES} bytes together")
