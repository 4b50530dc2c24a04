"""A vocabulary that somebody else learned, as the tokenizer of an experiment."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from atomiclm.atomic_io import read_json
from atomiclm.cli import UserError
from atomiclm.interop.tiktoken import from_ranks, read_ranks
from atomiclm.interop.tokenizer_json import tokenizer_of
from atomiclm.tokenizer import END_OF_TEXT, BasicTokenizer
from atomiclm.tokenizer.constants import MAX_FILE_BYTES
from atomiclm.tokenizer.tokenizer_state import FORMAT, TokenizerState, read_tokenizer_file


class PretrainedTokenizer(BasicTokenizer):
    """A tokenizer read from a file; training it reads nothing and changes nothing.

    The ids are those of the file. Where it has no `<|endoftext|>`, which stands between documents here, this becomes
    one more id after all others.

    Args:
        path: a `tokenizer.json`, ours or Hugging Face's; or a `.tiktoken` file of ranks.
        vocab_size: ids of the file and `<|endoftext|>`. It must be right, and is asked for because the sizes of a model
            are known before any file is read; given a wrong one, the message says the right one.
        pattern: how text is split, for a `.tiktoken` file, which does not say it: "gpt2", "cl100k" or "o200k".
        special_tokens: the special tokens of a `.tiktoken` file, spelling and id, as its publisher lists them.
        algorithm: what does the work; see `BasicTokenizer`.
        sha256: digest of the tokenizer that is wanted; None: whichever is there.

    Raises:
        ValueError: the file cannot be read, is damaged or says what we cannot do, or an argument does not fit it.
    """

    def __init__(
        self,
        path: str,
        vocab_size: int,
        pattern: str | None = None,
        special_tokens: dict[str, int] | None = None,
        algorithm: Literal["compiled", "heap", "basic"] = "compiled",
        sha256: str | None = None,
    ) -> None:
        content = read_pretrained(path, pattern, special_tokens)
        if vocab_size != content.vocab_size:
            raise UserError(
                f"vocab_size: {vocab_size} is not the size of {path}, which has {content.vocab_size} ids with "
                f"{END_OF_TEXT}; set tokenizer.vocab_size={content.vocab_size}"
            )
        super().__init__(pattern=content.pattern, special_tokens=(), algorithm=algorithm)
        self._use(content)
        if sha256 not in (None, self.digest()):
            raise UserError(f"sha256: {path} is another tokenizer, of digest {self.digest()}; bring the file back")

    def train_from_iterator(
        self, chunks: Iterable[str | bytes | tuple[str | bytes, int]], num_bytes: int | None = None
    ) -> None:
        """Nothing: it has been trained. `chunks` are not read."""

    def settings(self) -> dict[str, Any]:
        """What decides training, which is none: the digest says it all."""
        return {"class": type(self).__name__, "digest": self.digest(), "special_tokens": list(self.special_tokens)}


def read_pretrained(
    path: str, pattern: str | None = None, special_tokens: dict[str, int] | None = None
) -> TokenizerState:
    """Read a file as `PretrainedTokenizer` does, with `<|endoftext|>`; UserError: it cannot be read."""
    try:
        content = _read(Path(path).expanduser(), pattern, special_tokens)
    except OSError as error:
        raise UserError(f"path: {path} cannot be read ({error.strerror}); give the path of a file") from error
    if END_OF_TEXT in content.special_tokens:
        return content
    return replace(
        content,
        special_tokens=content.special_tokens | {END_OF_TEXT: content.vocab_size},
        target_vocab_size=content.vocab_size + 1,
    )


def _read(path: Path, pattern: str | None, special_tokens: dict[str, int] | None) -> TokenizerState:
    if path.suffix == ".tiktoken":
        if pattern is None:
            raise UserError(f"pattern: {path} does not say how text is split; set gpt2, cl100k or o200k")
        return from_ranks(read_ranks(path), pattern, special_tokens or {}).state()
    if pattern is not None or special_tokens is not None:
        name = "special_tokens" if pattern is None else "pattern"
        raise UserError(f"{name}: {path} says it itself; leave it out (null)")
    fields = read_json(path, MAX_FILE_BYTES)
    if isinstance(fields, dict) and fields.get("format") == FORMAT:
        return read_tokenizer_file(path)
    return tokenizer_of(fields, str(path)).state()
