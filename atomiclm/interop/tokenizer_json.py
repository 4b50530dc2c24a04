r"""Our tokenizer as Hugging Face's `tokenizer.json`, and theirs as ours where it says nothing that ours cannot do.

The file says: cut the text at the special tokens, then by the split pattern, write each byte as a printable character
(`CHARACTERS`), and merge neighbours by rank. `tokenizers` then gives our ids for every text; it always recognises
special tokens, which here is `encode(text, allowed_special="all")`.

Byte-level BPE comes in a few shapes: our own, that of GPT-2 (the split is inside `ByteLevel`), that of models converted
from tiktoken (`ignore_merges`, several merges a token), and what the trainers of `tokenizers` write (special tokens
first). All are read, with their ids. Anything else (a normalizer, a byte without a token) is refused by its field.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atomiclm.atomic_io import read_file, read_json
from atomiclm.cli import UserError
from atomiclm.interop.expressions import name_in_huggingface, one_meaning
from atomiclm.interop.tiktoken import recover_merges, refuse_repeated_token
from atomiclm.tokenizer import END_OF_TEXT, PATTERNS, BasicTokenizer
from atomiclm.tokenizer.constants import MAX_FILE_BYTES, TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.tokenizer_state import TokenizerState, is_int, refuse, spell_tokens
from atomiclm.tokenizer.train_basic import PRINTABLE, Pair, byte_order

CHARACTERS = [
    chr(byte if byte in PRINTABLE else 0x100 + position - len(PRINTABLE))
    for byte, position in enumerate(byte_order("huggingface"))
]
"""The character of each byte (Radford et al., 2019, "GPT-2", `bytes_to_unicode`): its own where that is printable."""

UNSET = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback")
"""Options of the model that change ids; unset is null, false, "" or 0."""

_FIELDS = {  # what the fields of a `TokenizerState` are called in the file
    "pattern": "pre_tokenizer", "special_tokens": "added_tokens", "byte_ids": "model.vocab", "merges": "model.merges",
    "whole_pretokens": "model.ignore_merges",
}  # fmt: skip

_BYTES = {character: byte for byte, character in enumerate(CHARACTERS)}


def read(spelling: str) -> bytes:
    """The bytes that these characters stand for."""
    return bytes(_BYTES[character] for character in spelling)


def tokenizer_json(tokenizer: BasicTokenizer) -> dict[str, Any]:
    """The content of `tokenizer.json`; a ValueError where it cannot say the tokenizer."""
    ids = (*tokenizer.byte_ids, *tokenizer.merge_ids)
    refuse_repeated_token(tokenizer, "tokenizer.json")
    spellings = [token.decode("latin-1").translate(CHARACTERS) for token in spell_tokens(tokenizer.merges)]
    vocabulary = dict(sorted(zip(spellings, ids, strict=True), key=lambda entry: entry[1]))
    for token in tokenizer.special_tokens:
        if token in vocabulary:
            raise UserError(
                f"tokenizer.special_tokens: {token!r} is also how tokenizer.json spells the ordinary token "
                f"{vocabulary[token]}, whose id it would get there; give the special token another spelling"
            )
        if set(token) <= set(CHARACTERS) and read(token) != token.encode():
            raise UserError(
                f"tokenizer.special_tokens: each character of {token!r} is also how tokenizer.json spells a byte, so "
                f"it would be decoded as {read(token)!r} there; give the special token another spelling"
            )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token, "content": spelling, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for spelling, token in tokenizer.special_tokens.items()
        ],
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(tokenizer),
        "post_processor": None,
        "decoder": _byte_level(use_regex=False),
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": tokenizer.whole_pretokens,
            "vocab": vocabulary | tokenizer.special_tokens,  # or they would be given the ids after the highest
            "merges": [[spellings[left], spellings[right]] for left, right in tokenizer.merges],
        },
    }  # fmt: skip


def _byte_level(use_regex: bool) -> dict[str, Any]:
    """Bytes to printable characters, after GPT-2's split if `use_regex`."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _pre_tokenizer(tokenizer: BasicTokenizer) -> dict[str, Any]:
    """How text is split, said in the way that other readers of such files know best."""
    pattern = tokenizer.pattern
    if pattern == "gpt2":
        return _byte_level(use_regex=True)
    if pattern == "none" or (not tokenizer.merges and pattern not in PATTERNS):
        # A sequence of one, because gigatoken 0.10 takes `ByteLevel` alone for GPT-2's split whatever it says.
        return {"type": "Sequence", "pretokenizers": [_byte_level(use_regex=False)]}
    if pattern not in PATTERNS and not one_meaning(pattern):
        raise UserError(
            f"tokenizer.pattern: {pattern!r:.80} is not one of {', '.join(PATTERNS)}, and another engine may read it "
            "with another meaning; train with one of these"
        )
    expression = {"Regex": PATTERNS.get(pattern, pattern)}
    split = {"type": "Split", "pattern": expression, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _byte_level(use_regex=False)]}


