"""What a run looks at while it trains, its validation, samples and the baselines of its corpus, and what it reports."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from atomiclm.evaluation import BitsPerByte, Conditions, Evaluation, Recall, Subject
from atomiclm.evaluation.baselines import NGRAM_TRAIN_BYTES, baselines, notes
from atomiclm.generation import Sampler, generate
from atomiclm.tokenizer import END_OF_TEXT
from atomiclm.tracking import read_summary, write_summary
from atomiclm.training.step import Interrupted

if TYPE_CHECKING:
    from atomiclm.run import Run


def validation_row(subject: Subject, conditions: Conditions) -> dict[str, Any]:
    """Return the figures by name; of a mixture also those of each source, its name behind a slash.

    validation/loss             nats per token over all sources
    validation/bits_per_byte    all bits over all bytes: every byte of the split is predicted once
    validation/accuracy         share of the answer tokens predicted, where a source knows its answers
    validation/separate_documents   True where documents were kept apart, as in the training: another protocol, whose
                                figures are not those of windows that run over document borders
    validation/protocol         `Described.comparability`: figures meet where it is the same text
    """
    figures = dict(BitsPerByte().measure(subject, conditions).figures)
    if any(part.validation.answers is not None and part.validation.answers.any() for part in conditions.parts):
        figures |= Recall().measure(subject, conditions).figures
    row: dict[str, Any] = {f"validation/{name}": value for name, value in figures.items()}
    if conditions.separate_documents:
        row["validation/separate_documents"] = True
    row["validation/protocol"] = BitsPerByte().describe(conditions).comparability
    return row


class RunEvaluation:
    """Evaluates the model of a run, in whatever state its training is, and reports what came of it.

    When a stop of the run is requested, validation and sampling are given up with `Interrupted`, for the hook to be
    called again when the run goes on.
    """

    def __init__(self, settings: Evaluation, run: "Run") -> None:
        self.settings = settings
        self.run = run
        self.anchors: dict[str, float] = {}
        self.decode_tokens_per_second: float | None = None

    @cached_property
    def conditions(self) -> Conditions:
        """Those of every validation of the run."""
        run = self.run
        length, separate_documents = run.model.context_length, run.trainer.separate_documents
        return Conditions(run.corpus, length, length, separate_documents, run.precision)

    def validate(self) -> dict[str, Any]:
        """Return the figures of the whole validation split, as `validation_row` names them."""
        model = self.run.model
        tokens_per_batch = self.settings.batch_size * model.context_length
        divide = self.run.processes.scored
        subject = Subject(model, self._forward, self.run.runtime.device, tokens_per_batch, divide)
        return validation_row(subject, self.conditions)

    @cached_property
    def _model_forward(self) -> Callable[..., Tensor]:
        return self.run.trainer.forward(self.run.model, self.run.runtime)

    def _forward(self, tokens: Tensor, *, documents: Tensor | None = None) -> Tensor:
        self._go_on()
        self.run.console.still("validating")
        return self.run.processes.enter(lambda: self._model_forward(tokens, documents=documents))

    def _go_on(self, *_: object) -> None:
        if self.run.is_to_stop():
            raise Interrupted

    def sample(self) -> list[dict[str, str]]:
        """Return samples that go on from the prompt, and note how fast they were drawn."""
        tokenizer, settings = self.run.corpus.tokenizer, self.settings
        end_of_text = tokenizer.special_tokens[END_OF_TEXT]
        prompt = tokenizer.encode(settings.sample_prompt) or [end_of_text]
        begun = time.perf_counter()
        draw = partial(
            generate,
            self.run.model,
            [prompt] * settings.samples,
            settings.sample_tokens,
            Sampler(settings.sample_temperature),
            seed=self.run.config.values["seed"],
            stop_tokens=frozenset([end_of_text]),
            on_token=self._go_on,
            never=tokenizer.unused_ids(self.run.model.vocab_size),
        )
        drawn = self.run.processes.enter(draw)
        # Of all samples at once, with their caches, the prompts' prefill included: a figure to compare arms by.
        self.decode_tokens_per_second = round(sum(map(len, drawn)) / (time.perf_counter() - begun), 1)
        texts = [tokenizer.decode([token for token in ids if token != end_of_text]) for ids in drawn]
        return [{"prompt": settings.sample_prompt, "text": text} for text in texts]

    def compute_anchors(self) -> None:
        """Set `anchors`: bits per byte of simpler models on this validation split, by name.

        Entropies of a synthetic source are known; n-grams and compressors are computed once a corpus, if the settings
        say so, and saved beside its shards.
        """
        corpus, console = self.run.corpus, self.run.console
        self.anchors = dict(corpus.anchors)
        if not self.settings.anchors:
            return
        cached = corpus.folder / "anchors.json"
        if cached.is_file():
            with suppress(ValueError):  # damaged: computed again
                self.anchors |= read_summary(cached)
                return
        console.say("computing the anchors: n-grams and compressors on the same validation bytes (once a corpus)")
        found = baselines(
            corpus.raw_bytes("train", NGRAM_TRAIN_BYTES),
            corpus.raw_bytes("validation"),
            lambda name: console.still(f"computing the anchors: {name}"),
        )
        write_summary(cached, found)
        self.anchors |= found

    def figures(self) -> dict[str, Any]:
        """The figures of the run as it stands, for its summary."""
        state = self.run.state
        figures: dict[str, Any] = {**state.position(), **state.latest}
        if "train/tokens_per_second" in state.latest and state.seconds:
            figures["tokens_per_second"] = round(state.tokens / state.seconds, 1)
        if self.decode_tokens_per_second is not None:
            figures["decode_tokens_per_second"] = self.decode_tokens_per_second
        if state.best is not None:
            figures["best"] = {"step": state.best[0], "bits_per_byte": state.best[1]}
        if state.bad_steps:
            figures["bad_steps"] = state.bad_steps
        return {**figures, "anchors": self.anchors}

    def scores(self) -> Iterator[str]:
        """Yield lines with the final figures of the validation."""
        latest, num_bytes = self.run.state.latest, self.run.corpus.validation.num_bytes
        if "validation/loss" in latest:
            yield (
                f"validation  {latest['validation/bits_per_byte']:.4f} bits per byte, "
                f"{latest['validation/loss']:.4f} nats per token, over {num_bytes:,} bytes"
            )
        if "validation/accuracy" in latest:
            yield f"            {latest['validation/accuracy']:.1%} of the answers right"

    def report(self) -> Iterator[str]:
        """Yield the lines at the end of a single run: its scores, the anchors and where it is."""
        yield from self.scores()
        path = self.run.folder.path
        if self.anchors:
            values = "  ".join(f"{name} {value:.3f}" for name, value in self.anchors.items())
            yield f"anchors     {values}  (bits per byte on the same bytes)"
            if self.settings.anchors:
                yield from (f"            {note}" for note in notes(self.run.corpus.train.num_bytes))
        yield f"run         {path}"

    def next_commands(self) -> Iterator[str]:
        """Yield what to type next, at the end of a single run."""
        path = self.run.folder.path
        yield f'next        atomiclm generate {shlex.quote(str(path))} --prompt "..."'
        yield f"            atomiclm compare {shlex.quote(str(path.parent))}"
