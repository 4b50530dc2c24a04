"""What the manifest of a folder of shards must say, so that what reads it later need not doubt a field.

Hashes show that a folder is as it was written. Not that whoever wrote it meant well: a cache can be handed on, and a
manifest with a made-up count of bytes would make every bits per byte a made-up figure.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from atomiclm.data.cache import MANIFEST
from atomiclm.data.shards import token_dtype
from atomiclm.user_error import UserError

SPLITS = ("train", "validation")
COUNTS = ("bytes", "tokens", "documents")


def check_manifest(folder: Path, manifest: Mapping[str, Any], known: Mapping[str, Any], parts: Sequence[str]) -> None:
    """Hold a manifest against itself, and against what is known without it.

    known: fields and their values: the corpus and its split, the tokenizer (digest, vocab_size), the separator
    parts: names of the sources

    Raises ValueError: names the file and the field.
    """
    for field, value in known.items():
        if manifest.get(field) != value or type(manifest[field]) is not type(value):
            _refuse(folder, field, f"must be {value!r:.200}")
    for split in SPLITS:
        _check_facts(folder, split, manifest.get(split))
    _check_files(folder, manifest, token_dtype(known["tokenizer"]["vocab_size"]).itemsize)
    if manifest.get("dtype") != token_dtype(known["tokenizer"]["vocab_size"]).str:
        _refuse(folder, "dtype", f"must be {token_dtype(known['tokenizer']['vocab_size']).str!r}")
    if manifest.get("validation_sha256") != manifest["validation"]["sha256"]:
        _refuse(folder, "validation_sha256", "must be the sha256 of the validation split")
    if type(manifest.get("num_documents")) is not int:
        _refuse(folder, "num_documents", "must be a count")
    by_part = manifest.get("parts")
    if not isinstance(by_part, dict) or by_part.keys() != set(parts):
        _refuse(folder, "parts", f"must have {', '.join(map(repr, parts))}")
    for split in SPLITS:
        for name, facts in by_part.items():
            _check_facts(folder, f"parts.{name}.{split}", facts.get(split) if isinstance(facts, dict) else None)
        for count in COUNTS:
            if sum(facts[split][count] for facts in by_part.values()) != manifest[split][count]:
                _refuse(folder, f"parts.*.{split}.{count}", "must add up to the count of the split")


def _check_facts(folder: Path, field: str, facts: Any) -> None:
    if not isinstance(facts, dict) or facts.keys() != {*COUNTS, "sha256"}:
        _refuse(folder, field, f"must have {', '.join(COUNTS)} and sha256")
    for count in COUNTS:
        if type(facts[count]) is not int or not 0 <= facts[count] < 1 << 62:
            _refuse(folder, f"{field}.{count}", "must be a count")
    if not isinstance(facts["sha256"], str) or len(facts["sha256"]) != 64:
        _refuse(folder, f"{field}.sha256", "must be 64 hex digits")


def _check_files(folder: Path, manifest: Mapping[str, Any], token_bytes: int) -> None:
    """Which files there are, and that their sizes are those of the tokens; `damage` has held them against the disk."""
    sizes = {f"{split}.bin": token_bytes * manifest[split]["tokens"] for split in SPLITS}
    flags = {f"{split}.answers.bin": manifest[split]["tokens"] for split in SPLITS}
    files = manifest.get("files")
    found = {name: facts["bytes"] for name, facts in files.items()} if isinstance(files, dict) else {}
    if found not in (sizes, sizes | flags):
        _refuse(folder, "files", f"must be {', '.join(sizes)} (and answers), of the sizes that the tokens take")


def _refuse(folder: Path, field: str, rule: str) -> NoReturn:
    raise UserError(f"{folder / MANIFEST}: {field!a:.100} {rule}; it is built again once you remove {folder}")