def tokenizer_config(tokenizer: BasicTokenizer, max_length: int) -> dict[str, Any]:
    """The content of `tokenizer_config.json`, which `AutoTokenizer` reads; the end of text also begins one."""
    ends = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT} if END_OF_TEXT in tokenizer.special_tokens else {}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        **ends,
    }


def read_tokenizer(path: Path) -> BasicTokenizer:
    """Read a `tokenizer.json`; a ValueError names file and field where it is not a tokenizer like ours."""
    return tokenizer_of(read_json(path, MAX_FILE_BYTES), str(path))


def read_gpt2_files(vocab: Path, merges: Path, special_tokens: Sequence[str] = ()) -> BasicTokenizer:
    """Read the older pair of files, `vocab.json` (spelling to id) and `merges.txt` (two spellings a line).

    They do not say how text is split, which is GPT-2's way, nor which entries of the vocabulary are special tokens.
    """
    ids = read_json(vocab, MAX_FILE_BYTES)
    try:
        lines = read_file(merges, MAX_FILE_BYTES).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{merges}: not a text file ({error}); give a merges.txt") from error
    rows = [line for line in lines[lines[0].startswith("#version") :] if line]
    for token in special_tokens:
        if not isinstance(ids, dict) or token not in ids:
            raise UserError(f"{vocab}: has no {token!r}; name special tokens as the vocabulary spells them")
    content = {
        "added_tokens": [{"id": ids[token], "content": token, "special": True} for token in special_tokens],
        "pre_tokenizer": _byte_level(use_regex=True),
        "model": {"type": "BPE", "vocab": ids, "merges": rows},
    }
    return tokenizer_of(content, f"{vocab} with {merges}")


def tokenizer_of(content: Any, where: str) -> BasicTokenizer:
    """The tokenizer that the content of a `tokenizer.json` describes; `where` names it in messages."""
    try:
        return BasicTokenizer.from_state(_state(content))
    except ValueError as error:
        # The vocabulary has no order, so an entry of `byte_ids` has no index there.
        message = re.sub(
            r"^field '(byte_ids\[\d+\]|\w+)",
            lambda field: f"field '{_FIELDS.get(field[1].partition('[')[0], field[1])}",
            str(error),
        )
        raise UserError(f"{where}: {message}; only byte-level BPE that atomiclm can say exactly is read") from error


