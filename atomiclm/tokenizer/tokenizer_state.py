"""What a trained tokenizer is, as a value that has checked itself, and the JSON file that holds it.

A token has a number and an id. Its NUMBER is ours: 0 to 255 are the values of a byte, 256 + i is the i-th merge. Its ID
is what the user sees. In a tokenizer trained here the two are equal. One that comes from elsewhere keeps the ids it
came with (GPT-2 calls the byte "!" 0), and `byte_ids` and `merge_ids` lead from the number to the id.

    {
      "format": "atomiclm.tokenizer",
      "version": 2,
      "pattern": {"name": "gpt4", "text": "(?i:'s|..."},        the text decides, the name is for people
      "unicode": {"version": "16.0.0", "sha256": "..."},        what the pattern calls a letter or a number
      "tie_break": "bytes",                                     between pairs of equal count; null: not known
      "target_vocab_size": 4096,
      "special_tokens": {"<|endoftext|>": 4095},
      "whole_pretokens": false,                                 true: a pretoken that is a token is not merged
      "trained_on": {"bytes": 1115394, "pretokens": ..., "distinct_pretokens": ...},      null: not known
      "byte_ids": [0, 1, 2, ...],                               the ids of the 256 bytes
      "merges": [
        [32, 116, 256],                                         ids: left, right, and what they become: one line a merge
        ...
      ],
      "sha256": "..."                                           of all the fields above
    }

Reading runs no code from the file and is bounded in size, also in the size of what the merges expand to.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, Self

from atomiclm.atomic_io import read_json, write_atomic
from atomiclm.cli import UserError
from atomiclm.tokenizer.constants import (
    FORMAT_VERSION,
    MAX_COUNT,
    MAX_FILE_BYTES,
    MAX_SPECIAL_CHARACTERS,
    MAX_SPECIAL_TOKENS,
    MAX_VOCAB_SIZE,
    MAX_VOCABULARY_BYTES,
    TOKENIZER_BASE_LENGTH,
)
from atomiclm.tokenizer.patterns import PATTERNS, split_pattern
from atomiclm.tokenizer.pretokenize import Finder, special_finder, to_bytes
from atomiclm.tokenizer.train_basic import Pair, TieBreak
from atomiclm.tokenizer.unicode_table import UNICODE_SHA256, UNICODE_VERSION

FORMAT = "atomiclm.tokenizer"

FIELDS: dict[str, Any] = {
    "format": object, "version": object, "pattern": dict, "unicode": object, "tie_break": object,
    "target_vocab_size": object, "special_tokens": dict, "whole_pretokens": object, "trained_on": dict | None,
    "byte_ids": list, "merges": list, "sha256": object,
}  # fmt: skip
"""The fields of the file, and the types of those that are taken apart before they are checked."""

UNICODE = {"version": UNICODE_VERSION, "sha256": UNICODE_SHA256}

VERSION_1 = "version 1 did not say by which Unicode table the text was split, so its ids cannot be relied on"

TRAINED_ON = {"bytes", "pretokens", "distinct_pretokens"}
"""What is remembered of the corpus."""


@dataclass(frozen=True)
class TokenizerState:
    """All that a tokenizer file says. One that breaks a rule cannot be made: a ValueError names the file's field."""

    pattern: str  # the regular expression that splits text
    target_vocab_size: int  # what training was asked for, at least `vocab_size`
    special_tokens: dict[str, int]  # spelling and id of each
    merges: list[Pair]  # of token numbers, in order of rank; each joins tokens made before it, and no two are equal
    byte_ids: tuple[int, ...]  # the id of each of the 256 bytes
    merge_ids: tuple[int, ...]  # of each merge; all ids are distinct and below `MAX_VOCAB_SIZE`, there may be gaps
    tie_break: TieBreak | None  # how pairs of equal count were ordered (see `train_basic.py`); None: nobody knows
    # A pretoken that is a token becomes it without merging, as in tiktoken and with Hugging Face's `ignore_merges`. No
    # two tokens can then have the same bytes.
    whole_pretokens: bool
    trained_on: Mapping[str, int] | None  # bytes, pretokens, distinct pretokens of the corpus; None: nobody knows

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

    @cached_property
    def vocab_size(self) -> int:
        """The highest id + 1."""
        return 1 + max((*self.byte_ids, *self.merge_ids, *self.special_tokens.values()))

    @cached_property
    def ranks(self) -> dict[Pair, int]:
        """Pair to its index in `merges`, the first if there are several."""
        return dict(zip(reversed(self.merges), reversed(range(len(self.merges))), strict=True))

    @cached_property
    def special_finder(self) -> Finder:
        """What finds any of the special tokens in a text, of which there may be thousands."""
        return special_finder(map(to_bytes, self.special_tokens))

    def __post_init__(self) -> None:
        if self.pattern in PATTERNS:
            refuse("pattern", "'text' must be the regular expression itself, not its name")
        try:
            split_pattern(self.pattern)
        except ValueError as error:
            refuse("pattern", f"{error!s:.500}")
        number, characters = len(self.special_tokens), sum(map(len, self.special_tokens))
        if number > MAX_SPECIAL_TOKENS or characters > MAX_SPECIAL_CHARACTERS:
            rule = f"must be at most {MAX_SPECIAL_TOKENS} with {MAX_SPECIAL_CHARACTERS} characters together"
            refuse("special_tokens", f"{rule}, are {number} with {characters}")
        try:
            check_special_tokens(list(self.special_tokens))
        except ValueError as error:
            refuse("special_tokens", str(error))
        self._check_ids()
        self._check_merges()
        if type(self.whole_pretokens) is not bool:
            refuse("whole_pretokens", f"must be true or false, is {self.whole_pretokens!r:.80}")
        if self.whole_pretokens and (twice := repeated_token(self.merges)):
            first, second = (_name(number) for number in twice)
            refuse("whole_pretokens", f"must be false, since {first} and {second} make the same bytes")
        if self.tie_break not in ("bytes", "huggingface", None):
            refuse("tie_break", f"must be 'bytes', 'huggingface' or null, is {self.tie_break!r:.80}")
        if not is_int(self.target_vocab_size) or not self.vocab_size <= self.target_vocab_size <= MAX_COUNT:
            refuse("target_vocab_size", f"must be an integer >= {self.vocab_size}, is {self.target_vocab_size!r:.80}")
        if self.trained_on is not None:
            counts = self.trained_on.values()
            if self.trained_on.keys() != TRAINED_ON or not all(is_int(n) and 0 <= n <= MAX_COUNT for n in counts):
                refuse("trained_on", f"must be null or have a count for each of {sorted(TRAINED_ON)}")

    def _check_ids(self) -> None:
        if len(self.byte_ids) != TOKENIZER_BASE_LENGTH:
            refuse("byte_ids", f"must be {TOKENIZER_BASE_LENGTH} ids, are {len(self.byte_ids)}")
        if len(self.merge_ids) != len(self.merges):
            refuse("merges", f"must have an id each: {len(self.merges)} merges, {len(self.merge_ids)} ids")
        ids = (*self.byte_ids, *self.merge_ids, *self.special_tokens.values())
        if set(map(type, ids)) == {int} and len(set(ids)) == len(ids) and min(ids) >= 0 and max(ids) < MAX_VOCAB_SIZE:
            return
        seen: set[int] = set()
        for number, token in enumerate(ids):  # which of them it is
            if type(token) is not int or not 0 <= token < MAX_VOCAB_SIZE or token in seen:
                learned = number < TOKENIZER_BASE_LENGTH + len(self.merges)
                taken = ", the id of another token" if is_int(token) and token in seen else ""
                rule = f"must have an id of its own, an integer from 0 to {MAX_VOCAB_SIZE - 1}"
                refuse(_name(number) if learned else "special_tokens", f"{rule}, is {token!r:.80}{taken}")
            seen.add(token)

    def _check_merges(self) -> None:
        repeated = len(self.ranks) < len(self.merges)
        lengths = [1] * TOKENIZER_BASE_LENGTH
        total = TOKENIZER_BASE_LENGTH
        for number, (left, right) in enumerate(self.merges, start=TOKENIZER_BASE_LENGTH):
            if not (0 <= left < number and 0 <= right < number):
                refuse(_name(number), "must join two tokens made before it")
            if repeated and self.ranks[left, right] < number - TOKENIZER_BASE_LENGTH:
                refuse(_name(number), "joins the same two tokens as an earlier merge")
            lengths.append(length := lengths[left] + lengths[right])
            total += length
            # At once, and not at the end: forty merges can double a token forty times.
            if total > MAX_VOCABULARY_BYTES:
                refuse(_name(number), f"brings the tokens to more than {MAX_VOCABULARY_BYTES} bytes together")


