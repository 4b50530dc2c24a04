"""Under what conditions a model is looked at: text, context, documents apart or not, precision."""

from dataclasses import dataclass
from typing import Any

from atomiclm.data import CorpusPart, PreparedCorpus, ValidationWindows
from atomiclm.user_error import UserError


@dataclass(frozen=True, eq=False)
class Conditions:
    """Everything about an evaluation that is neither the model's weights nor the protocol's own settings.

    corpus: whose validation split
    context_length: tokens of a window
    trained_length: tokens of a window in training; longer windows are multiples of it
    separate_documents: attention and positions stay within documents, as `trainer.separate_documents`
    precision: of matrix products, "float32" or "bfloat16"
    source: which source of a mixture alone; "" = all of them
    """

    corpus: PreparedCorpus[Any]
    context_length: int
    trained_length: int
    separate_documents: bool = False
    precision: str = "float32"
    source: str = ""

    def __post_init__(self) -> None:
        names = [part.name for part in self.corpus.parts if part.name]
        if self.source and self.source not in names:
            known = f"the mixture has {', '.join(names)}" if names else "the corpus is no mixture"
            raise UserError(f"source: no source {self.source!r}; {known}")

    @property
    def parts(self) -> tuple[CorpusPart, ...]:
        """The sources looked at."""
        return tuple(part for part in self.corpus.parts if self.source in ("", part.name))

    @property
    def validation_sha256(self) -> str:
        """Of the UTF-8 bytes looked at: the same text is the same text, whichever corpus it stands in."""
        return self.parts[0].validation.sha256 if self.source else str(self.corpus.manifest["validation_sha256"])

    @property
    def validation_bytes(self) -> int:
        """How many those are."""
        return sum(part.validation.num_bytes for part in self.parts)

    @property
    def tokenizer_sha256(self) -> str:
        """Of everything that decides how the text becomes tokens."""
        return self.corpus.tokenizer.digest()

    def text(self) -> dict[str, Any]:
        """What must agree for figures on this text to meet."""
        return {"validation_sha256": self.validation_sha256, "separate_documents": self.separate_documents}

    def recorded(self) -> dict[str, Any]:
        """What may differ, and is written down."""
        return {
            "context_length": self.context_length,
            "precision": self.precision,
            "tokenizer_sha256": self.tokenizer_sha256,
            **({"source": self.source} if self.source else {}),
        }

    def windows(
        self, part: CorpusPart, context_length: int, batch_size: int, stride: int | None = None
    ) -> ValidationWindows:
        """Windows over a source's validation split."""
        separator = part.validation.separator if self.separate_documents else None
        return ValidationWindows(part.validation.tokens, context_length, batch_size, separator, stride)
