"""Tokenizer files: ours, Hugging Face's (new and old), tiktoken's. `tests/tokenizer/test_hostile_files.py` has more."""

import base64
import json
import random
from collections.abc import Iterator
from pathlib import Path

from fuzz.family import Family, Make, Read, anything, written
from fuzz.mutate import mutated_bytes, mutated_tree, spelled

from atomiclm.interop import PretrainedTokenizer, read_gpt2_files, read_tokenizer
from atomiclm.interop.tiktoken import from_ranks, ranks_of, read_ranks, write_ranks
from atomiclm.interop.tokenizer_json import tokenizer_json
from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer
from atomiclm.tokenizer.tokenizer_state import sha256_of

TEXTS = ("hug the hands, then 123", "\r\n  \U0001f600é\u3000<|endoftext|>")


def works(tokenizer: BasicTokenizer) -> None:
    """What was accepted must give every text back."""
    for text in TEXTS:
        assert tokenizer.decode_bytes(tokenizer.encode(text)) == text.encode()
    assert len(tokenizer.token_bytes()) == tokenizer.vocab_size


def ours(path: Path) -> None:
    works(BasicTokenizer.load(path))


def theirs(path: Path) -> None:
    works(read_tokenizer(path))


def ranks(path: Path) -> None:
    found = read_ranks(path)
    try:
        tokenizer = from_ranks(found, "gpt4", {END_OF_TEXT: 5000})
    except ValueError as error:  # it got a value, not a file; what calls it names the path
        raise ValueError(f"{path}: {error}") from error
    works(tokenizer)


def older_pair(folder: Path) -> None:
    works(read_gpt2_files(folder / "vocab.json", folder / "merges.txt"))


def pretrained(path: Path) -> None:
    pattern = "gpt2" if path.suffix == ".tiktoken" else None
    works(PretrainedTokenizer(str(path), 301 if pattern is None else 300, pattern))


class Tokenizers(Family):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        trained = BasicTokenizer(300)
        trained.train("hug hugs hugging ungloved hands, the theme of then " * 3)
        trained.save(folder / "ours.json")
        write_ranks(ranks_of(trained), folder / "r.tiktoken")
        self.ours = (folder / "ours.json").read_bytes()
        self.theirs = json.dumps(tokenizer_json(trained)).encode()
        self.ranks = (folder / "r.tiktoken").read_bytes()
        model = tokenizer_json(trained)["model"]
        self.vocab = {spelling: number for spelling, number in model["vocab"].items() if spelling != END_OF_TEXT}
        self.merges = "#version: 0.2\n" + "".join(
            f"{merge if isinstance(merge, str) else ' '.join(merge)}\n" for merge in model["merges"]
        )
        (folder / "theirs.json").write_bytes(self.theirs)
        (folder / "vocab.json").write_text(json.dumps(self.vocab))
        (folder / "merges.txt").write_text(self.merges)
        for read, name in ((ours, "ours.json"), (theirs, "theirs.json"), (ranks, "r.tiktoken"), (older_pair, "")):
            read(folder / name)

    def shaped(self) -> Iterator[tuple[str, Make]]:
        yield from anything("ours.json", ours)
        yield from anything("tokenizer.json", theirs)
        yield from anything("ranks.tiktoken", ranks)
        yield from anything("pretrained.json", pretrained)
        yield from anything("pretrained.tiktoken", pretrained)
        for name in ("vocab.json", "merges.txt"):
            for what, make in anything(name, lambda path: older_pair(path.parent)):
                yield what, lambda folder, name=name, make=make: self._beside(folder, name, make)
        fields = json.loads(self.ours)
        for key in fields:
            for number, value in enumerate(([], {}, None, -1, 2**63, "x" * 70_000, [[[]]] * 10, {"a": {"b": []}})):
                yield f"{key} is {number}", written("ours.json", _signed(fields | {key: value}), ours)

    def _beside(self, folder: Path, name: str, make: Make) -> Read:
        """The other file of the older pair, sound, beside what `make` makes."""
        if name == "merges.txt":
            (folder / "vocab.json").write_text(json.dumps(self.vocab))
        else:
            (folder / "merges.txt").write_text(self.merges)
        return make(folder)

    def drawn(self, rng: random.Random, folder: Path) -> Read:
        match rng.randrange(8):
            case 0:
                return written("ours.json", mutated_bytes(rng, self.ours), ours)(folder)
            case 1 | 2:
                tree = mutated_tree(rng, json.loads(self.ours))
                return written("ours.json", _signed(tree) if rng.random() < 0.9 else spelled(rng, tree), ours)(folder)
            case 3:
                return written("tokenizer.json", mutated_bytes(rng, self.theirs), theirs)(folder)
            case 4 | 5:
                return written("tokenizer.json", spelled(rng, mutated_tree(rng, json.loads(self.theirs))), theirs)(
                    folder
                )
            case 6:
                return written("r.tiktoken", _mutated_ranks(rng, self.ranks), ranks)(folder)
        (folder / "vocab.json").write_bytes(spelled(rng, mutated_tree(rng, self.vocab)))
        (folder / "merges.txt").write_bytes(mutated_bytes(rng, self.merges.encode()))
        return lambda: older_pair(folder)


def _signed(fields) -> bytes:
    """As someone would write it who knows the format and computes the hash anew."""
    if not isinstance(fields, dict):
        return json.dumps(fields).encode()
    fields = {key: value for key, value in fields.items() if key != "sha256"}
    return json.dumps(fields | {"sha256": sha256_of(fields)}).encode()


def _mutated_ranks(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.5:
        return mutated_bytes(rng, data)
    lines = data.splitlines(keepends=True)
    for _ in range(rng.randint(1, 3)):
        token = base64.b64encode(rng.randbytes(rng.choice((0, 1, 2, 3, 50, 5000))))
        lines[rng.randrange(len(lines))] = b"%b %d\n" % (token, rng.choice((0, 1, 299, 300, 2**21, 2**31)))
    return b"".join(lines)
