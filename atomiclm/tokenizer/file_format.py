"""A tokenizer as one JSON file, and the checks that let nothing else pass for one.

    {
      "format": "atomiclm.tokenizer",
      "version": 1,
      "pattern": {"name": "gpt4", "text": "(?i:'s|..."},        the text decides, the name is for people
      "target_vocab_size": 4096,
      "special_tokens": {"<|endoftext|>": 4095},                the last ids, without a gap
      "merges": [
        [32, 116, 256],                                         left, right, and the id they become: one line a merge
        ...
      ],
      "sha256": "..."                                           of all the fields above
    }

Reading runs no code from the file and is bounded in size, also in the size of what the merges expand to.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atomiclm.tokenizer.bpe_ops import Pair
from atomiclm.tokenizer.constants import (
    FORMAT_VERSION,
    MAX_FILE_BYTES,
    MAX_VOCABULARY_BYTES,
    TOKENIZER_BASE_LENGTH,
)
from atomiclm.tokenizer.patterns import PATTERNS, split_pattern
from atomiclm.tokenizer.special import check_special_tokens

FORMAT = "atomiclm.tokenizer"


@dataclass(frozen=True)
class TokenizerFile:
    """The content of a file.

    Attributes:
        pattern: the regular expression that splits text.
        target_vocab_size: the vocabulary size that training was asked for.
        special_tokens: in the order of their ids.
        merges: in the order learned; the i-th becomes the id 256 + i.
    """

    pattern: str
    target_vocab_size: int
    special_tokens: list[str]
    merges: list[Pair]


def sha256_of(fields: Any) -> str:
    """SHA-256 of a JSON-able value, written without blanks and with sorted keys."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def write_tokenizer_file(path: Path, content: TokenizerFile) -> None:
    """Write the file under another name in the same folder, then rename it: readers see the old file or the new one.

    Raises:
        ValueError: the content is one that `read_tokenizer_file` would refuse.
        OSError: the folder does not exist or cannot be written to.
    """
    first_special = TOKENIZER_BASE_LENGTH + len(content.merges)
    fields = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "pattern": {"name": split_pattern(content.pattern).name, "text": content.pattern},
        "target_vocab_size": content.target_vocab_size,
        "special_tokens": {token: first_special + index for index, token in enumerate(content.special_tokens)},
        "merges": [[left, right, TOKENIZER_BASE_LENGTH + i] for i, (left, right) in enumerate(content.merges)],
    }
    fields["sha256"] = sha256_of(fields)
    _check(fields, path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.temporary")
    try:
        with temporary.open("x", encoding="ascii", newline="\n") as file:
            file.write(_render(fields))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_tokenizer_file(path: Path) -> TokenizerFile:
    """Read and check a file.

    Raises:
        ValueError: anything about the file is not as this module's docstring describes; names the file and the field.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{path}: larger than {MAX_FILE_BYTES} bytes, so not a tokenizer; check the path")
    try:
        fields = json.loads(data, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file ({error}); check the path or train the tokenizer again") from error
    return _check(fields, path)


def _render(fields: dict[str, Any]) -> str:
    """JSON with one line a field and one line a merge, so that two files can be compared with `diff`."""
    lines = []
    for key, value in fields.items():
        text = json.dumps(value)
        if key == "merges" and value:
            text = "[\n" + ",\n".join(f"    {json.dumps(merge)}" for merge in value) + "\n  ]"
        lines.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key is written twice")
    return fields


def _check(fields: Any, path: Path) -> TokenizerFile:
    """All rules of the format, in an order in which each can rely on the ones before."""

    def require(holds: bool, field: str, rule: str) -> None:
        if not holds:
            raise ValueError(
                f"{path}: field {field!r}: {rule}; load a file written by save(), or train and save it again"
            )

    require(isinstance(fields, dict) and fields.get("format") == FORMAT, "format", f"must be {FORMAT!r}")
    version = fields.get("version")
    require(_is_int(version), "version", f"must be an integer, is {version!r:.80}")
    require(version == FORMAT_VERSION, "version", f"must be {FORMAT_VERSION}, is {version} (another atomiclm wrote it)")
    expected = {"format", "version", "pattern", "target_vocab_size", "special_tokens", "merges", "sha256"}
    for key in sorted(expected ^ fields.keys()):
        require(False, key, "is missing" if key in expected else "is unknown")

    pattern = fields["pattern"]
    require(
        isinstance(pattern, dict)
        and pattern.keys() == {"name", "text"}
        and all(isinstance(v, str) for v in pattern.values()),
        "pattern",
        'must be {"name": text, "text": text}',
    )
    try:
        name = split_pattern(pattern["text"]).name
    except ValueError as error:
        raise ValueError(f"{path}: field 'pattern': {error}") from error
    require(pattern["text"] not in PATTERNS, "pattern", "'text' must be the regular expression itself, not its name")
    require(pattern["name"] == name, "pattern", f"'name' must be {name!r} for this 'text', is {pattern['name']!r:.80}")

    merges = _check_merges(fields["merges"], require)

    special_tokens = fields["special_tokens"]
    require(isinstance(special_tokens, dict), "special_tokens", "must be an object of spellings and ids")
    try:
        check_special_tokens(list(special_tokens))
    except ValueError as error:
        raise ValueError(f"{path}: field 'special_tokens': {error}") from error
    vocab_size = TOKENIZER_BASE_LENGTH + len(merges) + len(special_tokens)
    first_special = TOKENIZER_BASE_LENGTH + len(merges)
    ids = list(special_tokens.values())
    require(
        all(map(_is_int, ids)) and sorted(ids) == list(range(first_special, vocab_size)),
        "special_tokens",
        f"ids must be the integers from {first_special} on, right after the merges, are {ids!r:.80}",
    )

    target = fields["target_vocab_size"]
    require(
        _is_int(target) and target >= vocab_size,
        "target_vocab_size",
        f"must be an integer >= {vocab_size}, is {target!r:.80}",
    )
    unsigned = {key: value for key, value in fields.items() if key != "sha256"}
    require(
        fields["sha256"] == sha256_of(unsigned), "sha256", "does not fit the content (the file was changed or damaged)"
    )
    return TokenizerFile(pattern["text"], target, sorted(special_tokens, key=special_tokens.__getitem__), merges)


def _check_merges(merges: Any, require: Callable[[bool, str, str], None]) -> list[Pair]:
    require(isinstance(merges, list), "merges", "must be a list")
    pairs: dict[Pair, None] = {}
    lengths = [1] * TOKENIZER_BASE_LENGTH
    for new_id, merge in enumerate(merges, start=TOKENIZER_BASE_LENGTH):
        where = f"merges[{new_id - TOKENIZER_BASE_LENGTH}]"
        require(
            isinstance(merge, list) and len(merge) == 3 and all(map(_is_int, merge)),
            where,
            f"must be three integers [left, right, id], is {merge!r:.80}",
        )
        left, right, merged_id = merge
        require(merged_id == new_id, where, f"id must be {new_id} (ids are contiguous), is {merged_id}")
        require(
            0 <= left < new_id and 0 <= right < new_id,
            where,
            f"must join ids made before it (0 to {new_id - 1}), joins {left} and {right}",
        )
        require((left, right) not in pairs, where, f"joins {left} and {right}, as an earlier merge does")
        pairs[left, right] = None
        lengths.append(lengths[left] + lengths[right])
        require(lengths[-1] <= MAX_VOCABULARY_BYTES, where, f"makes a token of more than {MAX_VOCABULARY_BYTES} bytes")
    require(
        sum(lengths) <= MAX_VOCABULARY_BYTES,
        "merges",
        f"make tokens of more than {MAX_VOCABULARY_BYTES} bytes together",
    )
    return list(pairs)


def _is_int(value: Any) -> bool:
    return type(value) is int  # in Python, True is an integer too
