"""Hugging Face's `tokenizer.json` as our tokenizer, where it says nothing that ours cannot do.

Byte-level BPE comes in a few shapes: our own, that of GPT-2 (the split is inside `ByteLevel`), that of models converted
from tiktoken (`ignore_merges`, several merges a token), and what the trainers of `tokenizers` write (special tokens
first). All of these are read, with their ids. Anything else (a normalizer, a post-processor that adds tokens, a byte
without a token) would give other ids than the file means, so it is refused by the field that says it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atomiclm.cli import UserError
from atomiclm.interop.expressions import name_in_huggingface, one_meaning
from atomiclm.interop.tiktoken import recover_merges
from atomiclm.interop.tokenizer_json import CHARACTERS, read
from atomiclm.tokenizer import PATTERNS, BasicTokenizer
from atomiclm.tokenizer.constants import MAX_VOCAB_SIZE, TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.file_format import read_bounded, read_json
from atomiclm.tokenizer.special_tokens import check_special_tokens
from atomiclm.tokenizer.tokenizer_state import TokenizerState, is_int, refuse
from atomiclm.tokenizer.train_basic import Pair

UNSET = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback")
"""Options of the model that change ids; unset is null, false, "" or 0."""


def read_tokenizer(path: Path) -> BasicTokenizer:
    """Read a `tokenizer.json`; see `tokenizer_of`.

    Raises:
        ValueError: the file is not JSON, or not a tokenizer like ours; names the file and the field.
        OSError: the file cannot be read.
    """
    return tokenizer_of(read_json(path), str(path))


def read_gpt2_files(vocab: Path, merges: Path, special_tokens: Sequence[str] = ()) -> BasicTokenizer:
    """Read the older pair of files, `vocab.json` (spelling to id) and `merges.txt` (two spellings a line).

    They do not say how text is split: it is GPT-2's way. Nor which entries of the vocabulary are special tokens.

    Raises:
        ValueError: a file is damaged, they do not fit together, or a special token is not in the vocabulary.
        OSError: a file cannot be read.
    """
    ids = read_json(vocab)
    try:
        lines = read_bounded(merges).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{merges}: not a text file ({error}); give a merges.txt") from error
    rows = [line for line in lines[lines[0].startswith("#version") :] if line]
    if not isinstance(ids, dict) or (unknown := [token for token in special_tokens if token not in ids]):
        what = f"has no {unknown[0]!r}" if isinstance(ids, dict) else "must be an object of spellings and ids"
        raise UserError(f"{vocab}: {what}; name special tokens as the vocabulary spells them")
    content = {
        "added_tokens": [{"id": ids[token], "content": token, "special": True} for token in special_tokens],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {"type": "BPE", "vocab": ids, "merges": rows},
    }
    return tokenizer_of(content, f"{vocab} with {merges}")


def tokenizer_of(content: Any, where: str) -> BasicTokenizer:
    """The tokenizer that the content of a `tokenizer.json` describes; ``where`` names it in messages.

    Raises:
        ValueError: it normalises, splits or numbers in a way that `BasicTokenizer` has not; the message says which.
    """
    try:
        return BasicTokenizer.from_state(_content(content))
    except ValueError as error:
        raise UserError(f"{where}: {error}; only byte-level BPE that atomiclm can say exactly is read") from error


def _content(content: Any) -> TokenizerState:
    if not isinstance(content, dict):
        refuse("model", "is missing, this is no tokenizer.json")
    for field in ("normalizer", "truncation", "padding"):
        if content.get(field) is not None:
            refuse(field, "must be null")
    if not _adds_nothing(content.get("post_processor")):
        refuse("post_processor", "must add no tokens")
    if content.get("decoder") is not None and _type_of(content["decoder"]) != "ByteLevel":
        refuse("decoder", "must be ByteLevel")
    model = content.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":  # GPT-2's own file names no type
        refuse("model.type", "must be BPE")
    for option in UNSET:
        if model.get(option):
            refuse(f"model.{option}", "must not be set")
    whole_pretokens = model.get("ignore_merges", False)
    if type(whole_pretokens) is not bool:
        refuse("model.ignore_merges", "must be true or false")
    special_tokens = _special_tokens(content.get("added_tokens", []))
    byte_ids, merges, merge_ids = _vocabulary(model.get("vocab"), model.get("merges"), special_tokens)
    return TokenizerState(
        pattern=_pattern(content.get("pre_tokenizer")),
        target_vocab_size=1 + max((*byte_ids, *merge_ids, *special_tokens.values())),
        special_tokens=special_tokens,
        merges=merges,
        byte_ids=byte_ids,
        merge_ids=merge_ids,
        tie_break=None,
        whole_pretokens=whole_pretokens,
        trained_on=None,
    )


def _type_of(part: Any) -> Any:
    return part.get("type") if isinstance(part, dict) else None


def _adds_nothing(post_processor: Any) -> bool:
    """Whether it leaves ids alone: `ByteLevel` touches offsets only, and transformers writes a template of nothing."""
    if _type_of(post_processor) == "Sequence":
        parts = post_processor.get("processors")
        return isinstance(parts, list) and all(
            _type_of(part) != "Sequence" and part is not None and _adds_nothing(part) for part in parts
        )
    if _type_of(post_processor) == "TemplateProcessing":
        return post_processor.get("special_tokens") == {}
    return post_processor is None or _type_of(post_processor) == "ByteLevel"


def _pattern(pre_tokenizer: Any) -> str:
    """The regular expression by which it splits."""
    is_sequence = _type_of(pre_tokenizer) == "Sequence"
    parts = pre_tokenizer.get("pretokenizers") if is_sequence else [pre_tokenizer]
    types = [_type_of(part) for part in parts] if isinstance(parts, list) else []
    if types not in (["ByteLevel"], ["Split", "ByteLevel"]):
        refuse("pre_tokenizer", "must be ByteLevel, or Split and ByteLevel")
    byte_level = parts[-1]
    if byte_level.get("add_prefix_space", True) is not False:
        refuse("pre_tokenizer", "'add_prefix_space' must be false")
    splits_too = byte_level.get("use_regex", True)
    if len(parts) == 1:
        return PATTERNS["gpt2" if splits_too else "none"]
    split = parts[0]
    pattern = split.get("pattern")
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    if splits_too or not isinstance(expression, str):
        refuse("pre_tokenizer", "must split once, by a regular expression")
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
    normalized: set[bool] = set()
    ids: set[int] = set()
    for token in added_tokens:
        spelling = token.get("content") if isinstance(token, dict) else None
        if not isinstance(spelling, str) or spelling in special_tokens:
            refuse("added_tokens", f"each must have a 'content' of its own, not {token!r:.80}")
        if not is_int(token.get("id")) or not 0 <= token["id"] < MAX_VOCAB_SIZE or token["id"] in ids:
            refuse("added_tokens", f"{spelling!r:.80} must have an id of its own, from 0 to {MAX_VOCAB_SIZE - 1}")
        plain = not any(token.get(key) for key in ("single_word", "lstrip", "rstrip"))
        if not plain or token.get("special") is not True:
            refuse("added_tokens", f"{spelling!r:.80} must be plain and special")
        normalized.add(bool(token.get("normalized")))
        special_tokens[spelling] = token["id"]
        ids.add(token["id"])
    try:
        check_special_tokens(list(special_tokens))
    except ValueError as error:
        refuse("added_tokens", str(error))
    # Nothing is normalized here, but those that would be are looked for after all the others, whatever their length.
    if len(normalized) > 1:
        refuse("added_tokens", "'normalized' must be the same for all")
    return special_tokens


type Vocabulary = tuple[tuple[int, ...], list[Pair], tuple[int, ...]]
"""Ids of the bytes, merges as pairs of token numbers, ids of the merges."""


def _vocabulary(vocab: Any, merges: Any, special_tokens: Mapping[str, int]) -> Vocabulary:
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