def check_special_tokens(special_tokens: Sequence[str]) -> tuple[str, ...]:
    """Return the tokens as a tuple, or say what is wrong with them in a ValueError."""
    if isinstance(special_tokens, str):
        raise ValueError(f"special_tokens: expected a list of strings; write [{special_tokens!r}]")
    seen: dict[str, None] = {}
    for token in special_tokens:
        if not isinstance(token, str):
            fault = "is not a string; put it in quotes"
        elif not token:
            fault = "is empty and would match everywhere; give it a spelling or remove it"
        elif re.search("[\ud800-\udfff]", token):
            fault = "holds a surrogate, which has no UTF-8; use other characters"
        elif token in seen:
            fault = "is given twice; each token has one id, remove one of them"
        else:
            seen[token] = None
            continue
        raise ValueError(f"special_tokens: {token!r} {fault}")
    return tuple(seen)


def is_int(value: Any) -> bool:
    """Whether it is an integer: in Python True is one too, in a file it is not."""
    return type(value) is int


def refuse(field: str, rule: str) -> NoReturn:
    """Say which field breaks which rule."""
    raise UserError(f"field {field!r:.80}: {rule}")


def _name(number: int) -> str:
    """What the file calls the byte, or the merge, of this token number."""
    merge = number - TOKENIZER_BASE_LENGTH
    return f"byte_ids[{number}]" if merge < 0 else f"merges[{merge}]"


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


