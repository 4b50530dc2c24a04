"""What a token costs when a model writes: time, the memory of its cache, and how much of the memory's speed is used."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from atomiclm.evaluation.protocol import Conditions, Described, EvaluationProtocol, Measured, Subject
from atomiclm.model import Decoder
from atomiclm.model.components import evaluating


@dataclass(frozen=True)
class Decode(EvaluationProtocol):
    """Prefill and steps of one token a row, for each batch size and context, on random tokens, as ``generate`` runs.

    device, device_name: where
    batch_sizes: rows decoded together
    contexts: tokens that a row has at the last step; None: a quarter of the context and all of it
    steps: so many tokens are timed one by one, of which the median counts

        ms_per_token             of one row at the longest context: the figure to set against quality
        prefill_ms/8x256         all tokens of 8 rows of 256 but the last steps, in one pass
        ms_per_token/8x256       one step: a token of every row
        cache_bytes/8x256        keys and values of all rows
        bandwidth_used/8x256     share of the memory's measured speed, were every weight that a token needs and all
                                 that is cached read once a step

    On a CPU time is what its threads spent on average, in which other processes do not count. Figures belong to the
    device and its threads, and to no text.
    """

    name = "decode"

    device: torch.device
    device_name: str
    batch_sizes: Sequence[int] = (1, 8, 32)
    contexts: Sequence[int] | None = None
    steps: int = 16

    def describe(self, conditions: Conditions) -> Described:
        """By the machine, and what is written on it."""
        length = conditions.context_length
        contexts = sorted(self.contexts or {max(2, length // 4), max(2, length)})
        compared = {
            "revision": self.revision,
            "batch_sizes": list(self.batch_sizes),
            "contexts": contexts,
            "steps": self.steps,
            "device": self.device_name,
            "threads": torch.get_num_threads() if self.device.type == "cpu" else 0,
        }
        return Described(self.name, compared, {"context_length": length, "precision": "float32"})

    def measure(self, subject: Subject, conditions: Conditions) -> Measured:
        contexts: list[int] = self.describe(conditions).compared["contexts"]
        rate = _bytes_per_second(self.device)
        figures, notes = dict[str, float](), list[str]()
        for context in contexts:
            if refusal := subject.refusal(context):
                notes.append(f"a context of {context}: {refusal}")
                continue
            for rows in self.batch_sizes:
                prefill, step, cached = self._timed(subject, rows, context)
                shape = f"{rows}x{context}"
                read = _weight_bytes(subject.model) + cached
                figures |= {
                    f"prefill_ms/{shape}": 1e3 * prefill,
                    f"ms_per_token/{shape}": 1e3 * step,
                    f"cache_bytes/{shape}": cached,
                    f"bandwidth_used/{shape}": read / step / rate,
                }
        if alone := figures.get(f"ms_per_token/1x{contexts[-1]}"):
            figures = {"ms_per_token": alone, "gigabytes_per_second": rate / 1e9, **figures}
        return Measured(figures, notes=notes)

    def _timed(self, subject: Subject, rows: int, context: int) -> tuple[float, float, int]:
        """Seconds of the prefill, seconds of a step, and bytes of the cache."""
        model, steps = subject.model, min(self.steps, context - 1)
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(model.vocab_size, (rows, context), generator=generator).to(subject.device)
        prompt, rest = tokens[:, :-steps], tokens[:, -steps:]
        with evaluating(model):
            model(prompt[:, :1], model.make_cache(rows, 1))  # what a first pass sets up is no part of the figure
            cache = model.make_cache(rows, context)
            prefill = _seconds(self.device, lambda: model.logits(model.hidden(prompt, cache)[:, -1]))
            taken = [_seconds(self.device, partial(model, token, cache)) for token in rest.split(1, dim=1)]
        return prefill, statistics.median(taken), cache.num_bytes


def _seconds(device: torch.device, work: Callable[[], Any]) -> float:
    on_cpu = device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    _wait(device)
    begun = clock()
    work()
    _wait(device)
    return (clock() - begun) / (torch.get_num_threads() if on_cpu else 1)


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _bytes_per_second(device: torch.device) -> float:
    """At which memory is read: the best of a few sums of numbers that no cache holds."""
    numbers = torch.ones((1 << 25) if device.type == "cpu" else (1 << 29), device=device)
    return numbers.nbytes / min(_seconds(device, numbers.sum) for _ in range(6))


def _weight_bytes(model: Decoder) -> int:
    """Of the weights that a token needs; of a table of embeddings that is no head as well, one row."""
    table = model.embedding.weight
    unread = 0 if model.head.tie_embeddings else table.numel()
    return (model.num_active_parameters() - unread) * table.element_size()
