"""From prompts to texts: the settings they are drawn by, and what is known of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atomiclm.generation.alternatives import Choice, choice_of
from atomiclm.generation.generate import generate
from atomiclm.generation.sampler import Sampler
from atomiclm.model import Decoder
from atomiclm.tokenizer import END_OF_TEXT, IncrementalDecoder, Tokenizer


@dataclass(frozen=True)
class Settings(Sampler):
    """A sampler, how long texts are and how many, and how many alternatives to each token are noted.

    Raises ValueError: a setting breaks its rule, which the message names.
    """

    temperature: float = 0.8
    max_tokens: int = 200
    samples: int = 1
    seed: int = 1
    alternatives: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("max_tokens", 0), ("samples", 1), ("alternatives", 0)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name}={value} must be {least} or more")


@dataclass(frozen=True)
class Text:
    """A prompt's continuation.

    stop              "end_of_text": the model ended it; "max_tokens": it was cut off
    log_probability   of its tokens together, in nats, by the model: without temperature and filters
    """

    prompt: str
    text: str
    tokens: list[int]
    seed: int
    stop: str
    log_probability: float
    choices: list[Choice]


class Writer:
    """Continues prompts by a model, compiled or not; an empty prompt is the start of a document."""

    def __init__(self, model: Decoder, tokenizer: Tokenizer, compile: bool = False) -> None:
        self.model = model
        self.compile = compile
        self.tokenizer = tokenizer
        self._end_of_text = tokenizer.special_tokens[END_OF_TEXT]
        self._unused = tokenizer.unused_ids(model.vocab_size)

    def encode(self, prompt: str) -> list[int]:
        """The ids that the model is given for a prompt."""
        return self.tokenizer.encode(prompt) or [self._end_of_text]

    def write(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: Settings,
        on_text: Callable[[str], None] | None = None,
    ) -> list[Text]:
        """Continue prompt i under seeds[i], all in one batch; each text is what it is alone (but for rounding).

        ``on_text(piece)`` gets the text of a single prompt as it is drawn. ``settings.seed`` and ``samples`` are not
        read.
        """
        choices: list[list[Choice]] = [[] for _ in prompts]
        log_probabilities = [0.0] * len(prompts)
        unused = torch.tensor(self._unused, dtype=torch.int64)
        decoder = IncrementalDecoder(self.tokenizer)

        def note(row: int, token: int, scores: Tensor) -> None:
            if on_text is not None:
                on_text(decoder.push(token))
            scores = scores.detach().to("cpu", torch.float64)
            log_probabilities[row] += scores.log_softmax(-1)[token].item()
            if settings.alternatives:
                drawn = settings.probabilities(scores.index_fill(-1, unused, -torch.inf)[None])[0]
                choices[row].append(choice_of(token, scores.softmax(-1), drawn, settings.alternatives, self._text_of))

        tokens = generate(
            self.model,
            [self.encode(prompt) for prompt in prompts],
            settings.max_tokens,
            sampler=settings,
            seed=seeds,
            stop_tokens=frozenset([self._end_of_text]),
            on_token=note,
            never=self._unused,
            compile=self.compile,
        )
        if on_text is not None:
            on_text(decoder.finish())
        return [
            Text(
                prompts[row],
                self.tokenizer.decode(ids),
                ids,
                seeds[row],
                "max_tokens" if len(ids) == settings.max_tokens else "end_of_text",
                log_probabilities[row],
                choices[row],
            )
            for row, ids in enumerate(tokens)
        ]

    def _text_of(self, token: int) -> str:
        return "" if token in self._unused else self.tokenizer.decode([token])