def sha256_of(fields: Any) -> str:
    """SHA-256 of a JSON-able value, written without blanks and with sorted keys."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def write_tokenizer_file(path: Path, state: TokenizerState) -> None:
    """Write the file, all of it or nothing, with one line a field and one line a merge, so that `diff` compares two."""
    ids = (*state.byte_ids, *state.merge_ids)
    fields = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "pattern": {"name": split_pattern(state.pattern).name, "text": state.pattern},
        "unicode": UNICODE,
        "tie_break": state.tie_break,
        "target_vocab_size": state.target_vocab_size,
        "special_tokens": dict(sorted(state.special_tokens.items(), key=lambda item: item[1])),
        "whole_pretokens": state.whole_pretokens,
        "trained_on": None if state.trained_on is None else dict(state.trained_on),
        "byte_ids": list(state.byte_ids),
        "merges": [
            [ids[left], ids[right], token] for (left, right), token in zip(state.merges, state.merge_ids, strict=True)
        ],
    }
    lines = []
    for key, value in (fields | {"sha256": sha256_of(fields)}).items():
        text = json.dumps(value)
        if key == "merges" and state.merges:
            text = "[\n    " + text[1:-1].replace("], ", "],\n    ") + "\n  ]"
        lines.append(f'  "{key}": {text}')
    write_atomic(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii"))


def read_tokenizer_file(path: Path) -> TokenizerState:
    """Read and check a file; a ValueError names file and field where it is not as this module's docstring says."""
    fields = read_json(path, MAX_FILE_BYTES)
    try:
        return _state(fields)
    except ValueError as error:
        raise UserError(
            f"{path}: {error}; load a file written by save(), or train the tokenizer again and save it"
        ) from error


def _state(fields: Any) -> TokenizerState:
    """From JSON to the value; what the value itself checks is left to it."""
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        refuse("format", f"must be {FORMAT!r}")
    version = fields.get("version")
    if not is_int(version) or version != FORMAT_VERSION:
        why = VERSION_1 if is_int(version) and version == 1 else "another atomiclm wrote it"
        refuse("version", f"must be {FORMAT_VERSION}, is {version!r:.80} ({why})")
    for key in sorted(FIELDS.keys() ^ fields.keys()):
        refuse(key, "is missing" if key in FIELDS else "is unknown")
    for key, kind in FIELDS.items():
        if not isinstance(fields[key], kind):
            kinds = {list: "a list", dict: "an object"}
            refuse(key, f"must be {kinds.get(kind, 'null or an object')}, is {fields[key]!r:.80}")
    if fields["unicode"] != UNICODE:
        theirs = fields["unicode"] if isinstance(fields["unicode"], dict) else {}
        version, table = (f"{ascii(theirs.get(key))[1:-1]:.20}" for key in UNICODE)
        here = f"{UNICODE_VERSION} (table {UNICODE_SHA256:.12})"
        refuse(
            "unicode",
            f"the text was split by Unicode {version} (table {table:.12}), here it is {here}, which may give other ids",
        )
    pattern = fields["pattern"]
    if not isinstance(pattern.get("text"), str):
        refuse("pattern", "must have a 'name' and a 'text'")
    number_of = {token: number for number, token in enumerate(fields["byte_ids"]) if is_int(token)}
    merges: list[Pair] = []
    for number, row in enumerate(fields["merges"], start=TOKENIZER_BASE_LENGTH):
        if not isinstance(row, list) or len(row) != 3 or not all(map(is_int, row)):
            refuse(_name(number), f"must be three integers [left, right, id], is {row!r:.80}")
        merges.append((number_of.get(row[0], -1), number_of.get(row[1], -1)))
        number_of.setdefault(row[2], number)
    others = ("target_vocab_size", "special_tokens", "tie_break", "whole_pretokens", "trained_on")
    state = TokenizerState(
        pattern=pattern["text"],
        merges=merges,
        byte_ids=tuple(fields["byte_ids"]),
        merge_ids=tuple(row[2] for row in fields["merges"]),
        **{key: fields[key] for key in others},
    )
    if pattern != {"name": (name := split_pattern(state.pattern).name), "text": state.pattern}:
        refuse("pattern", f"must have 'text' and the 'name' {name!r} that belongs to it, is {pattern!r:.80}")
    if fields["sha256"] != sha256_of({key: value for key, value in fields.items() if key != "sha256"}):
        refuse("sha256", "does not fit the content (the file was changed or damaged)")
    return state
