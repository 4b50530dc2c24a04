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
    seeded by (seed, i). What a row says therefore depends neither on the other rows (but for rounding), nor on
    ``max_tokens``, nor on the global random state, which is not touched.

    Past ``model.context_length`` tokens, prompt included, a row goes on with the last half of the context as if that
    were its prompt: the cache is refilled from there, one pass of half a context every context_length / 2 tokens. A
    prompt longer than the context is cut in the same way. This holds for every position scheme.

    Raises ValueError for no or empty prompts and for a negative ``max_tokens``.
    """
    if not prompts:
        raise ValueError("prompts is empty: give at least one list of token ids")
    for index, prompt in enumerate(prompts):
        if len(prompt) == 0:
            fix = "start from the end-of-text token to write from nothing"
            raise ValueError(f"prompts[{index}] has no tokens: the first prediction needs one to follow; {fix}")
    if max_tokens < 0:
        raise UserError(f"max_tokens={max_tokens} must be 0 or more; 0 writes nothing")
    rows = [_Row(index, list(prompt), len(prompt), _generator(seed, index)) for index, prompt in enumerate(prompts)]
    if max_tokens == 0:
        return [[] for _ in rows]
    device = model.embedding.weight.device
    barred = torch.tensor(never, dtype=torch.int64, device=device)
    with evaluating(model):
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
                break
            if cache.length == cache.max_length:
                batch, cache, scores = _prefill(model, batch, max_tokens - step - 1)
            else:
                scores = model(torch.tensor(chosen, device=device)[:, None], cache)[:, -1]
    return [row.tokens[row.prompt_length :] for row in rows]


def _prefill(model: Decoder, rows: list[_Row], tokens_to_come: int) -> tuple[list[_Row], KVCache, Tensor]:
    """Run what each unfinished row still sees through an empty cache: those rows, the cache, scores (rows, vocab_size).

    The longest row has no padding, so the cache is full no later than the first row is.
    """
    batch = [row for row in rows if not row.finished]
    for row in batch:
        if len(row.tokens) - row.start > model.context_length:
            row.start = len(row.tokens) - max(1, model.context_length // 2)
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
