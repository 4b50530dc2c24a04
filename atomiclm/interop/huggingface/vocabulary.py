"""The vocabulary and the merges of a `tokenizer.json`: from spellings to token numbers and ids."""

from collections.abc import Mapping
from typing import Any

from atomiclm.interop.huggingface.byte_characters import CHARACTERS, read
from atomiclm.interop.tiktoken.recover import recover_merges
from atomiclm.tokenizer.bpe_ops import Pair
from atomiclm.tokenizer.constants import MAX_VOCAB_SIZE, TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.content import is_int, refuse

type Vocabulary = tuple[tuple[int, ...], list[Pair], tuple[int, ...]]
"""Ids of the bytes, merges as pairs of token numbers, ids of the merges."""


def read_vocabulary(vocab: Any, merges: Any, special_tokens: Mapping[str, int]) -> Vocabulary:
    """Check the two against each other: every entry is a byte, the result of a merge, or a special token.

    Args:
        vocab: spelling to id, in any order; it may list special tokens too.
        merges: pairs of spellings in order of rank, as `["a", "b"]` or `"a b"`.
        special_tokens: spelling and id of each.

    Raises:
        ValueError: they do not fit together; the message names the field.
    """
    if not isinstance(vocab, dict) or not all(map(is_int, vocab.values())):
        refuse("model.vocab", "must be an object of spellings and integers")
    missing = [byte for byte, character in enumerate(CHARACTERS) if character not in vocab]
    if missing:
        refuse("model.vocab", f"must have all 256 bytes, has no {CHARACTERS[missing[0]]!r} (byte {missing[0]})")
    pairs, spellings = _pairs(merges)
    for spelling in spellings[TOKENIZER_BASE_LENGTH:]:
        if spelling not in vocab:
            refuse("model.merges", f"make {spelling!r:.80}, which is not in the vocabulary")
    for spelling in vocab.keys() - set(spellings):
        if spelling not in special_tokens:
            refuse("model.vocab", f"{spelling!r:.80} is neither a byte, nor made by a merge, nor an added token")
        if vocab[spelling] != special_tokens[spelling]:
            refuse("added_tokens", f"{spelling!r:.80} has another id than in the vocabulary")
    ids = [vocab[spelling] for spelling in spellings]
    if len(set(ids)) != len(ids) or not 0 <= min(ids) <= max(ids) < MAX_VOCAB_SIZE:
        refuse("model.vocab", f"must have an id of its own for each spelling, from 0 to {MAX_VOCAB_SIZE - 1}")
    if taken := sorted(set(ids) & set(special_tokens.values())):
        refuse("added_tokens", f"must not have the id of an ordinary token, as {taken[0]} is")
    return tuple(ids[:TOKENIZER_BASE_LENGTH]), pairs, tuple(ids[TOKENIZER_BASE_LENGTH:])


def _pairs(merges: Any) -> tuple[list[Pair], list[str]]:
    """One pair of token numbers for each token in order of rank, and the spelling of every token."""
    if not isinstance(merges, list):
        refuse("model.merges", "must be a list")
    halves: list[list[str]] = []
    for index, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) and part for part in parts):
            refuse(f"model.merges[{index}]", f"must be two spellings, is {merge!r:.80}")
        halves.append(parts)
    made = [left + right for left, right in halves]
    spellings = [*CHARACTERS, *dict.fromkeys(made)]
    numbers = {spelling: number for number, spelling in enumerate(spellings)}
    for index, (left, right) in enumerate(halves):
        if left not in numbers or right not in numbers:
            refuse(f"model.merges[{index}]", f"{left!r:.40} {right!r:.40} joins what nothing makes")
    pairs = [(numbers[left], numbers[right]) for left, right in halves]
    if len(spellings) < TOKENIZER_BASE_LENGTH + len(made):
        return _one_way(pairs, [numbers[spelling] for spelling in made], spellings), spellings
    for index, pair in enumerate(pairs):
        if max(pair) >= TOKENIZER_BASE_LENGTH + index:
            refuse(f"model.merges[{index}]", f"{halves[index]!r:.80} joins what is made later")
    return pairs, spellings


def _one_way(ways: list[Pair], made: list[int], spellings: list[str]) -> list[Pair]:
    """Of a list with all the ways to halve each token, the way that text ever takes.

    Converters from tiktoken write such lists, token by token, since they have only ranks to go by. Which way is taken
    follows from the ranks (`recover_merges`), and the others then never come up.

    Args:
        ways: pairs of token numbers.
        made: the token number that each makes.
        spellings: of all tokens, by token number.
    """
    rule = "make a token more than once, and not as a list of all the ways to make each"
    if made != sorted(made):
        refuse("model.merges", rule)
    try:
        recovered = recover_merges(map(read, spellings[TOKENIZER_BASE_LENGTH:]))
    except ValueError as error:
        refuse("model.merges", f"{rule}: {error}")
    if not set(enumerate(recovered, start=TOKENIZER_BASE_LENGTH)) <= set(zip(made, ways, strict=True)):
        refuse("model.merges", rule)
    return recovered
