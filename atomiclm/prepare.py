"""`atomiclm prepare data=... tokenizer=...`: train the tokenizer and write the token shards, nothing else.

Training does this by itself when it has to; this command does it ahead of time, for a cluster or out of curiosity.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from atomiclm.cli import report
from atomiclm.config.app import run_app
from atomiclm.config.run import read_config
from atomiclm.tracking import Console

if TYPE_CHECKING:
    from atomiclm.data import Progress

REPORT_BYTES = 1 << 20
"""At most this much validation text is looked at to report on the vocabulary."""


class Stages:
    """Hands progress on and times each stage, for the figures at the end."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._begun: dict[str, float] = {}
        self._ended: dict[str, tuple[float, int]] = {}

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        now = time.perf_counter()
        self._begun.setdefault(stage, now)
        self._ended[stage] = (now, done_bytes)
        self._progress(stage, done_bytes, total_bytes)

    def lines(self) -> Iterator[str]:
        """One line a stage that had work to do; what the cache already held took none."""
        for stage, (ended, num_bytes) in self._ended.items():
            if num_bytes:
                seconds = max(ended - self._begun[stage], 1e-9)
                yield f"{stage:18} {num_bytes / 1e6:9,.2f} MB  {seconds:7.2f} s  {num_bytes / 1e6 / seconds:7.1f} MB/s"


def main() -> None:
    """Run the command."""
    run_app(prepare)


def prepare(config: DictConfig) -> None:
    """Prepare the corpus that `config` describes and say what came of it."""
    # Only now: numpy and the compiler of the kernels come with them.
    from atomiclm.config.load import prepare_corpus, vocabulary_note
    from atomiclm.tokenizer import BasicTokenizer
    from atomiclm.tokenizer.report import describe

    values = read_config(config).values
    stages = Stages(Console().progress)
    corpus = prepare_corpus(values, stages)
    lines: list[str] = []
    for part in corpus.parts:
        if part.name:
            lines.append(f"{part.name}: {part.weight:.1%} of the training samples")
        for name, split in (("train", part.train), ("validation", part.validation)):
            rate = split.num_bytes / (split.num_tokens - split.num_documents)
            lines.append(
                f"{name:11} {split.num_documents:,} documents  {split.num_bytes:,} bytes  {split.num_tokens:,} tokens  "
                f"{rate:.3f} bytes/token"
            )
        held_out = corpus.manifest["parts"][part.name]["validation"]
        lines[-1] += f"  sha256 {held_out['sha256'][:16]}"
    for name, bits in corpus.anchors.items():
        lines.append(f"{name:11} {bits:.4f} bits per byte")
    lines += stages.lines()
    tokenizer = corpus.tokenizer
    lines.append(vocabulary_note(values, corpus) or f"vocabulary  {tokenizer.vocab_size:,} ids")
    if isinstance(tokenizer, BasicTokenizer) and tokenizer.merges:
        lines += describe(tokenizer, corpus.raw_bytes("validation", REPORT_BYTES))
    lines.append(f"shards      {corpus.folder}")
    report(lines, {"shards": str(corpus.folder), "anchors": corpus.anchors, **corpus.manifest})


if __name__ == "__main__":
    main()
