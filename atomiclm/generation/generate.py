"""The decoding loop: prefill the cache with the prompts, then one token a row and step."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atomiclm.cli import UserError
from atomiclm.generation.sampler import Sampler
from atomiclm.model.cache import KVCache
from atomiclm.model.components import evaluating
from atomiclm.model.decoder import Decoder

_PADDING_DOCUMENT = -1


@dataclass
class _Row:
    """One text being written."""

    index: int
    tokens: list[int]
    prompt_length: int
    generator: torch.Generator
    start: int = 0  # first token the model still sees
    finished: bool = False

    def trim(self, context_length: int) -> None:
        """Once the model would see more than ``context_length`` tokens, go on with the last half of that."""
        if len(self.tokens) - self.start > context_length:
            self.start = len(self.tokens) - max(1, context_length // 2)


def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    sampler: Sampler,
    seed: int = 0,
    stop_tokens: Collection[int] = frozenset(),
    on_token: Callable[[int, int], None] | None = None,
    never: Sequence[int] = (),
) -> list[list[int]]:
    """Continue each prompt by up to ``max_tokens`` tokens; returns the new ids of each row, the prompt left out.

    A row ends early at a token of ``stop_tokens``, which is not returned. ``on_token(row, token)`` is called for each
    token as soon as it is known (for streaming), rows in order within a step. Ids of ``never`` are not chosen: those
    that the tokenizer has no text for (``Tokenizer.unused_ids``).

    Rows share the passes through the model and nothing else: shorter prompts are padded on the left with tokens of
    another document, every row counts positions from its own beginning, and row i draws from a generator of its own
    seeded by (seed, i). What a row says therefore does not depend on the other rows (their number and lengths change
    the order of floating-point sums, so scores agree to rounding, and only a tie within it could tell). Nor does it
    depend on ``max_tokens``: a higher limit only adds tokens. Neither does it depend on the global random state, which
    is not touched. The model is put in evaluation mode and put back.

    Past ``model.context_length`` tokens, prompt included, a row goes on with the last half of the context as if that
    were its prompt: the cache is filled anew from there, so a long text costs one pass of half a context every
    context_length / 2 tokens. A prompt longer than the context is cut in the same way. This holds for every position
    scheme, also those that could go on.

    Raises ValueError for no or empty prompts and for a negative ``max_tokens``.
    """
    if not prompts:
        raise ValueError("prompts is empty: give at least one list of token ids")
    for index, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise ValueError(
                f"prompts[{index}] has no tokens: the first prediction needs one to follow; "
                "start from the end-of-text token to write from nothing"
            )
    if max_tokens < 0:
        raise UserError(f"max_tokens={max_tokens} must be 0 or more")
    rows = [_Row(index, list(prompt), len(prompt), _generator(seed, index)) for index, prompt in enumerate(prompts)]
    if max_tokens > 0:
        with evaluating(model):
            _write(model, rows, max_tokens, sampler, frozenset(stop_tokens), on_token, never)
    return [row.tokens[row.prompt_length :] for row in rows]


def _write(
    model: Decoder,
    rows: list[_Row],
    max_tokens: int,
    sampler: Sampler,
    stop_tokens: frozenset[int],
    on_token: Callable[[int, int], None] | None,
    never: Sequence[int],
) -> None:
    barred = torch.tensor(never, dtype=torch.int64, device=model.embedding.weight.device)
    batch, cache, scores = _prefill(model, rows, max_tokens)
    for step in range(max_tokens):
        chosen = sampler(scores.index_fill(-1, barred, -torch.inf), [row.generator for row in batch]).tolist()
        for row, token in zip(batch, chosen, strict=True):
            if row.finished:
                continue
            row.finished = token in stop_tokens
            if not row.finished:
                row.tokens.append(token)
                if on_token is not None:
                    on_token(row.index, token)
        if step + 1 == max_tokens or all(row.finished for row in batch):
            return
        if cache.length == cache.max_length:
            batch, cache, scores = _prefill(model, batch, max_tokens - step - 1)
        else:
            new = torch.tensor(chosen, device=model.embedding.weight.device)[:, None]
            scores = model(new, cache)[:, -1]


def _prefill(model: Decoder, rows: list[_Row], tokens_to_come: int) -> tuple[list[_Row], KVCache, Tensor]:
    """Run what each unfinished row still sees through an empty cache: those rows, the cache, scores (rows, vocab_size).

    The longest row has no padding, so the cache is full no later than the first row is.
    """
    batch = [row for row in rows if not row.finished]
    for row in batch:
        row.trim(model.context_length)
    seen = [row.tokens[row.start :] for row in batch]
    longest = max(map(len, seen))
    padding = [longest - len(tokens) for tokens in seen]
    device = model.embedding.weight.device
    # The token in the padding is any valid one: nothing looks at it.
    tokens = torch.tensor([[0] * pad + part for pad, part in zip(padding, seen, strict=True)], device=device)
    documents = None
    if any(padding):
        columns = torch.arange(longest, device=device)
        starts = torch.tensor(padding, device=device)[:, None]
        documents = torch.where(columns < starts, _PADDING_DOCUMENT, 0)
    # The last token chosen is never fed back.
    cache = model.make_cache(len(batch), min(model.context_length, longest + tokens_to_come - 1))
    # Only the last position is scored: the head is the largest product of all.
    return batch, cache, model.logits(model.hidden(tokens, cache, documents)[:, -1])


def _generator(seed: int, row: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{row}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
