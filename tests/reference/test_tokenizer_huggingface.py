"""Our merges beside those of Hugging Face `tokenizers`, trained on the same text with the same split pattern.

Both merge the most frequent pair, count every adjacency (also the overlapping ones in "aaa") and give ties to the
smallest ids. Only the ids of the 256 bytes differ: ours are the bytes' values, theirs follow the printable characters
that GPT-2 wrote for the bytes. So with the bytes renumbered the merges must be equal, one by one; without, they may
differ where counts are equal only.
"""

import argparse
import inspect
import json
import textwrap

import pytest
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer

from atomiclm.tokenizer import PATTERNS, BasicTokenizer, get_stats, merge
from atomiclm.tokenizer.patterns import split_pattern
from atomiclm.tokenizer.pretokenize import count_pretokens
from atomiclm.tokenizer.train_heap import train_heap

# Code: long runs of blanks and dashes, where counting overlaps in another way would show. And letters beyond ASCII.
CODE = inspect.getsource(argparse) + inspect.getsource(textwrap)
WORDS = "Übergrößenträger naïve café, 日本語の日本人。 Ελληνικά και ελληνικά — “quotes” … " * 3
RUNS = "".join("-=_ a"[index % 5] * (index % 23) + "\n" for index in range(300))
TEXT = CODE + WORDS + RUNS
NUM_MERGES = 1500


def byte_characters() -> list[str]:
    """What GPT-2 writes for each byte: its Latin-1 character if printable, else the next one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


CHARACTERS = byte_characters()
BYTE_OF = {character: byte for byte, character in enumerate(CHARACTERS)}
THEIR_ID = bytes(sorted(CHARACTERS).index(character) for character in CHARACTERS)  # byte -> their id


def their_merges(pattern: str) -> list[tuple[bytes, bytes]]:
    tokenizer = Tokenizer(BPE())
    split = Split(Regex(PATTERNS[pattern]), behavior="isolated")
    tokenizer.pre_tokenizer = Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = BpeTrainer(
        vocab_size=256 + NUM_MERGES, initial_alphabet=ByteLevel.alphabet(), special_tokens=[], show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    vocabulary = tokenizer.get_vocab()
    assert all(vocabulary[character] == THEIR_ID[byte] for byte, character in enumerate(CHARACTERS))
    names = sorted(vocabulary, key=vocabulary.__getitem__)
    spelled = [bytes(BYTE_OF[character] for character in name) for name in names]
    assert len(spelled) == 256 + NUM_MERGES

    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(bytes(BYTE_OF[character] for character in half) for half in pair) for pair in merges]


@pytest.fixture(scope="module", params=["gpt4", "gpt2"])
def pattern(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def theirs(pattern: str) -> list[tuple[bytes, bytes]]:
    return their_merges(pattern)


def test_merges_are_equal_with_their_numbers_for_the_bytes(pattern: str, theirs: list[tuple[bytes, bytes]]) -> None:
    pretokens = count_pretokens([TEXT], split_pattern(pattern))
    ours = train_heap({pretoken.translate(THEIR_ID): count for pretoken, count in pretokens.items()}, NUM_MERGES)

    spelling = [bytes([THEIR_ID.index(number)]) for number in range(256)]
    spelled = []
    for left, right in ours:
        spelled.append((spelling[left], spelling[right]))
        spelling.append(spelling[left] + spelling[right])
    assert spelled == theirs


@pytest.mark.one_in(2)
def test_with_our_numbers_every_difference_is_a_tie(pattern: str, theirs: list[tuple[bytes, bytes]]) -> None:
    """Replay their merges: each was a pair of the highest count, as ours are."""
    words = [(list(pretoken), count) for pretoken, count in count_pretokens([TEXT], split_pattern(pattern)).items()]
    id_of = {bytes([byte]): byte for byte in range(256)}
    for new_id, (left, right) in enumerate(theirs[:150], start=256):
        counts: dict[tuple[int, int], int] = {}
        for ids, count in words:
            get_stats(ids, counts, count)
        pair = (id_of[left], id_of[right])
        assert counts[pair] == max(counts.values())
        id_of[left + right] = new_id
        words = [(merge(ids, pair, new_id), count) for ids, count in words]


def test_the_vocabularies_are_nearly_the_same_set(pattern: str, theirs: list[tuple[bytes, bytes]]) -> None:
    ours = BasicTokenizer(256 + NUM_MERGES, pattern, special_tokens=())
    ours.train(TEXT)
    tokens = {ours.decode_bytes([token]) for token in range(256, ours.vocab_size)}
    both = tokens & {left + right for left, right in theirs}
    assert len(both) > 0.98 * NUM_MERGES
