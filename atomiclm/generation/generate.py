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


def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    sampler: Sampler,
    seed: int | Sequence[int] = 0,
    stop_tokens: Collection[int] = frozenset(),
    on_token: Callable[[int, int, Tensor], None] | None = None,
    never: Sequence[int] = (),
    compile: bool = False,
) -> list[list[int]]:
    """Continue each prompt by up to ``max_tokens`` tokens; returns the new ids of each row, the prompt left out.

    A row ends early at a token of ``stop_tokens``, which is not returned, and leaves the batch. ``on_token(row, token,
    scores)`` is called for each token as soon as it is known (for streaming), rows in order within a step; scores
    (vocab_size,) are the model's, before the sampler. Ids of ``never`` are not chosen: those that the tokenizer has no
    text for (``Tokenizer.unused_ids``). ``compile`` runs each token's pass through torch.compile, the prompts' as it
    is: the same function but for rounding, see ``docs/talk.md`` for when it pays.

    Rows share the passes through the model and nothing else: shorter prompts are padded on the left with tokens of
    another document, every row counts positions from its own beginning, and row i draws from a generator of its own
    seeded by (seed, i). What a row says therefore depends neither on the other rows (but for rounding), nor on
    ``max_tokens``, nor on the global random state, which is not touched. ``seed`` may be one a row instead: row i then
    says what it says alone under seed[i].

    Past ``model.context_length`` tokens, prompt included, a row goes on with the last half of the context as if that
    were its prompt: the cache is refilled from there, one pass of half a context every context_length / 2 tokens. A
    prompt longer than the context is cut in the same way. This holds for every position scheme.

    Raises ValueError for no or empty prompts, seeds that are not one a row, and a negative ``max_tokens``; UserError
    where torch cannot compile.
    """
    if not prompts:
        raise ValueError("prompts is empty: give at least one list of token ids")
    for index, prompt in enumerate(prompts):
        if len(prompt) == 0:
            fix = "start from the end-of-text token to write from nothing"
            raise ValueError(f"prompts[{index}] has no tokens: the first prediction needs one to follow; {fix}")
    if max_tokens < 0:
        raise UserError(f"max_tokens={max_tokens} must be 0 or more; 0 writes nothing")
    seeds = [(seed, row) for row in range(len(prompts))] if isinstance(seed, int) else [(each, 0) for each in seed]
    rows = [
        _Row(index, list(prompt), len(prompt), _generator(*seeded))
        for index, (prompt, seeded) in enumerate(zip(prompts, seeds, strict=True))
    ]
    if max_tokens == 0:
        return [[] for _ in rows]
    device = model.embedding.weight.device
    barred = torch.tensor(never, dtype=torch.int64, device=device)
    next_scores = _compiled(model) if compile else model
    with evaluating(model, compile):
        batch = rows
        cache, scores = _prefill(model, batch, max_tokens)
        for step in range(max_tokens):
            allowed = scores.index_fill(-1, barred, -torch.inf) if never else scores
            ids = sampler(allowed, [row.generator for row in batch]).to(device)
            going = []
            for place, (row, token) in enumerate(zip(batch, ids.tolist(), strict=True)):
                if token in stop_tokens:
                    continue
                going.append(place)
                row.tokens.append(token)
                if on_token is not None:
                    on_token(row.index, token, scores[place])
            if step + 1 == max_tokens or not going:
                break
            if len(going) < len(batch):  # rows that are done make room
                batch = [batch[place] for place in going]
                places = torch.tensor(going, device=device)
                ids = ids[places]
                cache.select(places)
            if cache.length == cache.max_length:
                cache, scores = _prefill(model, batch, max_tokens - step - 1)
            else:
                # The step that fills a cache is not compiled: its keys are contiguous, which would be another program.
                is_last = cache.length + 1 == cache.max_length
                scores = (model if is_last else next_scores)(ids[:, None], cache)[:, -1]
    return [row.tokens[row.prompt_length :] for row in rows]


def _prefill(model: Decoder, batch: list[_Row], tokens_to_come: int) -> tuple[KVCache, Tensor]:
    """Run what each row still sees through an empty cache: the cache, and scores (rows, vocab_size).

    The longest row has no padding, so the cache is full no later than the first row is.
    """
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
    return cache, model.logits(model.hidden(tokens, cache, documents)[:, -1])


def _compiled(model: Decoder) -> Callable[[Tensor, KVCache], Tensor]:
    """The model's pass of one token a row, compiled once for any number of rows and of cached tokens."""
    compiled = torch.compile(model, dynamic=True)

    def scores(tokens: Tensor, cache: KVCache) -> Tensor:
        try:
            found: Tensor = compiled(tokens, cache)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = f"{type(error.inner_exception).__name__}: {str(error.inner_exception).splitlines()[0]}"
            fix = "install a C++ compiler such as g++, or leave compile out"
            raise UserError(f"compile: torch cannot compile here ({reason}); {fix}") from error
        return found

    return scores


def _generator(seed: int, row: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{row}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
