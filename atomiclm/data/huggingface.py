"""Datasets of the Hugging Face Hub, or in a folder of this machine, through the `datasets` library."""

import functools
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from atomiclm.data.source import Document, SourceError, Span, TextSource

SPAN_ROWS = 10_000
BATCH_ROWS = 100


@dataclass(eq=False)
class HuggingFace(TextSource):
    """One split of a dataset, each row a document.

    name: on the Hub, such as roneneldan/TinyStories; or a folder of this machine, of Parquet or JSON lines
    revision: the commit of the dataset, or a tag; null for a folder. A branch moves, so a run could not be repeated
    config: one of the dataset's configurations; null: its only one
    split: of the dataset, the text of which is split again by `validation_fraction`
    column: that holds the text; rows without any are passed over
    streaming: read while downloading, and keep nothing; else all of it is downloaded first, once
    validation_fraction: share of the rows held out, by a hash of their content

    Nothing that comes with a dataset is executed: the library reads data files only, from version 4 on.
    """

    name: str
    revision: str | None = None
    config: str | None = None
    split: str = "train"
    column: str = "text"
    streaming: bool = False
    validation_fraction: float = 0.01

    def describe(self) -> str:
        config = f", {self.config}" if self.config else ""
        return f"{self.name}{f'@{self.revision:.12}' if self.revision else ''}{config}, {self.split}"

    def source_faults(self) -> list[tuple[str, str]]:
        """What is known without a network."""
        if importlib.util.find_spec("datasets") is None:
            return [("name", "needs the package datasets: pip install 'atomiclm[huggingface]'")]
        if not self._is_folder and self.revision in (None, "main", "master"):
            rule = "a branch moves, and with it the text of the run; give a commit or a tag of the dataset"
            return [("revision", f"{self.revision or 'null'} names no fixed text of {self.name}: {rule}")]
        return []

    def spans(self) -> Sequence[Span]:
        """When streaming each file of the dataset, else of SPAN_ROWS rows."""
        data = self.load()
        if self.streaming:
            return [RowSpan(self, index, index + 1) for index in range(data.num_shards)]
        starts = range(0, max(1, len(data)), SPAN_ROWS)
        return [RowSpan(self, first, min(first + SPAN_ROWS, len(data))) for first in starts]

    def documents(self) -> Iterator[Document]:
        for span in self.spans():
            yield from span.documents()

    def stamp(self) -> str | None:
        if self._is_folder or not re.fullmatch("[0-9a-f]{40}", self.revision or ""):
            return None
        return hashlib.sha256(repr((type(self).__qualname__, *astuple(self)[:-1])).encode()).hexdigest()

    @property
    def _is_folder(self) -> bool:
        return Path(self.name).expanduser().is_dir()

    def load(self) -> Any:
        """The library's own object. Raises SourceError."""
        if faults := self.source_faults():
            raise SourceError(*faults[0])
        name = str(Path(self.name).expanduser()) if self._is_folder else self.name
        return _loaded(name, self.config, self.split, self.column, self.revision, self.streaming)


@dataclass(eq=False)
class RowSpan:
    """Rows `first` to `past` - 1 of a dataset; when streaming those of its file number `first`."""

    source: HuggingFace
    first: int
    past: int
    left_out: int = 0

    def documents(self) -> Iterator[Document]:
        data = self.source.load()
        try:
            if self.source.streaming:
                rows, number = data.shard(num_shards=data.num_shards, index=self.first), 0
            else:
                rows, number = data.select(range(self.first, self.past)), self.first
            for batch in rows.iter(batch_size=BATCH_ROWS):
                for text in batch[self.source.column]:
                    name = f"{self.source.name} {f'file {self.first} ' if self.source.streaming else ''}row {number}"
                    number += 1
                    if not isinstance(text, str):
                        fix = "name a column of text, or drop that row"
                        raise SourceError(
                            "column", f"{name}: {self.source.column!r} holds {type(text).__name__}; {fix}"
                        )
                    if text:
                        yield Document(name, text)
        except SourceError:
            raise
        except Exception as error:
            raise _failure(self.source.name, error) from error


@functools.lru_cache(maxsize=1)
def _loaded(name: str, config: str | None, split: str, column: str, revision: str | None, streaming: bool) -> Any:
    import datasets  # takes a second

    datasets.disable_progress_bars()
    try:
        data = datasets.load_dataset(name, config, split=split, revision=revision, streaming=streaming)
    except Exception as error:
        raise _failure(name, error) from error
    if column not in (columns := data.column_names or [column]):
        raise SourceError("column", f"{name} has no column {column!r}; its columns: {columns!r:.200}")
    return data.select_columns([column])


def _failure(name: str, error: Exception) -> SourceError:
    reason = f"{type(error).__name__}: {' '.join(str(error).split())!s:.300}"
    fix = (
        "check name, config, split and revision. Without a network give a folder with its files, or the cache of a "
        "machine that has it (HF_HOME)"
    )
    return SourceError("name", f"{name} cannot be read ({reason}); {fix}")