def _state(content: Any) -> TokenizerState:
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":  # GPT-2's own file names no type
        refuse("model.type", "must be BPE")
    for field in ("normalizer", "truncation", "padding"):
        if content.get(field) is not None:
            refuse(field, "must be null")
    if not _adds_nothing(content.get("post_processor")):
        refuse("post_processor", "must add no tokens")
    decoder = content.get("decoder")
    if decoder is not None and (not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel"):
        refuse("decoder", "must be ByteLevel")
    for option in UNSET:
        if model.get(option):
            refuse(f"model.{option}", "must not be set")
    special_tokens = _special_tokens(content.get("added_tokens", []))
    merges, ids = _vocabulary(model.get("vocab"), model.get("merges"), special_tokens)
    return TokenizerState(
        pattern=_pattern(content.get("pre_tokenizer")),
        target_vocab_size=1 + max((*ids, *special_tokens.values())),
        special_tokens=special_tokens,
        merges=merges,
        byte_ids=tuple(ids[:TOKENIZER_BASE_LENGTH]),
        merge_ids=tuple(ids[TOKENIZER_BASE_LENGTH:]),
        tie_break=None,
        whole_pretokens=model.get("ignore_merges", False),
        trained_on=None,
    )


def _steps(part: Any, key: str) -> list[Any]:
    """What a sequence does one after the other; of anything else, itself."""
    is_sequence = isinstance(part, dict) and part.get("type") == "Sequence" and isinstance(part.get(key), list)
    return part[key] if is_sequence else [part]


def _adds_nothing(post_processor: Any) -> bool:
    """Whether it leaves ids alone: `ByteLevel` touches offsets only, and transformers writes a template of nothing."""
    if post_processor is None:
        return True
    for part in _steps(post_processor, "processors"):
        match part:
            case {"type": "ByteLevel"}:
                pass
            case {"type": "TemplateProcessing", "special_tokens": dict(special_tokens)} if not special_tokens:
                pass
            case _:
                return False
    return True


def _pattern(pre_tokenizer: Any) -> str:
    """The regular expression by which it splits."""
    match _steps(pre_tokenizer, "pretokenizers"):
        case [{"type": "ByteLevel", "add_prefix_space": False, **more}]:
            return PATTERNS["gpt2" if more.get("use_regex", True) else "none"]
        case [
            {"type": "Split", "pattern": {"Regex": str(expression)}, **split},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ]:
            pass
        case _:
            refuse(
                "pre_tokenizer",
                "must be ByteLevel without 'add_prefix_space', or a Split by a regular expression and then ByteLevel "
                "without 'use_regex'",
            )
    name = name_in_huggingface(expression)
    if name is None and not one_meaning(expression):
        refuse(
            "pre_tokenizer",
            f"{expression!r:.80} is none of {', '.join(PATTERNS)}, and it may mean something else in another engine",
        )
    how = (split.get("behavior"), bool(split.get("invert")))
    # Our named patterns match all of a text, so to remove what they do not match is to remove nothing.
    if how != ("Isolated", False) and not (how == ("Removed", True) and name is not None):
        refuse("pre_tokenizer", "'behavior' must be Isolated")
    return PATTERNS.get(name or "", expression)


def _special_tokens(added_tokens: Any) -> dict[str, int]:
    """Spelling and id of each added token; all of them must be plain special tokens."""
    if not isinstance(added_tokens, list):
        refuse("added_tokens", "must be a list")
    special_tokens: dict[str, int] = {}
    normalized = set()
    for token in added_tokens:
        match token:
            case {"content": str(spelling), "id": int(number), "special": True} if spelling not in special_tokens:
                special_tokens[spelling] = number
                normalized.add(bool(token.get("normalized")))
            case _:
                refuse("added_tokens", f"{token!r:.80} must be special, with an 'id', and a 'content' of its own")
        if any(token.get(key) for key in ("single_word", "lstrip", "rstrip")):
            refuse("added_tokens", f"{spelling!r:.80} must be plain, without 'single_word', 'lstrip' and 'rstrip'")
    # Nothing is normalized here, but those that would be are looked for after all the others, whatever their length.
    if len(normalized) > 1:
        refuse("added_tokens", "'normalized' must be the same for all")
    return special_tokens


def _vocabulary(vocab: Any, merges: Any, special_tokens: dict[str, int]) -> tuple[list[Pair], list[int]]:
    """Merges as pairs of token numbers, and the id of each token number.

    `vocab` has spelling to id, in any order and perhaps of special tokens too; `merges` are pairs of spellings in order
    of rank, as `["a", "b"]` or `"a b"`.
    """
    if not isinstance(vocab, dict) or not all(map(is_int, vocab.values())):
        refuse("model.vocab", "must be an object of spellings and integers")
    pairs, spellings = _pairs(merges)
    if missing := next((spelling for spelling in spellings if spelling not in vocab), None):
        if missing in _BYTES:
            refuse("model.vocab", f"must have all 256 bytes, has no {missing!r} (byte {_BYTES[missing]})")
        refuse("model.merges", f"make {missing!r:.80}, which is not in the vocabulary")
    for spelling in vocab.keys() - set(spellings):
        if spelling not in special_tokens:
            refuse("model.vocab", f"{spelling!r:.80} is neither a byte, nor made by a merge, nor an added token")
        if vocab[spelling] != special_tokens[spelling]:
            refuse("added_tokens", f"{spelling!r:.80} has another id than in the vocabulary")
    return pairs, [vocab[spelling] for spelling in spellings]


def _pairs(merges: Any) -> tuple[list[Pair], list[str]]:
    """One pair of token numbers for each token in order of rank, and the spelling of every token."""
    if not isinstance(merges, list):
        refuse("model.merges", "must be a list")
    halves = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    spellings = dict.fromkeys(CHARACTERS)
    for index, merge in enumerate(halves):
        match merge:
            case [str(left), str(right)] if left and right:
                spellings[left + right] = None
            case _:
                refuse(f"model.merges[{index}]", f"must be two spellings, is {merge!r:.80}")
    number_of = {spelling: number for number, spelling in enumerate(spellings)}
    pairs = []
    for index, (left, right) in enumerate(halves):
        if left not in number_of or right not in number_of:
            refuse(f"model.merges[{index}]", f"{left!r:.40} {right!r:.40} joins what nothing makes")
        pairs.append((number_of[left], number_of[right]))
    if len(spellings) == TOKENIZER_BASE_LENGTH + len(pairs):
        return pairs, list(spellings)
    # More merges than tokens: converters from tiktoken list all the ways to halve each token, token by token. Which way
    # text ever takes follows from the ranks.
    made = [number_of[left + right] for left, right in halves]
    try:
        recovered = recover_merges(map(read, [*spellings][TOKENIZER_BASE_LENGTH:]))
    except ValueError:
        recovered = []
    ways = set(zip(made, pairs, strict=True))
    if not recovered or made != sorted(made) or not set(enumerate(recovered, start=TOKENIZER_BASE_LENGTH)) <= ways:
        refuse("model.merges", "make a token more than once, and not as a list of all the ways to make each")
    return recovered, list(spellings)
