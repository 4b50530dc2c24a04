"""A tokenizer as one JSON file, and the checks that let nothing else pass for one.

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

Reading runs no code from the file and is bounded in size, also in the size of what the merges expand to. The rules
that go beyond the shape of the JSON are those of `tokenizer_state.py`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from atomiclm.atomic_io import from_json, read_file, write_atomic
from atomiclm.cli import UserError
from atomiclm.tokenizer.constants import FORMAT_VERSION, MAX_FILE_BYTES, TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.patterns import split_pattern
from atomiclm.tokenizer.tokenizer_state import TokenizerState, is_int, merge_name, refuse
from atomiclm.tokenizer.train_basic import Pair
from atomiclm.tokenizer.unicode_table import UNICODE_SHA256, UNICODE_VERSION

FORMAT = "atomiclm.tokenizer"

FIELDS = {
    "format", "version", "pattern", "unicode", "tie_break", "target_vocab_size", "special_tokens", "whole_pretokens",
    "trained_on", "byte_ids", "merges", "sha256",
}  # fmt: skip

VERSION_1 = "version 1 did not say by which Unicode table the text was split, so its ids cannot be relied on"


def sha256_of(fields: Any) -> str:
    """SHA-256 of a JSON-able value, written without blanks and with sorted keys."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def write_tokenizer_file(path: Path, state: TokenizerState) -> None:
    """Write the file under another name in the same folder, then rename it: readers see the old file or the new one.

    Raises:
        OSError: the folder does not exist or cannot be written to.
    """
    ids = (*state.byte_ids, *state.merge_ids)  # of every token number
    fields = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "pattern": {"name": split_pattern(state.pattern).name, "text": state.pattern},
        "unicode": {"version": UNICODE_VERSION, "sha256": UNICODE_SHA256},
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
    fields["sha256"] = sha256_of(fields)
    write_atomic(path, _render(fields).encode("ascii"))


def read_tokenizer_file(path: Path) -> TokenizerState:
    """Read and check a file.

    Raises:
        ValueError: anything about the file is not as this module's docstring describes; names the file and the field.
        OSError: the file cannot be read.
    """
    fields = read_json(path)
    try:
        return _state(fields)
    except ValueError as error:
        raise UserError(
            f"{path}: {error}; load a file written by save(), or train the tokenizer again and save it"
        ) from error


def read_bounded(path: Path) -> bytes:
    """The bytes of a file that is not larger than a tokenizer can be.

    Raises:
        ValueError: it is larger.
        OSError: it cannot be read, or is a pipe, a socket or a device, which may never end or never begin.
    """
    try:
        return read_file(path, MAX_FILE_BYTES)
    except UserError as error:
        raise UserError(f"{path}: larger than {MAX_FILE_BYTES} bytes, so not a tokenizer; check the path") from error


def read_json(path: Path) -> Any:
    """The value in a JSON file of bounded size; see `atomic_io.from_json`.

    Raises:
        ValueError: the file is not such a file; the message names it.
        OSError: the file cannot be read.
    """
    data = read_bounded(path)
    try:
        return from_json(data)
    except UserError as error:
        raise UserError(f"{path}: {error}; check the path or write the file again") from error


def _render(fields: dict[str, Any]) -> str:
    """JSON with one line a field and one line a merge, so that two files can be compared with `diff`."""
    lines = []
    for key, value in fields.items():
        text = json.dumps(value)
        if key == "merges" and value:
            text = "[\n" + ",\n".join(f"    {json.dumps(merge)}" for merge in value) + "\n  ]"
        lines.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _state(fields: Any) -> TokenizerState:
    """From JSON to the value, field by field; what the value itself checks is left to it."""
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        refuse("format", f"must be {FORMAT!r}")
    version = fields.get("version")
    if not is_int(version) or version != FORMAT_VERSION:
        why = VERSION_1 if is_int(version) and version == 1 else "another atomiclm wrote it"
        refuse("version", f"must be {FORMAT_VERSION}, is {version!r:.80} ({why})")
    for key in sorted(FIELDS ^ fields.keys()):
        refuse(key, "is missing" if key in FIELDS else "is unknown")
    for field, keys in (("pattern", {"name", "text"}), ("unicode", {"version", "sha256"})):
        texts = fields[field]
        if not isinstance(texts, dict) or texts.keys() != keys or not all(isinstance(v, str) for v in texts.values()):
            refuse(field, f"must be an object of the texts {sorted(keys)}")
    pattern, table = fields["pattern"], fields["unicode"]
    if table != {"version": UNICODE_VERSION, "sha256": UNICODE_SHA256}:
        refuse(
            "unicode",
            f"the text was split by Unicode {ascii(table['version'])[1:-1]:.20} "
            f"(table {ascii(table['sha256'])[1:-1]:.12}), "
            f"here it is {UNICODE_VERSION} (table {UNICODE_SHA256:.12}), which may give other ids",
        )
    byte_ids = fields["byte_ids"]
    if not isinstance(byte_ids, list) or not all(map(is_int, byte_ids)):
        refuse("byte_ids", "must be a list of integers")
    if not len(byte_ids) == len(set(byte_ids)) == TOKENIZER_BASE_LENGTH:
        refuse("byte_ids", f"must be {TOKENIZER_BASE_LENGTH} different ids")
    if not isinstance(fields["special_tokens"], dict):
        refuse("special_tokens", "must be an object of spellings and ids")
    if not isinstance(fields["trained_on"], dict | None):
        refuse("trained_on", "must be null or an object of counts")
    merges, merge_ids = _merges(fields["merges"], byte_ids)
    state = TokenizerState(
        pattern["text"],
        fields["target_vocab_size"],
        fields["special_tokens"],
        merges,
        tuple(byte_ids),
        merge_ids,
        fields["tie_break"],
        fields["whole_pretokens"],
        fields["trained_on"],
    )
    if pattern["name"] != (name := split_pattern(state.pattern).name):
        refuse("pattern", f"'name' must be {name!r} for this 'text', is {pattern['name']!r:.80}")
    if fields["sha256"] != sha256_of({key: value for key, value in fields.items() if key != "sha256"}):
        refuse("sha256", "does not fit the content (the file was changed or damaged)")
    return state


def _merges(rows: Any, byte_ids: list[int]) -> tuple[list[Pair], tuple[int, ...]]:
    """From rows of ids to pairs of token numbers and the ids of the merges."""
    if not isinstance(rows, list):
        refuse("merges", "must be a list")
    number_of = {token: number for number, token in enumerate(byte_ids)}
    merges: list[Pair] = []
    for number, row in enumerate(rows, start=TOKENIZER_BASE_LENGTH):
        if not isinstance(row, list) or len(row) != 3 or not all(map(is_int, row)):
            refuse(merge_name(number), f"must be three integers [left, right, id], is {row!r:.80}")
        left, right, token = row
        if left not in number_of or right not in number_of:
            refuse(merge_name(number), f"must join the ids of tokens made before it, is {row!r:.80}")
        merges.append((number_of[left], number_of[right]))
        number_of.setdefault(token, number)
    return merges, tuple(row[2] for row in rows)
