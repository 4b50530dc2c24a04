r"""Our tokenizer as Hugging Face's `tokenizer.json`; `tokenizer_json_import.py` is the way back.

The file says: cut the text at the special tokens, then by the split pattern, write each byte as a printable character
(`CHARACTERS`), and merge neighbours by rank. `tokenizers` then gives our ids for every text, with one
difference of habit: it always recognises special tokens in a text, which here is `encode(text, allowed_special="all")`.

A vocabulary there is a map from spellings to ids, so two ids of one spelling cannot be said. Byte-pair encoding can
learn such a pair (`ab c` and `a bc`), though it hardly ever does; export refuses then.
"""

from typing import Any

from atomiclm.cli import UserError
from atomiclm.interop.expressions import one_meaning
from atomiclm.tokenizer import END_OF_TEXT, PATTERNS, BasicTokenizer
from atomiclm.tokenizer.tokenizer_state import repeated_token, spell_tokens
from atomiclm.tokenizer.train_basic import PRINTABLE, byte_order

CHARACTERS = [
    chr(byte if byte in PRINTABLE else 0x100 + position - len(PRINTABLE))
    for byte, position in enumerate(byte_order("huggingface"))
]
"""The character of each byte: its own in Latin-1 where that is printable, else the next from U+0100 on.

Source: Radford et al. (2019), "GPT-2", `bytes_to_unicode` in its encoder; Hugging Face's `ByteLevel` does the same.
"""

_BYTES = {character: byte for byte, character in enumerate(CHARACTERS)}


def spell(token: bytes) -> str:
    """The bytes as the printable characters that stand for them."""
    return "".join(CHARACTERS[byte] for byte in token)


def read(spelling: str) -> bytes:
    """The bytes that these characters stand for; the inverse of `spell`."""
    return bytes(_BYTES[character] for character in spelling)


def tokenizer_json(tokenizer: BasicTokenizer) -> dict[str, Any]:
    """The content of `tokenizer.json`.

    Raises:
        ValueError: the split pattern may mean something else in the other engine; two ids have one spelling; or a
            special token is spelled like an ordinary token, or like bytes.
    """
    ids = (*tokenizer.byte_ids, *tokenizer.merge_ids)
    if twice := repeated_token(tokenizer.merges):
        first, second = (ids[number] for number in twice)
        raise UserError(
            f"tokenizer: ids {first} and {second} both stand for {tokenizer.decode_bytes([first])!r}, learned by "
            "different merges; tokenizer.json has one id a spelling, so train the tokenizer with another vocab_size"
        )
    spellings = [spell(token) for token in spell_tokens(tokenizer.merges)]
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
        # Without merges every byte is a token, however the text is cut. It is a sequence of one, because gigatoken 0.10
        # takes `ByteLevel` alone for GPT-2's split whatever it says.
        return {"type": "Sequence", "pretokenizers": [_byte_level(use_regex=False)]}
    if pattern not in PATTERNS and not one_meaning(pattern):
        raise UserError(
            f"tokenizer.pattern: {pattern!r:.80} is not one of {', '.join(PATTERNS)}, and another engine may read it "
            "with another meaning (see interop/expressions.py); train with one of these"
        )
    expression = {"Regex": PATTERNS.get(pattern, pattern)}
    split = {"type": "Split", "pattern": expression, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _byte_level(use_regex=False)]}


def tokenizer_config(tokenizer: BasicTokenizer, max_length: int) -> dict[str, Any]:
    """The content of `tokenizer_config.json`, which `AutoTokenizer` reads; the end of text also begins one."""
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
    }
    if END_OF_TEXT in tokenizer.special_tokens:
        config |= {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
    return config
