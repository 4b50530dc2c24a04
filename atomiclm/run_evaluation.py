"""What a run looks at while it trains: its validation figures, samples of its text, and the baselines of its corpus."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from atomiclm.data import PreparedCorpus
from atomiclm.evaluation import Evaluation, validation_row
from atomiclm.evaluation.baselines import NGRAM_TRAIN_BYTES, baselines
from atomiclm.generation import Sampler, generate
from atomiclm.model import Decoder
from atomiclm.tokenizer import END_OF_TEXT
from atomiclm.tracking import Console, read_summary, write_summary
from atomiclm.training import Runtime, Trainer
from atomiclm.training.step import Interrupted


@dataclass(eq=False)
class RunEvaluation:
    """Evaluates the model of a run.

    Args:
        settings: on what.
        model: in whatever state its training is.
        corpus: whose validation split it is scored on.
        trainer, runtime: precision, device and compilation are those of the training.
        seed: of the samples.
        console: shown that it goes on.
        stop_requested: where true, validation and sampling are given up with `Interrupted`, for the hook to be called
            again when the run goes on.
    """

    settings: Evaluation
    model: Decoder
    corpus: PreparedCorpus
    trainer: Trainer
    runtime: Runtime
    seed: int
    console: Console
    stop_requested: Callable[[], bool]
    decode_tokens_per_second: float | None = None

    def __post_init__(self) -> None:
        self._model_forward = self.trainer.forward(self.model, self.runtime)

    def validate(self) -> dict[str, Any]:
        """Return the figures of the whole validation split, as `validation_row` names them."""
        return validation_row(
            self.model,
            self._forward,
            self.corpus,
            self.settings.batch_size,
            self.runtime.device,
            self.trainer.separate_documents,
        )

    def _forward(self, tokens: Tensor, *, documents: Tensor | None = None) -> Tensor:
        self._go_on()
        self.console.still("validating")
        return self._model_forward(tokens, documents=documents)

    def _go_on(self, *_: int) -> None:
        if self.stop_requested():
            raise Interrupted

    def sample(self) -> list[dict[str, str]]:
        """Return samples that go on from the prompt, and note how fast they were drawn."""
        tokenizer, settings = self.corpus.tokenizer, self.settings
        end_of_text = tokenizer.special_tokens[END_OF_TEXT]
        prompt = tokenizer.encode(settings.sample_prompt) or [end_of_text]
        begun = time.perf_counter()
        drawn = generate(
            self.model,
            [prompt] * settings.samples,
            settings.sample_tokens,
            Sampler(settings.sample_temperature),
            seed=self.seed,
            stop_tokens=frozenset([end_of_text]),
            on_token=self._go_on,
            never=tokenizer.unused_ids(self.model.vocab_size),
        )
        # Of all samples at once, with their caches, the prompts' prefill included: a figure to compare arms by.
        self.decode_tokens_per_second = round(sum(map(len, drawn)) / (time.perf_counter() - begun), 1)
        texts = [tokenizer.decode([token for token in ids if token != end_of_text]) for ids in drawn]
        return [{"prompt": settings.sample_prompt, "text": text} for text in texts]

    def anchors(self) -> dict[str, float]:
        """Return bits per byte of simpler models on this validation split, by name.

        Entropies of a synthetic source are known; n-grams and compressors are computed, if the settings say so, once a
        corpus, and saved beside its shards.
        """
        known = dict(self.corpus.anchors)
        if not self.settings.anchors:
            return known
        cached = self.corpus.folder / "anchors.json"
        if cached.is_file():
            with suppress(ValueError):  # damaged: computed again
                return known | read_summary(cached)
        self.console.say("computing the anchors: n-grams and compressors on the same validation bytes (once a corpus)")
        found = baselines(
            self.corpus.raw_bytes("train", NGRAM_TRAIN_BYTES),
            self.corpus.raw_bytes("validation"),
            lambda name: self.console.still(f"computing the anchors: {name}"),
        )
        write_summary(cached, found)
        return known | found
