"""Byte-level byte-pair encoding with a split pattern and special tokens."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self

from atomiclm.tokenizer.base import AllowedSpecial, Tokenizer
from atomiclm.tokenizer.bpe_ops import Pair
from atomiclm.tokenizer.constants import BLOCK_CHARACTERS, END_OF_TEXT, FORMAT_VERSION, TOKENIZER_BASE_LENGTH
from atomiclm.tokenizer.encode_pretoken import PretokenCache, encode_basic, encode_heap
from atomiclm.tokenizer.file_format import TokenizerFile, read_tokenizer_file, sha256_of, write_tokenizer_file
from atomiclm.tokenizer.patterns import CUSTOM, split_pattern
from atomiclm.tokenizer.pretokens import count_pretokens, split_stream
from atomiclm.tokenizer.special import check_special_tokens, special_finder
from atomiclm.tokenizer.train_basic import train_basic
from atomiclm.tokenizer.train_heap import train_heap
from atomiclm.tokenizer.utf8 import to_bytes


class BasicTokenizer(Tokenizer):
    """Byte-pair encoding (Sennrich et al., 2016, arXiv 1508.07909) on raw bytes (Radford et al., 2019, "GPT-2").

    Ids: 0 .. 255 are the bytes, then come the merges in the order learned, then the special tokens. Text is cut at
    the special tokens, then by the pattern into pretokens; within a pretoken, neighbouring tokens are merged as was
    learned.

    Training merges, again and again, the pair of neighbours that occurs most often; among pairs of equal count the
    one with the smallest left id, among those the one with the smallest right id. It ends early when no pair is left,
    so `vocab_size` can stay below `target_vocab_size`; compare the two to notice.

    Args:
        vocab_size: ids to end up with: 256 bytes + merges + special tokens. With 256 + len(special_tokens) there are
            no merges, every byte is a token and training is a no-op that reads nothing.
        pattern: "gpt4", "gpt2", "none", or a regular expression without capturing groups (see `patterns.py`).
        special_tokens: spellings to which the last ids belong, in this order.
        algorithm: "heap", or "basic" for the plainest code that gives the same merges and ids, slowly.

    Attributes:
        target_vocab_size: the argument `vocab_size`.
        merges: the pairs in the order learned; the i-th becomes the id 256 + i.
        ranks: pair to its index in `merges`; lower ranks are merged first.

    Raises:
        ValueError: an argument breaks a rule above; the message names it and the fix.
    """

    def __init__(
        self,
        vocab_size: int = 4096,
        pattern: str = "gpt4",
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        algorithm: Literal["heap", "basic"] = "heap",
    ) -> None:
        self._special = check_special_tokens(special_tokens)
        smallest = TOKENIZER_BASE_LENGTH + len(self._special)
        if not isinstance(vocab_size, int) or isinstance(vocab_size, bool) or vocab_size < smallest:
            raise ValueError(
                f"vocab_size: {vocab_size!r} must be an integer of at least {smallest} "
                f"({TOKENIZER_BASE_LENGTH} bytes + {len(self._special)} special tokens); set it to {smallest} or more"
            )
        if algorithm not in ("heap", "basic"):
            raise ValueError(f"algorithm: {algorithm!r} is unknown; use 'heap' or 'basic'")
        self.target_vocab_size = vocab_size
        self.algorithm = algorithm
        self._split = split_pattern(pattern)
        self.pattern = self._split.text if self._split.name == CUSTOM else self._split.name
        self._use([])

    def __repr__(self) -> str:
        sizes = f"vocab_size={self.vocab_size} of {self.target_vocab_size}"
        return f"{type(self).__name__}({sizes}, pattern={self.pattern!r})"

    def _use(self, merges: Sequence[Pair]) -> None:
        """Take over learned merges and derive from them all that encoding and decoding look up."""
        self.merges: list[Pair] = list(merges)
        self.ranks: dict[Pair, int] = {pair: rank for rank, pair in enumerate(self.merges)}
        vocabulary = [bytes([value]) for value in range(TOKENIZER_BASE_LENGTH)]
        for left, right in self.merges:
            vocabulary.append(vocabulary[left] + vocabulary[right])
        self._special_ids = {token: len(vocabulary) + index for index, token in enumerate(self._special)}
        self._token_bytes = [len(token) for token in vocabulary] + [0] * len(self._special)
        vocabulary.extend(map(to_bytes, self._special))
        # A dictionary and not a list, so that -1 is unknown instead of the last id.
        self._bytes_of: dict[int, bytes] = dict(enumerate(vocabulary))
        encode_pretoken = encode_heap if self.algorithm == "heap" else encode_basic
        self._ids_of = PretokenCache(partial(encode_pretoken, ranks=self.ranks))

    @property
    def vocab_size(self) -> int:
        """Number of ids in use: 256 bytes + merges learned + special tokens."""
        return len(self._bytes_of)

    @property
    def special_tokens(self) -> dict[str, int]:
        """Spelling and id of each special token."""
        return dict(self._special_ids)

    # ------------------------------------------------------------------------------------------------------- training

    def train_from_iterator(self, chunks: Iterable[str | bytes]) -> None:
        """Learn the merges from a stream of text or bytes; see `Tokenizer.train_from_iterator`.

        Special tokens in the stream divide it and are not learned from. Bytes need not be UTF-8 (see `utf8.py`). Only
        the counts of different pretokens are held in memory.

        Raises:
            ValueError: a chunk is neither str nor bytes.
        """
        num_merges = self.target_vocab_size - TOKENIZER_BASE_LENGTH - len(self._special)
        if num_merges:
            pretokens = count_pretokens(chunks, self._split, self._special)
            learn = self._train_heap if self.algorithm == "heap" else self._train_basic
            self._use(learn(pretokens, num_merges))

    def _train_basic(self, pretokens: Mapping[bytes, int], num_merges: int) -> list[Pair]:
        """The oracle: counts all pairs anew in every round."""
        return train_basic(pretokens, num_merges)

    def _train_heap(self, pretokens: Mapping[bytes, int], num_merges: int) -> list[Pair]:
        """The default: goes only where a merge happens. Same result."""
        return train_heap(pretokens, num_merges)

    # ------------------------------------------------------------------------------------------- encoding and decoding

    def encode(self, text: str, allowed_special: AllowedSpecial = frozenset()) -> list[int]:
        """Text to ids; see `Tokenizer.encode`. Where several special tokens begin, the longest is taken."""
        if not isinstance(text, str):
            raise ValueError(
                f"text: expected str, got {type(text).__name__}; "
                f"decode bytes with .decode('utf-8', 'surrogateescape'), which keeps every byte"
            )
        finder = special_finder(self._allowed(allowed_special))
        if finder is None:
            return self._encode_ordinary(text)
        ids: list[int] = []
        position = 0
        for match in finder.finditer(text):
            ids += self._encode_ordinary(text[position : match.start()])
            ids.append(self._special_ids[match.group()])
            position = match.end()
        return ids + self._encode_ordinary(text[position:])

    def _allowed(self, allowed_special: AllowedSpecial) -> AbstractSet[str]:
        if allowed_special == "all":
            return self._special_ids.keys()
        if isinstance(allowed_special, str):
            raise ValueError(
                f"allowed_special: expected a set of tokens or 'all', got {allowed_special!r}; write a set"
            )
        if unknown := sorted(set(allowed_special) - self._special_ids.keys()):
            raise ValueError(
                f"allowed_special: {unknown} are not special tokens of this tokenizer; "
                f"name some of {list(self._special_ids)}, or build the tokenizer with more special_tokens"
            )
        return allowed_special

    def _encode_ordinary(self, text: str) -> list[int]:
        if not self.merges:
            return list(to_bytes(text))
        # In blocks, so that the pretokens of a long text are never all in memory.
        parts = (
            (text[start : start + BLOCK_CHARACTERS], start + BLOCK_CHARACTERS >= len(text))
            for start in range(0, len(text), BLOCK_CHARACTERS)
        )
        ids: list[int] = []
        for pieces in split_stream(parts, self._split):
            ids.extend(chain.from_iterable(map(self._ids_of.__getitem__, pieces)))
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Ids to the exact bytes they stand for; see `Tokenizer.decode_bytes`."""
        try:
            return b"".join(map(self._bytes_of.__getitem__, ids))
        except KeyError as error:
            raise ValueError(
                f"ids: {error.args[0]!r} is not an id of this tokenizer, whose ids are 0 to {self.vocab_size - 1}; "
                f"decode with the tokenizer that made the ids"
            ) from error

    def token_bytes(self) -> list[int]:
        """Bytes of text that each id stands for, 0 for special tokens; see `Tokenizer.token_bytes`."""
        return list(self._token_bytes)

    # ---------------------------------------------------------------------------------------------- file and identity

    def save(self, path: str | Path) -> None:
        """Write one JSON file (see `file_format.py`), atomically."""
        content = TokenizerFile(self._split.text, self.target_vocab_size, list(self._special), self.merges)
        write_tokenizer_file(Path(path), content)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file written by `save`; see `Tokenizer.load`."""
        content = read_tokenizer_file(Path(path))
        tokenizer = cls(content.target_vocab_size, content.pattern, content.special_tokens)
        tokenizer._use(content.merges)
        return tokenizer

    def settings(self) -> dict[str, Any]:
        """What decides training, beside the corpus: not `algorithm`, which changes only its speed."""
        return {
            "class": type(self).__name__,
            "format_version": FORMAT_VERSION,
            "vocab_size": self.target_vocab_size,
            "pattern": self._split.text,
            "special_tokens": list(self._special),
        }

    def digest(self) -> str:
        """SHA-256 over everything that decides encoding: equal digests, equal ids for every text."""
        return sha256_of(
            {
                "class": type(self).__name__,
                "format_version": FORMAT_VERSION,
                "pattern": self._split.text,
                "merges": self.merges,
                "special_tokens": self._special_ids,
            }
        )
