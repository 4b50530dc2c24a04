"""Copying in context: does a model repeat a string it has seen once, so many tokens ago?"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from atomiclm.cli import UserError
from atomiclm.data import Batch
from atomiclm.data.shards import Ids
from atomiclm.data.synthetic import Draws
from atomiclm.evaluation.protocol import Conditions, EvaluationProtocol, Measured, Subject
from atomiclm.model import cross_entropy


class Induction(EvaluationProtocol):
    """A string of random tokens, validation text, and the string again.

    string_tokens: L, tokens of the string: drawn without replacement from all that stand for text, the same at every
        distance, from a generator of its own (seed)
    distances: tokens from the first occurrence to the second, at least L; None: powers of two from L to four times the
        context trained on. Between the two lies validation text, a stretch for each string
    num_strings: how many
    seed: which

        <|endoftext|> s_1 ... s_L  (distance - L tokens of text)  s_1 ... s_L

    Of the second occurrence s_2 ... s_L count: that the string begins again nobody can know.

    copy_accuracy/256    share of them that are the likeliest next token
    copy_loss/256        nats per token
    loss_drop/256        the loss of the same tokens at their first occurrence, less that: what looking back gained

    The test for induction heads of Olsson et al. 2022, arXiv 2209.11895; there the repetition follows at once, here
    the distance varies. Sequences that the model cannot read (learned positions) are left out and noted.
    """

    name = "induction"
    counts_tokens = True
    independent_of = "separate_documents"  # a row is one document

    def __init__(
        self, string_tokens: int = 32, distances: Sequence[int] | None = None, num_strings: int = 64, seed: int = 0
    ) -> None:
        if string_tokens < 2:
            raise ValueError(f"string_tokens: {string_tokens} leave nothing to predict; give at least 2")
        if num_strings < 1:
            raise ValueError(f"num_strings: {num_strings} is not positive; give at least 1")
        if distances is not None and (not distances or min(distances) < string_tokens):
            rule = f"must each be at least string_tokens={string_tokens}, where the second occurrence follows at once"
            raise ValueError(f"distances: {[*distances]} {rule}")
        self.string_tokens = string_tokens
        self.distances = None if distances is None else tuple(sorted(set(distances)))
        self.num_strings = num_strings
        self.seed = seed

    def settings(self, conditions: Conditions) -> dict[str, Any]:
        powers = (1 << power for power in range((4 * conditions.trained_length).bit_length()))
        distances = self.distances or [power for power in powers if power >= self.string_tokens]
        vocabulary = len(_text_tokens(conditions))
        if vocabulary < self.string_tokens:
            raise UserError(f"string_tokens: the tokenizer has {vocabulary} tokens of text; give at most that many")
        if not distances:
            rule = f"are too many for a context of {conditions.trained_length}; give fewer, or set --distances"
            raise UserError(f"string_tokens: {self.string_tokens} {rule}")
        needed, available = distances[-1] - self.string_tokens, len(_text(conditions))
        if needed > available:
            raise UserError(
                f"distances: {distances[-1]} needs {needed} tokens of validation text between the two strings, and "
                f"there are {available}; give at most {available + self.string_tokens}"
            )
        return {**vars(self), "distances": list(distances)}

    def measure(self, subject: Subject, conditions: Conditions) -> Measured:
        figures, notes = dict[str, float](), list[str]()
        tokens, text = _text_tokens(conditions), _text(conditions)
        generators = [Draws("Induction", self.seed, n) for n in range(self.num_strings)]
        strings = tokens[np.asarray([draws.distinct(len(tokens), self.string_tokens) for draws in generators])]
        begin = np.full((len(strings), 1), conditions.parts[0].validation.separator, dtype=np.int64)
        for distance in self.settings(conditions)["distances"]:
            if refusal := subject.refusal(distance + self.string_tokens):
                notes.append(f"{distance} tokens back: {refusal}")
                continue
            between = distance - self.string_tokens
            # Stretches evenly over the text, which overlap where it is short.
            begins = np.linspace(0, len(text) - between, len(strings), endpoint=False).astype(np.int64)
            filling = text[begins[:, None] + np.arange(between)]
            sequences = np.concatenate([begin, strings, filling, strings], axis=1)
            figures |= self._copied(subject, sequences, distance)
        return Measured(figures, notes=notes)

    def _copied(self, subject: Subject, sequences: Ids, distance: int) -> dict[str, float]:
        """The figures at one distance. sequences: (num_strings, 1 + distance + string_tokens)."""
        first, again, right = 0.0, 0.0, 0
        once = slice(1, self.string_tokens)  # targets of s_2 ... s_L at the first occurrence
        twice = slice(distance + 1, distance + self.string_tokens)
        num_rows = subject.rows(sequences.shape[1] - 1)
        rows = [np.ascontiguousarray(sequences[n : n + num_rows]) for n in range(0, len(sequences), num_rows)]
        for _, logits, targets in subject.logits(Batch(part[:, :-1], part[:, 1:]) for part in rows):
            nats = cross_entropy(logits, targets, reduction="none").cpu().double()
            first += float(nats[:, once].sum())
            again += float(nats[:, twice].sum())
            right += int((logits[:, twice].argmax(-1) == targets[:, twice]).sum())
        count = len(sequences) * (self.string_tokens - 1)
        return {
            f"copy_accuracy/{distance}": right / count,
            f"copy_loss/{distance}": again / count,
            f"loss_drop/{distance}": first / count - again / count,
        }


def _text_tokens(conditions: Conditions) -> Ids:
    """The ids that stand for text."""
    return np.flatnonzero(np.asarray(conditions.corpus.tokenizer.token_bytes()) > 0).astype(np.int64)


def _text(conditions: Conditions) -> Ids:
    """The validation text without separators, one source after the other."""
    streams = [np.asarray(part.validation.tokens) for part in conditions.parts]
    separator = conditions.parts[0].validation.separator
    return np.concatenate([stream[stream != separator] for stream in streams]).astype(np.int64)
